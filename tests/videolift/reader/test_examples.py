"""The examples of docs/format.md and of the card run; torch and the predecessor's own loader read what they should.

The last two need VIDEOLIFT_PEERS to name a Python with torch (and, for the loader, VIDEOLIFT_Y2R a checkout): ``pytest -m peers``.
"""

from __future__ import annotations

import os
import re
import subprocess
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


def run_peer(code: str, folder: Path, *arguments: object) -> None:
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with torch")
    script = folder / "peer.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parents[1])}
    done = subprocess.run([python, script, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


TORCH = """
import sys, torch
from torch.utils.data import DataLoader
from videolift.reader import Selection, open_dataset
from videolift.reader.normalization import Normalization
from videolift.reader.torch_dataset import TorchWindows

if __name__ == "__main__":
    windows = open_dataset(sys.argv[1], selection=Selection(points=16))
    data, seen = TorchWindows(windows, Normalization.load(sys.argv[1])), []
    for workers, method in ((0, None), (2, "fork"), (2, "spawn")):
        loader = DataLoader(data, batch_size=8, num_workers=workers, multiprocessing_context=method)
        seen.append(sum(float(batch["displacement"].double().abs().sum() + batch["rgb"].double().sum()) for batch in loader))
    assert len(set(seen)) == 1, seen
    batch = next(iter(DataLoader(data, batch_size=8)))
    assert batch["rgb"].shape == (8, 1, 3, 64, 64) and batch["query"].shape == (8, 16, 3), batch["rgb"].shape
    assert batch["hand_valid"].dtype == torch.bool and isinstance(batch["video"], list)
"""


@pytest.mark.peers
def test_torch_loads_the_same_with_no_forked_and_spawned_workers(dataset_folder, tmp_path):
    run_peer(TORCH, tmp_path, dataset_folder)


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
