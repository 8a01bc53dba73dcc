"""The reader: the same content from every profile, any process, any order."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from videolift.dataset.profiles import PROFILES
from videolift.errors import ConfigError, CorruptFile
from videolift.reader import Handles, PackagedFile, Selection, WindowDataset, open_dataset
from videolift.reader.normalization import Normalization

ARRAYS = ("rgb", "depth", "query", "displacement", "visible", "pose9d", "hand_query_uvd", "hand_displacement_rot6d", "intrinsics")


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_a_sample_is_what_the_file_holds(profiles):
    windows, (w, frame) = WindowDataset([profiles["default"]]), (3, 3)
    sample = windows[w]
    with h5py.File(profiles["default"], locking=False) as file:
        part = slice(*file["tracks/offsets"][w : w + 2])
        np.testing.assert_array_equal(sample["rgb"], file["rgb"][frame : frame + 1])
        np.testing.assert_array_equal(sample["query"], file["tracks/query"][part])
        np.testing.assert_array_equal(sample["displacement"], file["tracks/displacement"][:, part])
        np.testing.assert_array_equal(sample["pose9d"], file["tracks/pose9d"][w])
        np.testing.assert_array_equal(sample["hand_query_uvd"], file["hands/window_query_uvd"][w])
        depth = file["depth"][frame].astype(np.float32)
        np.testing.assert_array_equal(sample["depth"][0], np.where(depth > 0, np.clip(depth, 0.1, 2.5), 0).astype(np.float32))
    assert (sample["frame"], sample["hand_valid"].tolist()) == (3, [False, True])


def test_fast_holds_exactly_what_default_holds(profiles):
    default, fast = WindowDataset([profiles["default"]]), WindowDataset([profiles["fast"]])
    for w in range(len(default)):
        same(default[w] | {"video": ""}, fast[w] | {"video": ""})


def test_tiny_is_within_its_stated_errors(profiles):
    default, tiny = WindowDataset([profiles["default"]]), WindowDataset([profiles["tiny"]])
    with PackagedFile(profiles["tiny"]) as file:
        rgb, moved = file.attribute("rgb_codec"), file.attribute("displacement_codec")
    for w in range(len(default)):
        a, b = default[w], tiny[w]
        for key in set(ARRAYS) - {"rgb", "displacement"}:
            np.testing.assert_array_equal(a[key], b[key])
        assert np.abs(a["rgb"].astype(int) - b["rgb"]).max() <= rgb["max_error"]
        assert (np.abs(a["displacement"] - b["displacement"]).max((0, 1)) <= moved["max_error"]).all()
    assert rgb["psnr_db"] > 35
    assert max(moved["max_error"]) <= 2**-15


def test_profiles_differ_in_size_as_meant(profiles):
    size = {profile: path.stat().st_size for profile, path in profiles.items()}
    assert size["tiny"] < 0.6 * size["default"] < size["fast"]


def test_large_arrays_of_fast_are_read_through_the_memory_map(profiles, monkeypatch):
    monkeypatch.setattr("videolift.dataset.stored._CACHED_BYTES", 100)
    monkeypatch.setattr(
        "videolift.dataset.stored.read_hdf5", lambda dataset, where=...: dataset[where] if dataset.nbytes <= 100 else 1 / 0
    )
    with PackagedFile(profiles["fast"]) as file, h5py.File(profiles["fast"], locking=False) as reference:
        np.testing.assert_array_equal(file.rgb(slice(2, 4)), reference["rgb"][2:4])
        np.testing.assert_array_equal(file.tracks(1)[0], reference["tracks/query"][slice(*reference["tracks/offsets"][1:3])])


@pytest.mark.parametrize("profile", PROFILES)
def test_drawn_points_are_a_run_of_the_stored_order_and_differ_by_epoch(profiles, profile):
    windows = WindowDataset([profiles[profile]], Selection(points=7))
    whole = WindowDataset([profiles[profile]])[2]["query"]
    first, again = windows[2]["query"], windows[2]["query"]
    np.testing.assert_array_equal(first, again)
    start = int(np.flatnonzero((whole == first[0]).all(1))[0])
    np.testing.assert_array_equal(first, whole[start : start + 7])
    windows.set_epoch(1)
    assert (windows[2]["query"] != first).any()


def test_windows_with_too_few_points_or_without_the_hand_are_left_out(profiles):
    everything = WindowDataset([profiles["default"]])
    most = max(len(everything[i]["query"]) for i in range(len(everything)))
    assert len(WindowDataset([profiles["default"]], Selection(points=most))) < len(everything)
    assert len(WindowDataset([profiles["default"]], Selection(hands="right"))) == len(everything)
    assert len(WindowDataset([profiles["default"]], Selection(hands="left"))) == 0
    assert len(WindowDataset([profiles["default"]], Selection(hands="both"))) == 0


def test_stride_keeps_windows_that_far_apart(profiles):
    windows = WindowDataset([profiles["default"]], Selection(stride=3))
    assert [windows.locate(i)[1] for i in range(len(windows))] == [0, 3, 6]


def test_a_stack_reaches_back_and_repeats_the_first_frame(profiles):
    windows = WindowDataset([profiles["default"]], Selection(frame_stack=3))
    with h5py.File(profiles["default"], locking=False) as file:
        np.testing.assert_array_equal(windows[1]["rgb"], file["rgb"][...][[0, 0, 1]])
        np.testing.assert_array_equal(windows[5]["rgb"], file["rgb"][3:6])
    assert windows[1]["depth"].shape == (3, 64, 64)


def test_handles_are_limited_and_reopened(profiles):
    handles = Handles(limit=2)
    paths = list(profiles.values())
    first = handles.get(paths[0])
    assert handles.get(paths[0]) is first
    for path in paths:
        handles.get(path)
    assert len(handles) == 2
    assert handles.get(paths[0]) is not first
    assert handles.get(paths[0]).rgb(slice(0, 1)).shape == (1, 3, 64, 64)


def test_nothing_open_travels_when_pickled(profiles):
    windows = WindowDataset(list(profiles.values()))
    before = windows[5]
    copy = pickle.loads(pickle.dumps(windows))
    assert len(copy.handles) == 0
    same(copy[5], before)


def _sums(windows, indices):
    return [float(np.abs(windows[i]["displacement"]).sum()) for i in indices]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(profiles, method):
    windows = WindowDataset(list(profiles.values()))
    indices = list(range(0, len(windows), 3))
    wanted = _sums(windows, indices)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        for found in pool.starmap(_sums, [(windows, indices)] * 3):
            assert found == wanted
    assert _sums(windows, indices) == wanted


def test_a_forked_child_does_not_use_its_parents_handles(profiles):
    windows = WindowDataset(list(profiles.values()))
    windows[0]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        windows[1]
        os.write(writing, str(len(windows.handles)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 10) == b"1"
    os.close(reading)
    os.close(writing)


def test_open_dataset_takes_the_files_of_a_split_from_the_index(dataset_folder):
    (dataset_folder / "stray.hdf5").write_bytes(b"not in the index")
    assert [p.name for p in open_dataset(dataset_folder).files] == ["v0.hdf5", "v1.hdf5", "v2.hdf5"]
    assert [p.name for p in open_dataset(dataset_folder, split="val").files] == ["v2.hdf5"]
    assert open_dataset(dataset_folder, group="A-metric", split="train")[0]["video"] == "v0"


@pytest.mark.parametrize("wrong", [{"split": "tset"}, {"group": "B-metric"}])
def test_a_split_or_group_that_is_not_there_is_refused(dataset_folder, wrong):
    with pytest.raises(ConfigError, match="the dataset has"):
        open_dataset(dataset_folder, **wrong)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset\.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_truncated_file_is_refused(profiles, tmp_path, profile, share):
    content = profiles[profile].read_bytes()
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CorruptFile, match=r"torn\.hdf5"):
        PackagedFile(torn)


def test_an_incomplete_file_is_refused(profiles, tmp_path):
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(profiles["default"].read_bytes())
    with h5py.File(torn, "r+") as file:
        file.attrs["complete"] = 0
    with pytest.raises(CorruptFile, match="complete"):
        PackagedFile(torn)


def test_normalized_samples_have_mean_0_and_deviation_1(dataset_folder):
    normalization, windows = Normalization.load(dataset_folder), open_dataset(dataset_folder)
    samples = [normalization.apply(windows[i]) for i in range(len(windows))]
    displacement = np.concatenate([s["displacement"].reshape(-1, 3) for s in samples])
    np.testing.assert_allclose(displacement.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(displacement.std(0), 1, rtol=1e-3)
    raw = windows[0]
    mean, std = normalization.table["depth"]
    np.testing.assert_allclose(samples[0]["query"][:, 2], (raw["query"][:, 2] - mean) / std, rtol=1e-4, atol=1e-5)
    assert (samples[0]["depth"][raw["depth"] == 0] == 0).all()
    assert samples[0]["rgb"].dtype == np.float32


def test_the_reader_does_not_import_torch():
    code = "import sys, videolift.reader, videolift.reader.normalization; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
