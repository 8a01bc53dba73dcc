"""``python -m benchmarks.gpu``: the first card must not be spent on a mistake that a CPU would have shown."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.gpu import bundle, rows
from benchmarks.gpu.__main__ import gpu_command
from benchmarks.gpu.bundle import PACKAGES, _sources, pinned_versions, write_bundle
from benchmarks.gpu.rows import ROWS, Options, Row, lacking, run_rows
from benchmarks.gpu.sam2 import CALL_CHUNK_FRAMES
from benchmarks.gpu.tapip3d import BATCH
from benchmarks.gpu.wilor import CALL_FRAMES
from stages.depth import moge
from stages.hands import wilor
from stages.masks.sam2 import CHUNK_FRAMES
from stages.segments import CALL_FRAMES as HANDS_CALL_FRAMES
from stages.tracks import tapip3d
from stages.tracks.tapip3d import BATCH_FRAMES

NOISE = Path(__file__).with_name("noise_worker.py")
BACKEND_WORKERS = ((moge, "MOGE_WORKER"), (tapip3d, "TAPIP3D_WORKER"), (wilor, "WORKER"))


@pytest.fixture
def options(tmp_path):
    return Options(dry=True, python=sys.executable, checkouts=None, site=None, out=tmp_path / "out")


def figures(options):
    return {row["name"]: row for row in json.loads((options.out / "figures.json").read_text())}


def test_a_dry_run_without_a_card_or_a_model_measures_the_rest_and_names_what_it_lacks(options):
    assert gpu_command(["--dry", "--minutes", "30", "--out", str(options.out)]) == 0
    found = figures(options)
    assert list(found) == [row.name for row in ROWS]
    assert {found[name]["state"] for name in ("machine", "pool: oom", "pool: mask", "vipe: memory by formula")} == {"ok"}
    assert "lacks torch" in found["limits"]["lines"][0]
    assert "no checkout of TAPIP3D" in found["tapip3d: fp32"]["lines"][0]
    assert found["pool: numbers"]["lines"] == ["only on a card"]
    assert (options.out / "table.md").read_text().count("\n") == len(ROWS) + 2


def test_a_row_that_fails_is_named_and_the_next_one_runs(options):
    broken = Row("broken", "no_such_module", (), ())
    assert run_rows([broken, ROWS[0]], options, 60) == 1
    found = figures(options)
    assert found["broken"]["state"] == "wrong"
    assert "no_such_module" in found["broken"]["lines"][-1]
    assert found["machine"]["state"] == "ok"


def test_a_row_gets_what_is_left_of_the_time_and_is_ended(options, monkeypatch):
    monkeypatch.setattr(rows, "command_of", lambda row, options: ["sh", "-c", "echo begun; exec sleep 600"])
    run_rows([Row("endless", "x", (), ()), ROWS[0]], options, 1.5)
    found = figures(options)
    assert found["endless"]["state"] == "late"
    assert found["endless"]["lines"] == ["begun"]
    assert found["machine"]["lines"] == ["no time left"]


def test_every_row_has_its_module_and_a_card_row_says_what_it_needs(options):
    for row in ROWS:
        assert (rows.ROOT / "benchmarks" / "gpu" / f"{row.module}.py").exists()
        if row.checkouts:
            assert "no checkout" in lacking(row, Options(False, sys.executable, None, None, options.out))


def stand_in(monkeypatch, module, name, folder):
    """Noise in place of the process that ``module`` starts from the file ``name``."""
    true = getattr(module, name)
    copy = folder / f"{module.__name__}-{name}"
    copy.mkdir(parents=True)
    shutil.copy(true, copy / "true.py")
    monkeypatch.setattr(module, name, Path(shutil.copy(NOISE, copy)))


@pytest.mark.parametrize("row", [row for row in ROWS if row.checkouts and row.dry_arguments is not None], ids=lambda row: row.name)
def test_a_models_row_runs_to_its_end_with_noise_in_place_of_both_networks(row, options, tmp_path, monkeypatch, capsys):
    """Upstream's code and torch are not here: what a dry run of CI leaves out of each row is what its two processes compute."""
    module = importlib.import_module(f"benchmarks.gpu.{row.module}")
    for one, name in ((module, "BARE"), (module, "WORKER"), *(BACKEND_WORKERS if row.module == "line" else ())):
        if hasattr(one, name):
            stand_in(monkeypatch, one, name, tmp_path)
    for checkout in row.checkouts:
        (tmp_path / "checkouts" / checkout).mkdir(parents=True)
    network = tmp_path / "checkouts" / "WiLoR" / "wilor" / "models" / "backbones" / "vit.py"
    if "WiLoR" in row.checkouts:
        network.parent.mkdir(parents=True)
        network.write_text("depth=32")
    given = Options(True, sys.executable, tmp_path / "checkouts", None, options.out)
    monkeypatch.setattr(sys, "argv", rows.command_of(row, given)[2:])
    module.main()
    said = capsys.readouterr().out
    if row.module == "line":
        assert [line.partition(":")[0] for line in said.splitlines()] == ["depth", "tracks", "hands", "create_h5"]
    else:
        assert re.search(r"[0-9]x \[", said), said


def test_frames_are_sent_as_the_backends_send_them():
    assert BATCH == BATCH_FRAMES
    assert CALL_FRAMES == HANDS_CALL_FRAMES
    assert CALL_CHUNK_FRAMES == CHUNK_FRAMES


def test_a_bundle_takes_code_and_licences_of_a_checkout_and_no_media(tmp_path):
    for name in ("a.py", "b/c.yaml", "license.txt", "LICENSE", "demo.mp4", "teaser.png", ".git/config.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in _sources(tmp_path)] == ["LICENSE", "a.py", "b/c.yaml", "license.txt"]


def test_every_package_of_a_bundle_has_the_version_that_the_models_were_tested_with():
    assert {name for name in PACKAGES if name not in pinned_versions()} == set()


def test_a_bundles_rows_find_its_packages_wherever_it_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "PACKAGES", ())
    write_bundle(tmp_path / "bundle.tar.gz", None, "3.11")
    with tarfile.open(tmp_path / "bundle.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    site = tmp_path / "bundle" / "site"
    site.mkdir()
    (site / "pynvml.py").write_text("class NVMLError(Exception): pass\ndef nvmlInit(): raise NVMLError('the bundle has none')\n")
    command = ["sh", tmp_path / "bundle" / "run.sh", "--dry", "--rows", "machine", "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "no card: the bundle has none" in done.stdout, done.stdout + done.stderr
