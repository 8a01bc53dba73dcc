"""The predecessor's layout, read the way its loaders read it, against a packaging written from its description."""

from __future__ import annotations

import cv2
import h5py
import numpy as np
import pytest
import yaml

from tests.conftest import SMALL_DISK_BYTES
from tests.videolift.reader.conftest import artifacts, dataset_folder, package_truth  # noqa: F401
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset import publish_dataset
from videolift.errors import ConfigError, Transient
from videolift.y2r.exporter import export_y2r

SIZE, LENGTH = 64, 5


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("y2r") / "h5_dataset"
    row = package_truth(artifacts, folder / "v.hdf5")
    publish_dataset(folder, [row], left_out={})
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    out = folder.parent / "exported"
    assert export_y2r(folder, out).left_out == {}
    with h5py.File(out / "v.hdf5") as file:
        yield file


def theirs(artifacts, nearest):  # noqa: F811
    """The predecessor's packaging of one video, from its description, with its point order and its K (corner origin)."""
    with Clip(artifacts / "frames/clip.h5") as clip, Depth(artifacts / "depth/clip.h5") as depth:
        rgb, z, K, E = clip[0 : len(clip)], depth[0 : len(depth)], depth.K.astype(float), depth.T_camera_world.astype(float)
    height, width = rgb.shape[1:3]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    video = [cv2.resize(f[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_LANCZOS4) for f in rgb]
    depths = [
        cv2.resize(f[top : top + side, left : left + side].astype(np.float32), (SIZE, SIZE), interpolation=nearest) for f in z
    ]
    depths = np.stack(depths)
    depths = np.where(depths > 0, np.clip(depths, 0.1, 2.5), 0).astype(np.float32)
    K[:2, 2] += 0.5 - np.array([left, top])
    K[:2] *= SIZE / side
    windows = {}
    with Tracks(artifacts / "tracks_3d/clip.h5") as tracks:
        for w in range(len(tracks)):
            xyz = tracks[w].xyz_cam0[:LENGTH].astype(float)
            h = xyz @ K.T
            uvd = np.concatenate([h[..., :2] / h[..., 2:] / SIZE, xyz[..., 2:]], -1).astype(np.float32)
            windows[int(tracks.window_start[w])] = uvd
    return np.stack(video).transpose(0, 3, 1, 2), depths, K.astype(np.float32), windows, E


def test_rgb_is_theirs_bit_for_bit(exported, artifacts):  # noqa: F811
    np.testing.assert_array_equal(exported["root/video"][...], theirs(artifacts, cv2.INTER_NEAREST_EXACT)[0])


def test_depth_is_exactly_nearest_and_theirs_where_asked_for(folder, exported, artifacts, tmp_path):  # noqa: F811
    exact, floor = theirs(artifacts, cv2.INTER_NEAREST_EXACT)[1], theirs(artifacts, cv2.INTER_NEAREST)[1]
    np.testing.assert_array_equal(exported["root/depth"][...], exact)
    (artifacts / "depth/v.h5").write_bytes((artifacts / "depth/clip.h5").read_bytes())
    export_y2r(folder, tmp_path, nearest="floor", depth_artifacts=artifacts / "depth")
    with h5py.File(tmp_path / "v.hdf5") as file:
        np.testing.assert_array_equal(file["root/depth"][...], floor)
    assert (exact != floor).any()


def test_intrinsics_count_from_the_corner(exported, artifacts):  # noqa: F811
    np.testing.assert_allclose(exported["root/intrinsics"][...], theirs(artifacts, cv2.INTER_NEAREST_EXACT)[2], rtol=1e-6)


def test_query_and_displacement_are_theirs_to_a_millionth(exported, artifacts):  # noqa: F811
    windows = theirs(artifacts, cv2.INTER_NEAREST_EXACT)[3]
    assert sorted(exported["root/tracks"]) == [f"frame_{start:04d}" for start in sorted(windows)]
    for start, uvd in windows.items():
        group = exported[f"root/tracks/frame_{start:04d}"]
        query, moved = group["query_coords"][...], group["displacements"][...]
        found = {tuple(np.round(q[:2], 4)): i for i, q in enumerate(uvd[0])}
        order = [found[tuple(np.round(q[:2], 4))] for q in query]
        np.testing.assert_allclose(query, uvd[0, order], atol=1e-6)
        np.testing.assert_allclose(moved, (uvd - uvd[:1])[:, order], atol=1e-6)


def test_poses_map_camera_0_to_camera_k(exported, artifacts):  # noqa: F811
    E = theirs(artifacts, cv2.INTER_NEAREST_EXACT)[4]
    for start in (0, 4):
        for k, pose in enumerate(exported[f"root/tracks/frame_{start:04d}/poses"][...]):
            T = E[start + k] @ np.linalg.inv(E[start])
            np.testing.assert_allclose(pose, [*T[:3, 0], *T[:3, 1], *T[:3, 3]], atol=1e-5)


def test_hands_are_present_where_valid_at_every_step(exported, artifacts):  # noqa: F811
    with Hands(artifacts / "hand_poses/clip.h5") as hands:
        assert hands.valid[:, 1].all()
    group = exported["root/tracks/frame_0003"]
    assert not [name for name in group if name.startswith("left_wrist")]
    shapes = {name: group[name].shape for name in group if name.startswith("right_wrist")}
    assert shapes == {
        "right_wrist_query_uvd": (3,),
        "right_wrist_uvd_displacements": (LENGTH, 3),
        "right_wrist_query_rot_6d": (6,),
        "right_wrist_rot_displacements": (LENGTH, 6),
    }


def test_its_loader_finds_every_window(exported):
    """The steps of the predecessor's index: the frame groups, their point counts, the scalars."""
    frames = exported["root/video"].shape[0]
    assert (int(exported["root/num_frames"][()]), int(exported["root/num_track_ts"][()])) == (frames, LENGTH)
    assert exported["root/track_type"][()] == b"3d"
    valid = [t for t in range(frames) if f"frame_{t:04d}" in exported["root/tracks"]]
    assert valid == list(range(frames - LENGTH + 1))


def test_statistics_are_those_of_the_exported_arrays(exported, folder):
    stats = yaml.safe_load((folder.parent / "exported" / "normalization_stats.yaml").read_text())
    groups = [exported[f"root/tracks/{name}"] for name in exported["root/tracks"]]
    for key, name, width in (("displacements", "displacement", 3), ("poses", "pose", 9)):
        values = np.concatenate([group[key][...].reshape(-1, width) for group in groups]).astype(float)
        np.testing.assert_allclose(stats[f"{name}_mean"], values.mean(0), atol=2e-6)
        np.testing.assert_allclose(stats[f"{name}_std"], values.std(0), atol=2e-6)
        assert stats[f"{name}_num_samples"] == len(values)
    depth = np.concatenate([exported["root/depth"][...].ravel(), *[g["query_coords"][:, 2] for g in groups]]).astype(float)
    depth = depth[depth > 0]
    np.testing.assert_allclose([stats["depth_mean"], stats["depth_std"]], [depth.mean(), depth.std()], rtol=1e-4)
    assert (stats["track_type"], stats["depth_num_samples"]) == ("3d", len(depth))


def test_every_profile_exports_and_splits_are_respected(dataset_folder, tmp_path):  # noqa: F811
    assert len(export_y2r(dataset_folder, tmp_path / "all").files) == 3
    assert [path.name for path in export_y2r(dataset_folder, tmp_path / "val", split="val").files] == ["v2.hdf5"]


def test_a_video_without_tracks_is_left_out_and_named(artifacts, tmp_path):  # noqa: F811
    rows = [package_truth(artifacts, tmp_path / "d" / "a.hdf5"), package_truth(artifacts, tmp_path / "d" / "b.hdf5", tracks=None)]
    publish_dataset(tmp_path / "d", rows, left_out={})
    assert export_y2r(tmp_path / "d", tmp_path / "out").left_out == {"b": "it has only depth, hands"}


def test_floor_sampling_needs_the_depth_artifacts(folder, tmp_path):
    with pytest.raises(ConfigError, match="nearest is floor"):
        export_y2r(folder, tmp_path, nearest="floor")


def test_a_full_disk_stops_the_export_with_an_error_and_leaves_no_file(folder, small_disk):
    (small_disk / "filler").write_bytes(bytes(SMALL_DISK_BYTES - 64 * 1024))
    with pytest.raises(Transient, match="No space left"):
        export_y2r(folder, small_disk / "out")
    assert list((small_disk / "out").iterdir()) == []
