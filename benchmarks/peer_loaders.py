"""Our samples beside those of the predecessor's own loader: torch batches, both normalized, with the same cache per sample.

``videolift export y2r DATASET EXPORT``, then with a Python that has torch, torchvision, natsort and einops
``VIDEOLIFT_Y2R=CHECKOUT python -m benchmarks.peer_loaders DATASET EXPORT``. CPU time of this process, medians over rounds in random
order. Without a cache the predecessor reads the whole file of every sample, so that it is given few of them; with one, both hold
all samples in memory.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from benchmarks.timing import parser
from videolift.reader import Normalization, Selection, open_dataset
from videolift.reader.torch_dataset import TorchSamples, collate

POINTS, BATCH, ROUNDS = 64, 8, 7
ALL_BYTES = 8 << 30


def predecessor(folder: Path, size: int, steps: int, cached: bool) -> Any:
    """Its own dataset class, without the models that its package imports."""
    package = types.ModuleType("y2r")
    package.__path__ = [f"{os.environ['VIDEOLIFT_Y2R']}/y2r"]
    sys.modules["y2r"] = package
    sizes = {"img_size": size, "num_track_ts": steps, "num_track_ids": POINTS, "track_type": "3d"}
    return importlib.import_module("y2r.dataloaders").TrackDataset(
        dataset_dir=str(folder), **sizes, cache_all=cached, cache_image=cached
    )


def measure(dataset: Path, exported: Path, cached: bool, reads: int) -> None:
    selection = Selection(points=POINTS, min_points=POINTS, camera=False, hand_windows=False)
    windows = open_dataset(dataset, selection=selection, cache_bytes=ALL_BYTES if cached else 0)
    ours = TorchSamples(windows, Normalization.fit(windows))
    first = windows[0]
    theirs = predecessor(exported, first["rgb"].shape[-1], first["displacement"].shape[0], cached)
    assert len(theirs) == len(ours), (len(theirs), len(ours))
    loaders: dict[str, tuple[Any, Any]] = {"videolift": (ours, collate), "the predecessor's own loader": (theirs, None)}
    if cached:
        for index in range(len(windows)):
            windows.open(index)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(ROUNDS):
        chosen = rng.integers(len(ours), size=reads).tolist()
        for name in rng.permutation(list(loaders)):
            data, put_together = loaders[name]
            began = time.process_time()
            for _batch in DataLoader(Subset(data, chosen), batch_size=BATCH, collate_fn=put_together):
                pass
            times[name].append(1e3 * (time.process_time() - began) / reads)
    print("\nevery sample cached" if cached else "\nnothing cached")
    for name, taken in times.items():
        middle = np.median(taken)
        ratio, rounds = middle / np.median(times["videolift"]), f"rounds {min(taken):.2f} to {max(taken):.2f}"
        print(f"{name:30} {middle:8.2f} ms CPU per sample, {ratio:6.2f} x ours ({rounds})")


def main() -> None:
    command = parser(__doc__)
    command.add_argument("dataset", type=Path)
    command.add_argument("exported", type=Path)
    given = command.parse_args()
    torch.set_num_threads(1)
    measure(given.dataset, given.exported, cached=False, reads=16)
    measure(given.dataset, given.exported, cached=True, reads=96)


if __name__ == "__main__":
    main()
