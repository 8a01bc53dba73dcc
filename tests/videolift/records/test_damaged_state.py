"""Every reader of a state file meets values of other shapes: what can be made again counts as missing, the rest is named."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from stages.models.weights import Weight, WeightStore
from videolift.errors import ConfigError, CorruptFile, VideoliftError
from videolift.pool.decisions.figures import FIGURES_FORMAT, WorkerFigures, load_figures
from videolift.records.leases import FREE_AFTER_S, Lease, slurm_job
from videolift.records.manifests import MANIFEST_FORMAT, read_manifest, standing_manifest
from videolift.records.receipts import RECEIPT_FORMAT, read_receipt
from videolift.records.runs import latest_run, read_run
from videolift.store import read_json

SHAPES = ["", "[]", "{}", "null", '"text"', "[[]]", "3", "[" * 100_000, "1" * 5_000, '{"a": ' * 50_000]
INNER = [None, [], {}, 3, "text", [[]], {"x": 3}, {"x": {}}, {"x": []}]


def damaged(folder: Path, **inner: object) -> list[Path]:
    """Files of every shape, and such as have the right head and something else in one field."""
    texts = [*SHAPES, *(json.dumps({**inner, name: value}) for name in inner if name != "format" for value in INNER)]
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.json"
        path.write_text(text)
        paths.append(path)
    return paths


@pytest.mark.parametrize("text", [text for text in SHAPES if text != "{}"])
def test_what_is_no_object_counts_as_missing(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(CorruptFile, match=f"{tmp_path} is a folder where a file belongs"):
        read_json(tmp_path)


def test_a_manifest_of_another_shape_vouches_for_nothing(tmp_path):
    good = {"stage": "ingest", "batch": "0000", "token": "a" * 12, "generation": 0}
    rows = {"a": {"state": "done", "artifact": {"path": "x", "bytes": 1, "mtime_ns": 1, "sha256": "s"}}}
    for path in damaged(tmp_path, format=MANIFEST_FORMAT, **good, videos=rows, journal={"path": "j", "bytes": 1, "mtime_ns": 1}):
        assert standing_manifest(path, tmp_path) is None
        assert read_manifest(path) is None


def test_a_receipt_of_another_shape_is_none_or_named(tmp_path):
    head = {"format": RECEIPT_FORMAT, "video": "a", "stage": "ingest", "state": "done", "fingerprint": "f", "backend": {}}
    for path in damaged(tmp_path, **head):
        if "format" in path.read_text():
            with pytest.raises(CorruptFile, match=f"{path}: not a receipt.*delete it"):
                read_receipt(path)
        else:
            with contextlib.suppress(CorruptFile):
                assert read_receipt(path) is None


def test_a_run_of_another_shape_is_named_with_what_to_do(tmp_path):
    plans = [*SHAPES, *(json.dumps({"variants": value}) for value in INNER if value not in ([], {}))]
    for number, plan in enumerate(plans):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "plan.json").write_text(plan)
        (folder / "config.json").write_text("{}")
        with pytest.raises(ConfigError, match="start"):
            read_run(folder)
    (tmp_path / "runs").mkdir()
    for text in [*SHAPES, '{"run": 3}']:
        (tmp_path / "runs" / "latest.json").write_text(text)
        with pytest.raises(ConfigError, match="holds no run"):
            latest_run(tmp_path)


def test_a_lease_of_another_shape_is_free_after_two_minutes(tmp_path):
    for path in damaged(tmp_path, host="h", boot_id="b", pid=3, create_time=1.0, slurm_job_id=None, nonce="n"):
        slurm_job(path)
        old_s = path.stat().st_mtime - FREE_AFTER_S - 1
        os.utime(path, (old_s, old_s))
        with Lease.acquire(path, wait_s=0) as lease:
            assert lease.still_ours()


def test_hashes_that_were_recorded_and_are_damaged_are_never_taken_for_none(tmp_path):
    (tmp_path / "thirdparty").mkdir()
    store, weight = WeightStore(tmp_path, "models"), Weight("w", "m", "w.bin", "https://host/w.bin")
    assert store.expected(weight) is None
    entries = ["3", "{w: 3}", "{w: {}}", "{w: {sha256: 3}}", "[1]", "{w: [}"]
    for text in ["[1]", "3", '"text"', *(f"weights: {entry}" for entry in entries)]:
        store.lock_file.write_text(text)
        with pytest.raises(VideoliftError, match=r"models\.lock is damaged"):
            store.expected(weight)
    store.lock_file.write_text("weights: {w: {sha256: abc}}")
    assert store.expected(weight) == "abc"


def test_remembered_hashes_of_another_shape_are_made_again(tmp_path):
    (tmp_path / "thirdparty").mkdir()
    store = WeightStore(tmp_path, "models")
    (tmp_path / "w.bin").write_bytes(b"weights")
    digest = store.sha256("w.bin")
    for value in INNER:
        (tmp_path / "thirdparty" / ".hashes.json").write_text(json.dumps({str(tmp_path / "w.bin"): value}))
        assert store.sha256("w.bin") == digest


def test_figures_of_the_pool_of_another_shape_are_measured_again(tmp_path):
    for value in INNER:
        path = tmp_path / "figures.json"
        path.write_text(json.dumps({"format": FIGURES_FORMAT, "figures": {"depth | Card": value}}))
        assert not load_figures(path, "depth", "Card", WorkerFigures())
