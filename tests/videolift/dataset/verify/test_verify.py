"""verify: silent about good files and datasets, and a finding for every kind of harm put in."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
import yaml

from tests.videolift.dataset.conftest import write_packaged
from tests.videolift.reader.conftest import artifacts, package_truth, profiles  # noqa: F401
from videolift.dataset import publish_dataset
from videolift.dataset.profiles import PROFILES
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.file_summary import packed_statistics
from videolift.dataset.verify import verify_path
from videolift.errors import CorruptFile
from videolift.reader import PackagedFile, WindowDataset


@pytest.mark.parametrize("profile", PROFILES)
def test_a_good_file_has_no_findings(profiles, profile):  # noqa: F811
    assert verify_path(profiles[profile]) == []


def harm_camera_order(file):
    E = file["camera/T_camera_world"][...].astype(float)
    wrong = np.stack([[np.linalg.inv(E[s]) @ E[s + k] for k in range(5)] for s in file["tracks/window_start"][...]])
    file["tracks/pose9d"][...] = np.concatenate([wrong[..., :3, 0], wrong[..., :3, 1], wrong[..., :3, 3]], -1)


def harm_wrist_left_in_camera_k(file):
    wrist, K = file["hands/T_camera_wrist"][...], file["camera/intrinsics"][...]
    for w, start in enumerate(file["tracks/window_start"][...]):
        x = wrist[start : start + 5, 1, :3, 3]
        uvd = np.concatenate([((x @ K.T)[:, :2] / x[:, 2:] + 0.5) / 64, x[:, 2:]], 1)
        file["hands/window_displacement_uvd"][w, 1] = uvd - uvd[0]


def harm_lerped_fingers(file):
    R = np.tile(np.eye(3, dtype=np.float32), (12, 2, 15, 1, 1))
    R[3] = (R[3] + np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])) / 2
    file["hands/mano_pose"][...] = R


def harm(name, where, value):
    def change(file):
        array = file[name][...]
        array[where] = value(array[where]) if callable(value) else value
        file[name][...] = array

    return change


HARMS = {
    "pose9d": harm_camera_order,
    "hand_windows": harm_wrist_left_in_camera_k,
    "rotation": harm_lerped_fingers,
    "timestamps": harm("timestamps", 4, 0.0),
    "intrinsics": harm("camera/intrinsics", (0, 0), -3.0),
    "depth": harm("depth", (3, 5, 5), -1.0),
    "offsets": harm("tracks/offsets", 2, 10**6),
    "windows": harm("tracks/window_start", 1, 0),
    "query": harm("tracks/query", (0, 0), 1.5),
    "displacement": harm("tracks/displacement", (0, 0, 0), 0.1),
    "statistics": harm("rgb", (0, 0, 0, 0), lambda value: value ^ 1),
    "wrist_keypoint": harm("hands/keypoints_px", (slice(None), 1, 0, 0), lambda x: x + 30),
    "wrist_depth": harm("depth", slice(None), lambda z: np.float16(2) * z + 1),
}


@pytest.mark.parametrize("check", HARMS)
def test_every_harm_is_found_by_its_check(profiles, tmp_path, check):  # noqa: F811
    path = tmp_path / "harmed.hdf5"
    shutil.copy(profiles["default"], path)
    with h5py.File(path, "r+") as file:
        HARMS[check](file)
    assert check in {finding.check for finding in verify_path(path)}


@pytest.mark.parametrize("profile", PROFILES)
def test_hidden_steps_do_not_count_in_the_statistics(profiles, profile):  # noqa: F811
    with PackagedFile(profiles[profile]) as file:
        visible = file.array("tracks/visible")
        counted = Accumulators.unpack(packed_statistics(file)).parts["displacement"].samples
    assert counted == visible.sum() < visible.size


def test_hands_are_not_judged_by_a_depth_that_is_assumed(profiles, tmp_path):  # noqa: F811
    path = tmp_path / "prior.hdf5"
    shutil.copy(profiles["default"], path)
    with h5py.File(path, "r+") as file:
        HARMS["wrist_depth"](file)
        file.attrs["scale"] = np.bytes_(b"assumed")
        file.attrs["tier"] = np.bytes_(b"D")
    assert "wrist_depth" not in {finding.check for finding in verify_path(path)}


def test_an_array_of_another_length_is_found(profiles, tmp_path):  # noqa: F811
    path = tmp_path / "harmed.hdf5"
    shutil.copy(profiles["default"], path)
    with h5py.File(path, "r+") as file:
        file["hands/score"].resize(11, axis=0)
        del file["tracks"]
    texts = [finding.text for finding in verify_path(path)]
    assert "hands/score is (11, 2), expected (12, 2)" in texts
    assert "it should hold tracks/query" in texts


def read_everything(path):
    """As a careful trainer would: every sample through the reader."""
    windows = WindowDataset([path])
    for i in range(len(windows)):
        windows[i]
    with PackagedFile(path) as file:
        for name in ("timestamps", "camera/T_camera_world", "hands/valid", "hands/keypoints_px"):
            file.array(name)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_flipped_bit_in_any_dataset_is_found(profiles, tmp_path, profile):  # noqa: F811
    """Reading refuses it, or (arrays in one piece, which carry no checksum that HDF5 looks at) verify does."""
    content, rng = bytearray(profiles[profile].read_bytes()), np.random.default_rng(0)
    places = []
    with h5py.File(profiles[profile], locking=False) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) and item.size else None)
        for name in names:
            data = file[name]
            if data.chunks is None:
                places.append((name, data.id.get_offset() + int(rng.integers(data.nbytes))))
            else:
                chunk = data.id.get_chunk_info(int(rng.integers(data.id.get_num_chunks())))
                places.append((name, chunk.byte_offset + int(rng.integers(chunk.size))))
    assert len(places) > 20
    flipped = tmp_path / "flipped.hdf5"
    for name, place in places:
        content[place] ^= 1 << int(rng.integers(8))
        flipped.write_bytes(content)
        content[place] = profiles[profile].read_bytes()[place]
        assert verify_path(flipped), f"a flipped bit in {name} passed"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_cut_at_any_percent_never_opens(profiles, tmp_path, profile):  # noqa: F811
    content, torn = profiles[profile].read_bytes(), tmp_path / "torn.hdf5"
    for percent in range(100):
        torn.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(CorruptFile):
            PackagedFile(torn)
    assert [finding.check for finding in verify_path(torn)] == ["file"]


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "h5_dataset"
    kinds = [("A", "metric"), ("A", "metric"), ("C", "hand")]
    rows = [write_packaged(folder / f"v{i}.hdf5", i, tier=tier, scale=scale) for i, (tier, scale) in enumerate(kinds)]
    rows[0] = replace(rows[0], metadata={"subject": "p1"})
    publish_dataset(folder, rows, left_out={"x": "broken"})
    return folder


def test_a_published_dataset_has_no_findings(published):
    seen = []
    assert verify_path(published, progress=lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (3, 3)


def test_statistics_that_differ_from_the_files_are_found(published):
    path = published / "normalization_stats.yaml"
    table = yaml.safe_load(path.read_text())
    table["displacement_std"][1] *= 1.001
    path.write_text(yaml.safe_dump(table))
    assert [(f.check, f.text) for f in verify_path(published)] == [
        ("statistics", "displacement_std differs from what the files give")
    ]


def test_a_replaced_a_missing_and_a_stray_file_are_found(published, tmp_path):
    write_packaged(published / "v1.hdf5", 77)
    (published / "v2.hdf5").unlink()
    write_packaged(published / "stray.hdf5", 5)
    assert {(f.file, f.check) for f in verify_path(published)} == {
        ("v1.hdf5", "bytes"),
        ("v2.hdf5", "file"),
        ("stray.hdf5", "index"),
    }


def test_an_index_that_lies_is_found(published):
    with closing(sqlite3.connect(published / "index.sqlite")) as index, index:
        index.execute("UPDATE video SET frames = 7 WHERE video = (SELECT min(video) FROM video)")
    assert [f.text for f in verify_path(published)] == ["the index says frames 7, the file 6"]


def test_a_folder_that_was_never_published_is_found(tmp_path):
    assert [f.check for f in verify_path(tmp_path)] == ["index"]
