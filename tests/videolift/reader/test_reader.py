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
from videolift.dataset.quality import SCORES
from videolift.errors import ConfigError, CorruptFile
from videolift.reader import Handles, PackagedFile, Selection, WindowDataset, open_dataset
from videolift.reader.normalization import Normalization
from videolift.reader.selection import QUALITY_SCORES

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
        np.testing.assert_array_equal(sample["hand_query_uvd"][1], file["hands/window_query_uvd"][w, 1])
        np.testing.assert_array_equal(sample["label"], file["tracks/label"][part])
        np.testing.assert_array_equal(sample["T_camera_world"], file["camera/T_camera_world"][frame : frame + 1])
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
    monkeypatch.setattr("videolift.dataset.chunk_table.ChunkTable.read", None)
    with PackagedFile(profiles["fast"]) as file, h5py.File(profiles["fast"], locking=False) as reference:
        np.testing.assert_array_equal(file.rgb(slice(2, 4)), reference["rgb"][2:4])
        np.testing.assert_array_equal(file.tracks(1)[0], reference["tracks/query"][slice(*reference["tracks/offsets"][1:3])])
        assert file.stored._map is not None


def test_what_is_not_known_is_0_and_masked(profiles):
    sample = WindowDataset([profiles["default"]], Selection(hand_poses=True, quality=("keypoint_residual_px",)))[3]
    assert all(np.isfinite(value).all() for value in sample.values() if isinstance(value, np.ndarray) and value.dtype.kind == "f")
    assert (sample["hand_query_uvd"][0] == 0).all()
    assert sample["hand_step_valid"].tolist() == [[False] * 5, [True] * 5]
    assert sample["T_camera_wrist_valid"].tolist() == [[False, True]]
    assert (sample["depth_valid"] == (sample["depth"] > 0)).all()


def test_every_frame_of_a_window_is_read_where_selected(profiles):
    windows = WindowDataset([profiles["default"]], Selection(past_frames=3, window_frames=True, keypoints=True, joints=True))
    sample = windows[1]
    with h5py.File(profiles["default"], locking=False) as file:
        np.testing.assert_array_equal(sample["rgb"], file["rgb"][...][[0, 0, 1, 2, 3, 4, 5]])
        np.testing.assert_array_equal(sample["keypoints_px"][2:, 1], file["hands/keypoints_px"][1:6, 1])
        np.testing.assert_array_equal(sample["seconds"], file["timestamps"][...][[0, 0, 1, 2, 3, 4, 5]])
    assert sample["frame_valid"].tolist() == [False] + [True] * 6
    assert sample["joints_camera"].shape == (7, 2, 21, 3)


def test_keys_and_shapes_follow_from_the_selection_alone(profiles, bare_file):
    selection = Selection(points=8, keypoints=True, masks=True, text=True, quality=("valid_depth",))
    full, bare = WindowDataset([profiles["default"]], selection)[0], WindowDataset([bare_file], selection)[0]
    shapes = {key: np.shape(value) for key, value in full.items()}
    assert {key: np.shape(value) for key, value in bare.items()} == shapes
    assert not bare["depth_valid"].any()
    assert not bare["point_valid"].any()
    assert not bare["camera_valid"].any()
    assert not bare["keypoints_px_valid"].any()


@pytest.mark.parametrize("profile", PROFILES)
def test_drawn_points_differ_by_epoch_and_are_the_same_again(profiles, profile):
    windows = WindowDataset([profiles[profile]], Selection(points=7))
    whole = WindowDataset([profiles[profile]])[2]
    first, again, other = windows.open(2), windows.open(2), windows.open(2, epoch=1)
    same(first, again)
    assert (other["query"] != first["query"]).any()
    for drawn in (first, other):
        at = [int(np.flatnonzero((whole["query"] == q).all(1))[0]) for q in drawn["query"]]
        assert len(set(at)) == 7
        np.testing.assert_array_equal(drawn["displacement"], whole["displacement"][:, at])
        np.testing.assert_array_equal(drawn["visible"], whole["visible"][:, at])


def test_points_are_drawn_uniformly(profiles):
    windows = WindowDataset([profiles["default"]], Selection(points=20, rgb=False, depth=False), cache_bytes=1 << 24)
    whole = WindowDataset([profiles["default"]])[2]["query"]
    number, drawn = {tuple(q): n for n, q in enumerate(whole)}, np.zeros(len(whole))
    epochs = 3000
    for epoch in range(epochs):
        drawn[[number[tuple(q)] for q in windows.open(2, epoch=epoch)["query"]]] += 1
    expected = epochs * 20 / len(whole)
    variance = expected * (1 - 20 / len(whole))  # drawn without replacement within an epoch
    chi_squared, freedom = ((drawn - expected) ** 2 / variance).sum(), len(whole) - 1
    assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


def test_windows_with_fewer_points_are_padded_or_left_out(profiles):
    everything = WindowDataset([profiles["default"]])
    counts = [len(everything[i]["query"]) for i in range(len(everything))]
    most = max(counts)
    padded = WindowDataset([profiles["default"]], Selection(points=most))
    assert [int(padded[i]["point_valid"].sum()) for i in range(len(padded))] == counts
    assert padded[int(np.argmin(counts))]["displacement"].shape == (5, most, 3)
    assert len(WindowDataset([profiles["default"]], Selection(min_points=most))) == counts.count(most)


@pytest.mark.parametrize(("required", "share"), [("left", 0), ("right", 1), ("either", 1), ("both", 0)])
def test_windows_are_chosen_by_hand(profiles, required, share):
    everything = WindowDataset([profiles["default"]])
    assert len(WindowDataset([profiles["default"]], Selection(require_hands=required))) == share * len(everything)


def test_windows_are_chosen_by_quality(profiles):
    with PackagedFile(profiles["default"]) as file:
        score = file.array("quality/visible_at_end")[file.window_start]
    middle = float(np.nanmedian(score))
    chosen = WindowDataset([profiles["default"]], Selection(limits={"visible_at_end": (middle, None)}))
    assert [chosen.locate(i)[1] for i in range(len(chosen))] == np.flatnonzero(score >= middle).tolist()


WRONG = [
    ({"past_frames": 0}, "past_frames is 0, it must be a whole number of at least 1"),
    ({"points": "many"}, "points is 'many', it must be a whole number"),
    ({"stride": 0}, "stride is 0"),
    ({"points": -1}, "points is -1"),
    ({"require_hands": "Left"}, "require_hands is 'Left'"),
    ({"tiers": ("E",)}, "tiers names 'E'"),
    ({"quality": ("sharpness",)}, "no quality score 'sharpness'"),
    ({"limits": {"valid_depth": (0.9, 0.1)}}, "nothing lies between"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_a_selection_that_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Selection(**fields)


def test_the_scores_one_can_select_are_those_that_files_hold():
    assert set(QUALITY_SCORES) == {name for name, score in SCORES.items() if score.per_frame}


def test_stride_keeps_windows_that_far_apart(profiles):
    windows = WindowDataset([profiles["default"]], Selection(stride=3))
    assert [windows.locate(i)[1] for i in range(len(windows))] == [0, 3, 6]


def test_a_stack_reaches_back_and_repeats_the_first_frame(profiles):
    windows = WindowDataset([profiles["default"]], Selection(past_frames=3))
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
    assert handles.get(paths[0]).rgb(slice(0, 1)).shape == (1, 3, 64, 64)


def test_a_dataset_uses_the_handles_it_was_given(profiles):
    handles = Handles(limit=1)
    windows = WindowDataset(list(profiles.values()), handles=handles)
    assert windows.handles is handles
    for i in range(0, len(windows), 4):
        windows[i]
    assert len(handles) == 1


def test_no_descriptor_is_left_open(profiles):
    windows = WindowDataset(list(profiles.values()), handles=Handles(limit=1))
    before = len(os.listdir("/proc/self/fd"))
    for i in range(len(windows)):
        windows[i]
    windows.handles.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    dropped = WindowDataset(list(profiles.values()))
    dropped[0], dropped[len(dropped) - 1]
    del dropped
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_file_that_was_replaced_is_read_anew(profiles, tmp_path):
    path = tmp_path / "clip.hdf5"
    path.write_bytes(profiles["default"].read_bytes())
    windows = WindowDataset([path])
    was = windows[3]
    replacement = tmp_path / "new.hdf5"
    replacement.write_bytes(profiles["default"].read_bytes())
    with h5py.File(replacement, "r+") as file:
        file["rgb"][3] = 7
    os.replace(replacement, path)
    assert (was["rgb"] != 7).any()
    assert (windows[3]["rgb"] == 7).all()


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


def test_opening_a_dataset_opens_no_file(dataset_folder, monkeypatch):
    selection = Selection(points=8, past_frames=2, stride=2, tiers=("A",))
    wanted = len(open_dataset(dataset_folder, selection=selection))
    monkeypatch.setattr("videolift.reader.opening.PackagedFile", None)
    monkeypatch.setattr("videolift.reader.samples.PackagedFile", None)
    windows = open_dataset(dataset_folder, selection=selection)
    assert len(windows) == wanted == 12
    assert [windows.locate(i)[1] for i in range(4)] == [0, 2, 4, 6]


def test_what_the_main_group_leaves_out_is_said(two_groups, caplog):
    assert len(open_dataset(two_groups)) == 8
    assert "left out are C-arbitrary (8 windows)" in caplog.text
    assert len(open_dataset(two_groups, group="all")) == 16
    assert len(open_dataset(two_groups, group="all", selection=Selection(tiers=("C",)))) == 8


def test_statistics_are_those_of_the_windows_group(two_groups):
    other = open_dataset(two_groups, group="C-arbitrary")
    assert Normalization.fit(other).group == "C-arbitrary"
    assert Normalization.load(two_groups).group == "A-metric"
    with pytest.raises(ConfigError, match="no statistics of group 'B-metric'"):
        Normalization.load(two_groups, group="B-metric")
    with pytest.raises(ConfigError, match="one group"):
        Normalization.fit(open_dataset(two_groups, group="all"))


def test_the_only_group_may_be_named(dataset_folder):
    assert Normalization.load(dataset_folder, group="A-metric").group == "A-metric"


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
    displacement = np.concatenate([s["displacement"][s["visible"]] for s in samples])
    np.testing.assert_allclose(displacement.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(displacement.std(0), 1, rtol=1e-3)
    raw = windows[0]
    mean, std = normalization.table["depth"]
    np.testing.assert_allclose(samples[0]["query"][:, 2], (raw["query"][:, 2] - mean) / std, rtol=1e-4, atol=1e-5)
    assert (samples[0]["depth"][raw["depth"] == 0] == 0).all()
    assert samples[0]["rgb"].dtype == np.float32


def test_normalization_is_undone_and_leaves_unknown_values_0(dataset_folder):
    normalization, windows = Normalization.load(dataset_folder), open_dataset(dataset_folder, selection=Selection(points=600))
    raw = windows[0]
    scaled = normalization.apply(raw)
    assert not raw["point_valid"].all()
    assert (scaled["displacement"][:, ~raw["point_valid"]] == 0).all()
    assert (scaled["hand_displacement_uvd"][~raw["hand_step_valid"]] == 0).all()
    back = normalization.invert(scaled)
    for key, value in raw.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(back[key], value, atol=2e-6, err_msg=key)


def test_samples_kept_in_memory_are_the_same_and_within_the_budget(profiles):
    plain = WindowDataset([profiles["default"]], Selection(points=9))
    cached = WindowDataset([profiles["default"]], Selection(points=9), cache_bytes=200_000)
    for epoch in range(2):
        for i in range(len(plain)):
            same(plain.open(i, epoch=epoch), cached.open(i, epoch=epoch))
    assert 0 < len(cached._cache) < len(cached)
    assert cached._cache.used_bytes <= 200_000


LIGHT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"cv2", "av", "PIL", "pycolmap", "pydantic", "scipy", "psutil", "typer", "snakemake", "torch"}:
            raise ImportError(f"{name} is not in the base install")
sys.meta_path.insert(0, Absent())
from videolift.reader import Selection, open_dataset
import videolift.reader.adapters, videolift.reader.jepa, videolift.reader.mixing.mixture_file, videolift.reader.pairs
import videolift.reader.policies.policy_dataset
assert open_dataset(sys.argv[1], split="train", selection=Selection(points=8))[0]["query"].shape == (8, 3)
writing = [name for name in sys.modules if name.startswith("videolift.dataset.") and ("publish" in name or "writer" in name)]
assert not writing, f"Python 3.10 reads and cannot write: {writing}"
"""


def test_reading_needs_numpy_h5py_hdf5plugin_and_yaml_alone(dataset_folder):
    done = subprocess.run([sys.executable, "-c", LIGHT, dataset_folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
