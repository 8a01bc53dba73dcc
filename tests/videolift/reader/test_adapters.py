"""Others' files, each made here as their makers do: found by looking, read right, refused with what was found."""

from __future__ import annotations

import io
import multiprocessing

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from videolift.errors import ConfigError, CorruptFile
from videolift.reader import Draw, Selection, WindowDataset, open_dataset
from videolift.reader.adapters import (
    Hdf5Arrays,
    ImageFolder,
    ImageSequences,
    SaliencyStimuli,
    SequenceKeys,
    Y2rWindows,
    open_samples,
)
from videolift.reader.mixing.mixture_file import read_mixture
from videolift.reader.skips import Skipped, open_or_skip
from videolift.y2r.exporter import export_y2r


def jpeg(value, size=(16, 12)):
    out = io.BytesIO()
    Image.fromarray(np.full((*size[::-1], 3), value, np.uint8)).save(out, "JPEG")
    return np.frombuffer(out.getvalue(), np.uint8)


@pytest.fixture
def sequences(tmp_path):
    """Two sequences of two views; frame 3 of sequence b is missing in the view ``side``."""
    rows = [(s, v, t) for s, n in (("a", 6), ("b", 5)) for t in range(n) for v in ("top", "side") if (s, v, t) != ("b", "side", 3)]
    with h5py.File(tmp_path / "sequences.h5", "w") as file:
        images = file.create_dataset("images", len(rows), h5py.vlen_dtype(np.uint8))
        for row, (s, v, t) in enumerate(rows):
            images[row] = jpeg({"a": 0, "b": 100}[s] + {"top": 0, "side": 50}[v] + 5 * t)
        table = file.create_group("metadata")
        table["sequence"], table["view"] = ([r[i].encode() for r in rows] for i in (0, 1))
        table["frame"] = [r[2] for r in rows]
    return tmp_path / "sequences.h5"


def test_pairs_of_an_image_sequence(sequences):
    source = open_samples(sequences, gap=2)
    assert isinstance(source, ImageSequences)
    samples = [source.open(i) for i in range(len(source))]
    seen = [(s["video"], s["view"], s["frame"]) for s in samples]
    assert sorted(seen) == sorted(
        [("a", v, t) for v in ("top", "side") for t in range(4)]
        + [("b", "top", t) for t in range(3)]
        + [("b", "side", t) for t in (0, 2)]
    )
    for s in samples:
        base = {"a": 0, "b": 100}[s["video"]] + {"top": 0, "side": 50}[s["view"]]
        assert s["rgb"].shape == (2, 3, 12, 16)
        np.testing.assert_allclose(s["rgb"].mean((1, 2, 3)), [base + 5 * s["frame"], base + 5 * (s["frame"] + 2)], atol=2)


def test_views_of_a_moment_together(sequences):
    source = ImageSequences(sequences, together=True, gap=(1, 2), size_px=(8, 8))
    sample = source.open(0)
    assert sample["rgb"].shape == (2, 2, 3, 8, 8)
    assert sample["view"] == "side,top"
    assert {source.open(0, epoch=e)["gap_frames"] for e in range(20)} == {1, 2}


def _means(source, indices):
    return [float(source.open(i)["rgb"].mean()) for i in indices]


def test_spawned_workers_read_a_sequence_that_the_parent_has_open(sequences):
    source = ImageSequences(sequences)
    wanted = _means(source, range(len(source)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(_means, [(source, range(len(source)))] * 2) == [wanted] * 2


def test_a_corrupt_image_is_raised_with_its_row(sequences):
    with h5py.File(sequences, "r+") as file:
        file["images"][4] = file["images"][4][:40]
    source = ImageSequences(sequences)
    found = [open_or_skip(source, Draw(i), "skip") for i in range(len(source))]
    skipped = [sample for sample in found if isinstance(sample, Skipped)]
    assert len(skipped) == 2  # frame 2 of a, seen from the top, is in two pairs
    assert all("images[4] is not a whole image" in skip.reason for skip in skipped)
    with pytest.raises(CorruptFile, match=r"images\[4\]"):
        open_or_skip(source, skipped[0].draw, "raise")


def test_columns_that_are_not_there_are_named(sequences):
    with pytest.raises(ConfigError, match=r"metadata has no column time; it has frame, sequence, view"):
        ImageSequences(sequences, SequenceKeys(frame="time"))


def test_fixations_become_a_density_that_sums_to_1(tmp_path):
    stimuli = np.random.default_rng(0).integers(0, 255, (3, 30, 40, 3), np.uint8)
    with h5py.File(tmp_path / "saliency.h5", "w") as file:
        file["stimuli"], file["fixations"] = stimuli, np.array([[0, 10, 20], [0, 30, 5], [2, 4, 4]], np.float32)
    source = open_samples(tmp_path / "saliency.h5", sigma_px=2.0, max_fixations=5)
    assert isinstance(source, SaliencyStimuli)
    first, none = source.open(0), source.open(1)
    np.testing.assert_array_equal(first["image"], stimuli[0].transpose(2, 0, 1))
    assert first["density"].sum() == pytest.approx(1, abs=1e-5)
    peaks = {tuple(np.unravel_index(i, (30, 40))) for i in np.argsort(first["density"].ravel())[-2:]}
    assert peaks == {(20, 10), (5, 30)}
    assert first["fixation_valid"].tolist() == [True, True, False, False, False]
    assert not none["density_valid"]


def test_an_image_folder_with_some_of_its_classes(tmp_path):
    for number, name in enumerate(("cup", "box", "pan")):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").write_bytes(png(40 * number + i))
    everything, some = open_samples(tmp_path), open_samples(tmp_path, classes=["pan", "cup"])
    assert isinstance(some, ImageFolder)
    assert (len(everything), len(some)) == (6, 4)
    assert [(s["class"], int(s["label"]), int(s["image"][0, 0, 0])) for s in map(some.open, range(4))] == [
        ("pan", 0, 80),
        ("pan", 0, 81),
        ("cup", 1, 0),
        ("cup", 1, 1),
    ]
    with pytest.raises(ConfigError, match="has no class mug; it has box, cup, pan"):
        ImageFolder(tmp_path, classes=["mug"])


def png(value):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_any_file_by_keys_and_shapes(tmp_path):
    with h5py.File(tmp_path / "robot.h5", "w") as file:
        file["obs/images/top"] = np.arange(5 * 3 * 4 * 4, dtype=np.uint8).reshape(5, 3, 4, 4)
        file["obs/state"] = np.arange(10.0).reshape(5, 2)
    keys = {"rgb": "obs/images/top", "observation.state": "obs/state"}
    source = open_samples(tmp_path / "robot.h5", keys=keys, shapes={"rgb": (3, None, None)})
    assert isinstance(source, Hdf5Arrays)
    assert source.open(3)["observation.state"].tolist() == [6.0, 7.0]
    with pytest.raises(ConfigError, match=r"a row of obs/state is \(2,\), observation.state must be \(7,\)"):
        Hdf5Arrays(tmp_path / "robot.h5", keys, {"observation.state": (7,)})
    with pytest.raises(ConfigError, match=r"has no array obs/depth; it has obs/images/top, obs/state"):
        Hdf5Arrays(tmp_path / "robot.h5", {"depth": "obs/depth"})
    with pytest.raises(ConfigError, match=r"holds obs/images/top, obs/state, which is nothing known. Understood are"):
        open_samples(tmp_path / "robot.h5")


def test_the_predecessors_files_are_read_as_ours(dataset_folder, tmp_path):
    export_y2r(dataset_folder, tmp_path / "y2r", split="val")
    (tmp_path / "y2r/normalization_stats.yaml").unlink()
    theirs, ours = open_samples(tmp_path / "y2r"), open_dataset(dataset_folder, split="val")
    assert isinstance(theirs, Y2rWindows)
    assert len(theirs) == len(ours)
    a, b = theirs.open(3), ours.open(3)
    for key in ("rgb", "depth", "depth_valid", "query", "displacement", "point_valid"):
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    np.testing.assert_allclose(a["pose9d"], b["pose9d"], atol=1e-5)
    np.testing.assert_allclose(a["intrinsics"], b["intrinsics"], atol=1e-5)


def test_our_own_files_and_folders_are_found(dataset_folder, profiles):
    assert isinstance(open_samples(profiles["default"]), WindowDataset)
    assert open_samples(dataset_folder, split="val").group == "A-metric"


@pytest.mark.parametrize("name", ["nothing.h5", "text.h5"])
def test_what_is_no_such_file_is_refused(tmp_path, name):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(ConfigError, match="is not there|is not an HDF5 file"):
        open_samples(tmp_path / name)


def test_a_mixture_is_read_from_a_list(dataset_folder, sequences, tmp_path):
    entries = [
        {"name": "hands", "path": str(dataset_folder), "weight": 3, "split": "train"},
        {"name": "others", "path": str(sequences), "weight": 1, "options": {"gap": 2, "size_px": [64, 64]}},
    ]
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump(entries))
    mixture = read_mixture(tmp_path / "mixture.yaml", selection=Selection(points=8))
    assert mixture.counts(4000)["hands"] == pytest.approx(3000, abs=20)
    assert mixture.ingredients[0].normalization.group == "A-metric"
    assert mixture.open(0)["rgb"].dtype == np.float32
    assert mixture.open(len(mixture) - 1)["dataset"] == "others"
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump([{"name": "x", "folder": "y"}]))
    with pytest.raises(ConfigError, match="entry 0: keys are"):
        read_mixture(tmp_path / "mixture.yaml")
