"""Others' files, each made here as their makers do: found by looking, read right, refused with what was found."""

from __future__ import annotations

import io
import multiprocessing
import os

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from videolift.errors import ConfigError, CorruptFile
from videolift.reader import Draw, Normalization, Selection, WindowDataset, open_dataset
from videolift.reader.adapters import (
    Hdf5Arrays,
    ImageFolder,
    ImageSequences,
    SaliencyStimuli,
    SequenceKeys,
    Y2rWindows,
    lazy_hdf5,
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


def table_of_frames(path, rows, names, images):
    """Another maker's file: a compound table, and images as given."""
    with h5py.File(path, "w") as file:
        file["table"] = np.array(rows, dtype=names)
        file["frames"] = images


NAMES = {"images": "frames", "metadata": "table", "sequence": "run", "frame": "t", "view": "cam"}
COMPOUND = [("run", "S4"), ("cam", "S4"), ("t", "f8")]


@pytest.mark.parametrize("kind", ["pixels", "bytes of one length"])
def test_a_compound_table_with_times_as_floats_and_images_of_another_kind(tmp_path, kind):
    rows = [(b"r", cam, float(t)) for cam in (b"l", b"r") for t in (0, 5, 10)]
    pixels = np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(6)])
    images = pixels if kind == "pixels" else np.array([png(10 * i) for i in range(6)])
    table_of_frames(tmp_path / "a.h5", rows, COMPOUND, images)
    source = open_samples(tmp_path / "a.h5", keys=NAMES, gap=[5, 10])
    assert [(s["view"], s["frame"]) for s in map(source.open, range(len(source)))] == [("l", 0), ("l", 5), ("r", 0), ("r", 5)]
    np.testing.assert_array_equal(source.open(3)["rgb"][:, 0, 0, 0], [40, 50])
    with pytest.raises(ConfigError, match=r"no 2 frames 1 apart: its frame numbers begin 0, 5, 10"):
        open_samples(tmp_path / "a.h5", keys=NAMES)
    with pytest.raises(ConfigError, match=r"3 rows of table name a frame that another row names: which .* \(cam, run, t\)"):
        open_samples(tmp_path / "a.h5", keys=NAMES | {"view": None}, gap=5)


def test_frame_numbers_that_are_no_whole_numbers_are_refused(tmp_path):
    table_of_frames(tmp_path / "a.h5", [(b"r", b"l", 0.0), (b"r", b"l", 0.5)], COMPOUND, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"table t must count frames in whole numbers: one is 0.5"):
        open_samples(tmp_path / "a.h5", keys=NAMES)


def test_one_camera_needs_no_column_of_views(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((4, 8, 8, 3), np.uint8)
        file["metadata/sequence"], file["metadata/frame"] = [7, 7, 8, 8], [0, 1, 0, 1]
    assert [s["video"] for s in map(open_samples(tmp_path / "a.h5").open, range(2))] == ["7", "8"]


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


@pytest.mark.parametrize("kind", ["compound", "group"])
def test_fixations_in_columns_of_other_names(tmp_path, kind):
    rows = np.array([(0, 10, 20), (2, 4, 5)], [("n", "i4"), ("px", "f4"), ("py", "f4")])
    with h5py.File(tmp_path / "saliency.h5", "w") as file:
        file["stimuli"] = np.zeros((3, 30, 40, 3), np.uint8)
        if kind == "compound":
            file["fixations"] = rows
        else:
            for name in rows.dtype.names:
                file[f"fixations/{name}"] = rows[name]
    source = open_samples(tmp_path / "saliency.h5", columns=("n", "px", "py"), sigma_px=1.0)
    assert np.unravel_index(source.open(2)["density"].argmax(), (30, 40)) == (5, 4)
    with pytest.raises(ConfigError, match=r"fixations has no column stimulus, x, y; it has n, px, py"):
        open_samples(tmp_path / "saliency.h5")


def test_an_image_folder_with_some_of_its_classes(tmp_path):
    for number, name in enumerate(("cup", "box", "pan")):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").write_bytes(png(40 * number + i))
    everything, some = open_samples(tmp_path), open_samples(tmp_path, classes=["pan", "cup"])
    assert isinstance(some, ImageFolder)
    assert (len(everything), len(some)) == (6, 4)
    assert [(s["class"], int(s["class_index"]), int(s["image"][0, 0, 0])) for s in map(some.open, range(4))] == [
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
    with pytest.raises(ConfigError, match=r"holds obs/images/top, obs/state, which no adapter reads. They read"):
        open_samples(tmp_path / "robot.h5")


@pytest.fixture
def demonstrations(tmp_path):
    """Eleven demonstrations of 2 to 12 steps, in one file; the value of a step tells both."""
    with h5py.File(tmp_path / "robot.h5", "w") as file:
        for demo in range(11):
            steps = np.arange(demo + 2)
            file[f"data/demo_{demo}/actions"] = np.stack([np.full(demo + 2, demo), steps], 1).astype(float)
            file[f"data/demo_{demo}/obs/image"] = np.broadcast_to(steps[:, None, None, None], (demo + 2, 4, 6, 3)).astype(np.uint8)
    return tmp_path / "robot.h5"


def test_demonstrations_of_one_file_follow_each_other_in_the_order_of_their_numbers(demonstrations):
    keys = {"rgb": "data/*/obs/image", "action": "data/*/actions"}
    source = open_samples(demonstrations, keys=keys, shapes={"rgb": (4, 6, 3)}, channels_last=["rgb"])
    assert len(source) == sum(range(2, 13))
    samples = [source.open(i) for i in range(len(source))]
    assert [tuple(s["action"]) for s in samples] == [(demo, step) for demo in range(11) for step in range(demo + 2)]
    assert all(s["rgb"].shape == (3, 4, 6) and s["rgb"][0, 0, 0] == s["action"][1] for s in samples)
    assert samples[-1]["video"] == "demo_10"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keys": {"rgb": "data/*/obs/depth"}}, "has no array data/demo_0/obs/depth; it has data/demo_0/actions"),
        ({"keys": {"rgb": "data/*/obs/image", "action": "data/demo_0/actions"}}, r"\* must stand for the same group, once in each"),
        ({"keys": {"rgb": "runs/*/image"}}, r"has no group in the place of \*"),
        ({"keys": {"rgb": "data/*/obs/image"}, "shapes": {"rbg": (3,)}}, r"keys name rgb, shapes or channels_last also \['rbg'\]"),
        (
            {"keys": {"a": "data/*/actions"}, "channels_last": ["a"]},
            r"demo_0/actions is \(2,\), which has no channels",
        ),
        ({"keys": {"a": "data/*/actions"}, "shape": {}}, "read by Hdf5Arrays, which has no option shape; it has keys, shapes"),
    ],
)
def test_keys_that_do_not_fit_are_named(demonstrations, options, message):
    with pytest.raises(ConfigError, match=message):
        open_samples(demonstrations, **options)


def test_a_folder_of_files_keeps_few_of_them_open(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy_hdf5, "MAX_OPEN", 3)
    for episode in range(9):
        with h5py.File(tmp_path / f"episode_{episode}.hdf5", "w") as file:
            file["action"] = np.full((4, 2), episode)
    source = open_samples(tmp_path, keys={"action": "action"})
    for index in np.random.default_rng(0).permutation(len(source)):
        sample = source.open(int(index))
        assert (sample["video"], sample["action"][0]) == (f"episode_{index // 4}", index // 4)
        held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert sum(path.startswith(str(tmp_path)) for path in held) <= 3


def test_any_source_is_normalized_by_what_is_measured_of_it(demonstrations):
    keys = {"rgb": "data/*/obs/image", "action": "data/*/actions"}
    source = open_samples(demonstrations, keys=keys, channels_last=["rgb"])
    measured = Normalization.measure(source, ["rgb", "action"])
    samples = [measured.apply(source.open(i)) for i in range(len(source))]
    actions, images = np.stack([s["action"] for s in samples]), np.stack([s["rgb"] for s in samples])
    np.testing.assert_allclose([actions.mean(0), actions.std(0)], [[0, 0], [1, 1]], atol=1e-5)
    np.testing.assert_allclose([images.mean((0, 2, 3)), images.std((0, 2, 3))], [[0] * 3, [1] * 3], atol=1e-4)
    np.testing.assert_array_equal(measured.invert(samples[40])["rgb"], source.open(40)["rgb"])
    with pytest.raises(ConfigError, match="video is not an array of numbers in a sample; it holds action, rgb, video"):
        Normalization.measure(source, ["video"])
    with pytest.raises(ConfigError, match=r"Hdf5Arrays has no statistics beside it: use Normalization.measure"):
        Normalization.fit(source)


def test_a_value_that_is_not_finite_is_no_statistic(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["action"], file["none"] = [[0.0, 1.0], [np.nan, 1.0]], np.zeros((0, 2))
    with pytest.raises(ConfigError, match="action holds values that are not finite"):
        Normalization.measure(open_samples(tmp_path / "a.h5", keys={"action": "action"}), ["action"])
    with pytest.raises(ConfigError, match="there is no sample to measure"):
        Normalization.measure(open_samples(tmp_path / "a.h5", keys={"action": "none"}), ["action"])


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


def test_a_mixture_is_read_from_a_list(dataset_folder, sequences, demonstrations, tmp_path):
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
    entries[1] |= {"path": str(demonstrations), "options": {"keys": {"action": "data/*/actions"}}, "measure": ["action"]}
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump(entries))
    measured = read_mixture(tmp_path / "mixture.yaml", selection=Selection(points=8))
    last = measured.open(len(measured) - 1)
    assert (last["action"] > 1).all()
    assert last["action_present"]
    assert not last["rgb_present"]
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump([{"name": "x", "folder": "y"}]))
    with pytest.raises(ConfigError, match="entry 0: keys are"):
        read_mixture(tmp_path / "mixture.yaml")
