"""The examples in docs, README, on the card and in examples/ run; the predecessor's own loader reads the export.

Scripts that need torch are of the suite ``pytest -m torch``. The last test needs VIDEOLIFT_PEERS to name a Python with torch, and
VIDEOLIFT_Y2R a checkout: ``pytest -m peers``.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from videolift.y2r.exporter import export_y2r

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "format.md"


def code_of(text: str, folder: Path) -> str:
    block = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "open_dataset" in block)
    return re.sub(r'"(output/h5_dataset|path/to/this/folder)"', repr(str(folder)), block)


def test_the_example_in_the_docs_runs(dataset_folder):
    values: dict = {}
    exec(code_of(DOCS.read_text(), dataset_folder), values)
    assert values["sample"]["query"].shape == (64, 3)
    assert values["sample"]["rgb"].shape == (2, 3, 64, 64)


def test_the_example_in_the_readme_runs(dataset_folder):
    values: dict = {}
    exec(code_of((ROOT / "README.md").read_text(), dataset_folder), values)
    assert values["sample"]["query"].shape == (64, 3)


def test_the_example_on_the_card_runs(dataset_folder):
    values: dict = {}
    exec(code_of((dataset_folder / "README.md").read_text(), dataset_folder), values)
    assert values["sample"]["displacement"].shape[0] == 5


def test_the_card_counts_what_is_worth_a_look(dataset_folder):
    card = (dataset_folder / "README.md").read_text()
    assert "| valid_depth | pixels with depth | 1 | < 0.3 share: 0 of 3 |" in card


def script(name: str) -> Path:
    return next((ROOT / "examples").glob(f"{name}_*.py"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1", "24 windows; the first is frame 0 of v0"),
        ("3", "resumed after 40 samples: the same draws as without a stop"),
        ("4", "3 episodes, 33 frames"),
    ],
)
def test_scripts_run(dataset_folder, two_groups, tmp_path, capsys, name, said):
    others = {"3": [two_groups], "4": [tmp_path / "out"]}
    runpy.run_path(str(script(name)))["main"](str(dataset_folder), *map(str, others.get(name, [])))
    assert said in capsys.readouterr().out


@pytest.mark.torch
@pytest.mark.parametrize("name", ["2", "5"])
def test_scripts_that_need_torch_run(dataset_folder, name):
    pytest.importorskip("torch")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, script(name), dataset_folder], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run_peer(code: str, folder: Path, *arguments: object) -> None:
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with torch")
    script = folder / "peer.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parents[1])}
    done = subprocess.run([python, script, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


Y2R = """
import sys, types
package = types.ModuleType("y2r")
package.__path__ = [sys.argv[1] + "/y2r"]  # its __init__ would import its models
sys.modules["y2r"] = package
from y2r.dataloaders import TrackDataset
for cached in (False, True):
    data = TrackDataset(dataset_dir=sys.argv[2], img_size=64, num_track_ts=5, num_track_ids=16, track_type="3d", hand_mode="right",
                        cache_all=cached, cache_image=cached, text_mode=True)
    sample = data[3]
    assert len(data) == 8, len(data)
    assert sample["imgs"].shape == (1, 3, 64, 64) and sample["displacements"].shape == (5, 16, 3)
    assert sample["poses"].shape == (5, 9)
    assert sample["right_wrist_rot_displacements"].shape == (5, 6) and sample["depth"].isfinite().all()
"""


@pytest.mark.peers
def test_the_predecessors_own_loader_reads_the_export(dataset_folder, tmp_path):
    checkout = os.environ.get("VIDEOLIFT_Y2R")
    if not checkout:
        pytest.skip("VIDEOLIFT_Y2R names no checkout of the predecessor")
    export_y2r(dataset_folder, tmp_path / "out", split="val")
    run_peer(Y2R, tmp_path, checkout, tmp_path / "out")
