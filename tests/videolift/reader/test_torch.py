"""Samples in torch's own DataLoader. A suite of its own, where torch is installed: ``pytest -m torch``."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from videolift.errors import ConfigError, CorruptFile  # noqa: E402
from videolift.reader import Ingredient, Mixture, Normalization, Selection, WindowDataset, open_dataset  # noqa: E402
from videolift.reader.adapters import open_samples  # noqa: E402
from videolift.reader.jepa import JepaBatch, JepaSource  # noqa: E402
from videolift.reader.torch_dataset import TorchSamples, collate, training_loader  # noqa: E402

WORKERS = [(0, None), (2, "fork"), (2, "spawn"), (2, "forkserver")]


def batches(source, workers, method, **options):
    loader = training_loader(source, batch_size=4, num_workers=workers, multiprocessing_context=method, **options)
    return list(loader)


@pytest.mark.parametrize(("workers", "method"), WORKERS[1:])
def test_workers_give_the_same_batches(dataset_folder, workers, method):
    windows = open_dataset(dataset_folder, selection=Selection(points=16))
    normalization = Normalization.fit(windows)
    wanted = batches(windows, 0, None, normalization=normalization)
    found = batches(windows, workers, method, normalization=normalization)
    assert len(wanted) == len(found) == 6
    for a, b in zip(wanted, found, strict=True):
        assert a["video"] == b["video"]
        assert torch.equal(a["displacement"], b["displacement"])
        assert torch.equal(a["rgb"], b["rgb"])
    assert wanted[0]["rgb"].shape == (4, 1, 3, 64, 64)
    assert wanted[0]["hand_valid"].dtype == torch.bool


def test_persistent_workers_draw_other_points_in_every_epoch(dataset_folder):
    windows = open_dataset(dataset_folder, selection=Selection(points=16, rgb=False, depth=False))
    loader = training_loader(windows, batch_size=4, num_workers=2, persistent_workers=True)
    epochs = [
        {(v, int(f)): q for batch in loader for v, f, q in zip(batch["video"], batch["frame"], batch["query"], strict=True)}
        for _ in range(2)
    ]
    assert epochs[0].keys() == epochs[1].keys()
    assert len(epochs[0]) == len(windows)
    assert all(not torch.equal(epochs[0][key], epochs[1][key]) for key in epochs[0])


def test_windows_with_all_their_points_are_padded_to_the_most(profiles):
    windows = WindowDataset([profiles["default"]])
    counts = [len(windows[i]["query"]) for i in range(4)]
    assert len(set(counts)) > 1
    batch = next(iter(DataLoader(TorchSamples(windows), batch_size=4, collate_fn=collate)))
    assert batch["displacement"].shape == (4, 5, max(counts), 3)
    assert batch["point_valid"].sum(1).tolist() == counts


def test_corrupt_files_are_raised_or_left_out_and_listed(profiles, tmp_path):
    paths = [tmp_path / f"v{i}.hdf5" for i in range(3)]
    for path in paths:
        path.write_bytes(profiles["default"].read_bytes())
    windows = WindowDataset(paths, Selection(points=4))
    paths[0].write_bytes(paths[0].read_bytes()[:5000])
    paths[2].unlink()
    found = list(training_loader(windows, batch_size=8, on_error="skip", num_workers=2))
    assert sum(len(batch.get("video", [])) for batch in found) == 8
    assert sum(len(batch["skipped"]) for batch in found) == 16
    assert {name for batch in found for name in batch.get("video", [])} == {"v1"}
    with pytest.raises(CorruptFile, match=r"v[02]\.hdf5"):
        list(training_loader(windows, batch_size=8))


def test_statistics_of_another_group_are_refused(two_groups):
    windows = open_dataset(two_groups, group="C-arbitrary")
    with pytest.raises(ValueError, match="the windows are of group C-arbitrary, the statistics of A-metric"):
        TorchSamples(windows, Normalization.load(two_groups))


def test_tensors_are_their_own_and_writable(profiles):
    windows = WindowDataset([profiles["fast"]], cache_bytes=1 << 24)
    batch = collate([TorchSamples(windows)[0]])
    batch["intrinsics"] += 1
    assert (np.asarray(windows[0]["intrinsics"]) + 1 == batch["intrinsics"][0].numpy()).all()


def test_masks_are_equal_for_no_worker_and_for_four(profiles):
    source = JepaSource(WindowDataset([profiles["default"]]), (8, 8))
    none, four = batches(source, 0, None), batches(source, 4, "fork")
    for a, b in zip(none, four, strict=True):
        assert torch.equal(a["context_mask"], b["context_mask"])
        assert torch.equal(a["context_view"], b["context_view"])
        assert JepaBatch.of(a, (8, 8)).target.shape == (4, 64)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_image_folder_is_read_alone_and_beside_windows(dataset_folder, tmp_path, method):
    for number, name in enumerate(("cup", "pan")):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.full((9 + i, 8, 3), 40 * number, np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "cup/3.png").write_bytes(b"no image")
    images = open_samples(tmp_path, classes=["pan", "cup"], size_px=(16, 16))
    seen = batches(images, 2, method, on_error="skip")
    assert sorted(torch.cat([batch["class_index"] for batch in seen]).tolist()) == [0] * 4 + [1] * 3
    assert ["cup/3.png" in skip.reason for batch in seen for skip in batch["skipped"]] == [True]
    windows = open_dataset(dataset_folder, selection=Selection(points=16))
    parts = [Ingredient("ours", windows, 1.0), Ingredient("pans", open_samples(tmp_path, classes=["pan"], size_px=(16, 16)), 1.0)]
    batch = batches(Mixture(parts, mode="balanced"), 2, method)[0]
    assert batch["label"].shape == (4, 16)
    assert batch["class_index_present"].tolist() == [name == "pans" for name in batch["dataset"]]
    with pytest.raises(ConfigError, match=r"image is \(3, 10, 8\) and .*Read images at one size"):
        batches(open_samples(tmp_path, classes=["pan"]), 0, None)


def test_images_of_different_sizes_are_named():
    samples = [{"image": np.zeros((3, 8, width), np.uint8), "label": np.array(0)} for width in (8, 9)]
    with pytest.raises(ConfigError, match=r"cannot be one batch: image is \(3, 8, 8\) and \(3, 8, 9\). Read images at one size"):
        collate(samples)
