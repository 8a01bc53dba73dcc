"""Import of the predecessor's folders: its mistakes are put in on purpose, and must be gone afterwards."""

from __future__ import annotations

import os
import subprocess

import cv2
import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.sample import render
from videolift.artifacts import Depth, Hands, Tracks
from videolift.dataset.verify import verify_path
from videolift.errors import ConfigError
from videolift.geometry import MIRROR_X, is_rotation
from videolift.y2r import importer as module
from videolift.y2r.importer import import_y2r

LENGTH, FRAMES = 9, 12


@pytest.fixture(scope="module")
def truth():
    return render("orbit", frames=FRAMES, width=128, height=96, side="left")


def hands_with_its_mistakes(truth, K_corner):
    """Left: rotation of the mirrored right hand, joints rotated twice, wrist lifted from the pixel's corner, lerped fingers."""
    T, joints = truth.T_camera_wrist, truth.joints_camera
    R_right = MIRROR_X @ T[:, :3, :3] @ MIRROR_X
    t = T[:, :3, 3].copy()
    t[:, 0] -= 0.5 * t[:, 2] / K_corner[0, 0]
    t[:, 1] -= 0.5 * t[:, 2] / K_corner[1, 1]
    wrist = np.tile(np.eye(4), (FRAMES, 1, 1))
    wrist[:, :3, :3], wrist[:, :3, 3] = R_right, t
    local = joints - joints[:, :1]
    twice = np.einsum("tij,tnj->tni", R_right, local) + t[:, None]
    angles = np.linspace(0, 1.5, FRAMES)
    fingers = Rotation.from_rotvec(np.stack([0 * angles, 0 * angles, angles], 1)).as_matrix()[:, None].repeat(15, 1)
    right_fingers = fingers.copy()
    fingers[5], fingers[6] = (2 * fingers[4] + fingers[7]) / 3, (fingers[4] + 2 * fingers[7]) / 3
    nothing = {"right_valid": np.zeros(FRAMES, bool), "right_wrist_pose": np.full((FRAMES, 4, 4), np.nan)}
    nothing |= {"right_hand_pose": np.full((FRAMES, 15, 3, 3), np.nan), "right_joints_3d": np.full((FRAMES, 21, 3), np.nan)}
    left = {"left_valid": np.ones(FRAMES, bool), "left_wrist_pose": wrist, "left_hand_pose": fingers, "left_joints_3d": twice}
    return left | nothing | {"left_betas": np.arange(10.0), "right_betas": np.zeros(10)}, right_fingers


@pytest.fixture
def source(truth, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    (folder / "frames/00042").mkdir(parents=True)
    for t, image in enumerate(truth.rgb):
        cv2.imwrite(str(folder / f"frames/00042/{t:05d}.png"), image[..., ::-1])
    K_corner, E = truth.K.copy(), truth.T_camera_world
    K_corner[:2, 2] += 0.5
    (folder / "vipe").mkdir()
    K_all = np.tile(K_corner, (FRAMES, 1, 1)).astype(np.float32)
    np.savez(folder / "vipe/00042.npz", depths=truth.depth_m.astype(np.float16), intrinsics=K_all, extrinsics=E)
    tracks, windows, poses = [], [], []
    for start in range(FRAMES - LENGTH + 1):
        points = np.stack(np.meshgrid(np.arange(20, 110, 6), np.arange(4, 92, 6)), -1).reshape(-1, 2).astype(float)
        xyz, _, visible = truth.tracks(start, points, LENGTH)
        xyz = xyz[:, visible.all(0)]
        wrong = np.stack([np.linalg.inv(E[start]) @ E[start + k] for k in range(LENGTH)])
        right = np.stack([E[start + k] @ np.linalg.inv(E[start]) for k in range(LENGTH)])
        seen = np.einsum("kij,knj->kni", right[:, :3, :3], xyz) + right[:, None, :3, 3]
        back = np.linalg.inv(wrong)
        tracks.append((np.einsum("kij,knj->kni", back[:, :3, :3], seen) + back[:, None, :3, 3])[None])
        windows.append((start, start + LENGTH))
        poses.append(wrong)
    hands, _ = hands_with_its_mistakes(truth, K_corner)
    stored = {"tracks_3d": {"tracks": tracks, "windows": windows, "window_poses": poses, "window_length": LENGTH, "stride": 1}}
    stored["hand_poses"] = hands
    for name in stored:
        (folder / name).mkdir()
        (folder / name / "00042.pt").write_bytes(b"read by the fixture")
    monkeypatch.setattr(module, "load_pt", lambda path: stored[path.parent.name])
    return folder


@pytest.fixture
def imported(source, tmp_path):
    return import_y2r(source, tmp_path / "out", scale="metric"), tmp_path / "out"


def test_tracks_in_wrong_window_poses_are_put_right(imported, truth):
    _, out = imported
    with Tracks(out / "tracks_3d/00042.h5") as tracks:
        for start in (0, 3):
            window = tracks[start]
            px = window.uv_px[0]
            xyz, uv, _ = truth.tracks(start, px.astype(float).round(), LENGTH)
            np.testing.assert_allclose(px, px.round(), atol=1e-3)
            np.testing.assert_allclose(window.xyz_cam0, xyz, atol=2e-4)
            np.testing.assert_allclose(window.uv_px, uv, atol=0.05)


def test_left_hands_are_mirrored_and_joints_rotated_once(imported, truth):
    _, out = imported
    with Hands(out / "hand_poses/00042.h5") as hands:
        np.testing.assert_allclose(hands.T_camera_wrist[:, 0], truth.T_camera_wrist, atol=1e-6)
        measured = ~hands.interpolated[:, 0]
        np.testing.assert_allclose(hands.joints_camera[measured, 0], truth.joints_camera[measured], atol=1e-5)
        assert hands.valid.tolist() == [[True, False]] * FRAMES


def test_lerped_fingers_become_rotations_and_are_flagged(imported, truth):
    _, out = imported
    with Hands(out / "hand_poses/00042.h5") as hands:
        assert np.flatnonzero(hands.interpolated[:, 0]).tolist() == [5, 6]
        assert is_rotation(hands.mano_pose[:, 0]).all()
        _, fingers = hands_with_its_mistakes(truth, truth.K)
        np.testing.assert_allclose(hands.mano_pose[:, 0], MIRROR_X @ fingers @ MIRROR_X, atol=1e-6)
        assert np.isnan(hands.joints_camera[5:7, 0]).all()


def test_depth_poses_and_intrinsics_are_taken_over_in_our_conventions(imported, truth):
    _, out = imported
    with Depth(out / "depth/00042.h5") as depth:
        np.testing.assert_allclose(depth.K, truth.K, rtol=1e-6)
        np.testing.assert_allclose(depth.T_camera_world, truth.T_camera_world, atol=1e-6)
        np.testing.assert_array_equal(depth[0 : len(depth)], truth.depth_m.astype(np.float16))
        assert (depth.tier, depth.scale) == ("B", "metric")


def test_the_imported_dataset_passes_verify_and_names_what_was_done(imported):
    report, out = imported
    assert verify_path(out / "h5_dataset") == []
    notes = " ".join(report.imported["00042"])
    for words in ("window poses", "rotated twice", "mirrored", "2 hands were interpolated", "half a pixel", "cannot be told"):
        assert words in notes
    assert "rotated twice" in (out / "h5_dataset/README.md").read_text()


def test_without_metres_hand_translations_are_given_up(source, tmp_path):
    report = import_y2r(source, tmp_path / "out")
    with Hands(tmp_path / "out/hand_poses/00042.h5") as hands:
        assert np.isnan(hands.T_camera_wrist[:, 0, :3, 3]).all()
        assert is_rotation(hands.T_camera_wrist[:, 0, :3, :3]).all()
    assert "unknown unit" in " ".join(report.imported["00042"])


def test_without_metres_the_unit_is_the_clips_median_depth(source, truth, tmp_path):
    import_y2r(source, tmp_path / "out")
    unit = np.median(truth.depth_m[truth.depth_m > 0])
    with Depth(tmp_path / "out/depth/00042.h5") as depth, Tracks(tmp_path / "out/tracks_3d/00042.h5") as tracks:
        z = depth[0 : len(depth)].astype(float)
        assert np.median(z[z > 0]) == pytest.approx(1.0, abs=2e-3)
        want = truth.T_camera_world[:, :3, 3] / unit
        np.testing.assert_allclose(depth.T_camera_world[:, :3, 3], want, rtol=5e-3, atol=1e-3)
        window = tracks[3]
        xyz, uv, _ = truth.tracks(3, window.uv_px[0].astype(float).round(), LENGTH)
        np.testing.assert_allclose(window.xyz_cam0, xyz / unit, rtol=5e-3, atol=1e-3)
        np.testing.assert_allclose(window.uv_px, uv, atol=0.05)
    assert verify_path(tmp_path / "out/h5_dataset") == []


def test_windows_too_short_for_the_tracker_are_left_out(source, tmp_path, monkeypatch):
    load = module.load_pt
    monkeypatch.setattr(module, "load_pt", lambda path: load(path) | {"window_length": 8})
    report = import_y2r(source, tmp_path / "out")
    assert "motionless" in " ".join(report.imported["00042"])
    assert not (tmp_path / "out/tracks_3d/00042.h5").exists()


def test_a_damaged_video_is_left_out_and_the_others_imported(source, tmp_path):
    (source / "frames/00043").mkdir()
    (source / "frames/00043/0.png").write_bytes(b"no image")
    report = import_y2r(source, tmp_path / "out")
    assert list(report.imported) == ["00042"]
    assert "is not an image" in report.left_out["00043"]


def test_a_folder_that_is_not_the_predecessors_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no frames/ and no h5_dataset/"):
        import_y2r(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def first_camera_is_the_world(truth):
    E = truth.T_camera_world
    return E @ np.linalg.inv(E[0])


def packaged_with_its_mistakes(path, truth, E):
    """As the predecessor packaged it: cut to the square, poses inv(E_s) E_k, tracks in them, wrists left in camera k."""
    left, side, L = 16, 96, LENGTH
    K = truth.K.copy()
    K[:2, 2] += 0.5
    K[0, 2] -= left
    R_right = MIRROR_X @ truth.T_camera_wrist[:, :3, :3] @ MIRROR_X
    t = truth.T_camera_wrist[:, :3, 3].copy()
    t[:, :2] -= 0.5 * t[:, 2:] / np.array([K[0, 0], K[1, 1]])

    def uvd(xyz):
        h = xyz @ K.T
        return np.concatenate([h[..., :2] / h[..., 2:] / side, xyz[..., 2:]], -1)

    def six(R):
        return np.concatenate([R[..., 0], R[..., 1]], -1)

    with h5py.File(path, "w") as file:
        file["root/video"] = truth.rgb[:, :, left : left + side].transpose(0, 3, 1, 2)
        z = truth.depth_m[:, :, left : left + side].astype(np.float16).astype(np.float32)
        file["root/depth"] = np.where(z > 0, np.clip(z, 0.1, 1.0), 0)
        file["root/intrinsics"], file["root/num_track_ts"], file["root/track_type"] = K, L, "3d"
        file["root/text"] = "lift"
        for start in range(FRAMES - L + 1):
            points = np.stack(np.meshgrid(np.arange(20, 110, 6), np.arange(4, 92, 6)), -1).reshape(-1, 2).astype(float)
            xyz, _, visible = truth.tracks(start, points, L)
            xyz = xyz[:, visible.all(0)]
            P = np.linalg.inv(E[start]) @ E[start : start + L]
            right = E[start : start + L] @ np.linalg.inv(E[start])
            seen = np.einsum("kij,knj->kni", right[:, :3, :3], xyz) + right[:, None, :3, 3]
            back = np.linalg.inv(P)
            seen = uvd(np.einsum("kij,knj->kni", back[:, :3, :3], seen) + back[:, None, :3, 3]).astype(np.float32)
            group = file.create_group(f"root/tracks/frame_{start:04d}")
            query = seen[0].copy()
            query[:, 2] = np.clip(query[:, 2], 0.1, 1.0)
            group["query_coords"], group["displacements"] = query, seen - seen[:1]
            group["poses"] = np.concatenate([six(P[:, :3, :3]), P[:, :3, 3]], -1)
            wrist = uvd(t[start : start + L])
            group["left_wrist_query_uvd"], group["left_wrist_uvd_displacements"] = wrist[0], wrist - wrist[:1]
            R = R_right[start : start + L]
            group["left_wrist_query_rot_6d"] = six(R[0])
            group["left_wrist_rot_displacements"] = six(R @ R[0].T)


def test_a_video_of_which_only_the_packaged_file_is_left_comes_back(truth, first_camera_is_the_world, tmp_path):
    (tmp_path / "data/h5_dataset").mkdir(parents=True)
    packaged_with_its_mistakes(tmp_path / "data/h5_dataset/00007.hdf5", truth, first_camera_is_the_world)
    report = import_y2r(tmp_path / "data", tmp_path / "out", scale="metric")
    assert report.left_out == {}
    assert verify_path(tmp_path / "out/h5_dataset") == []
    with Depth(tmp_path / "out/depth/00007.h5") as depth:
        np.testing.assert_allclose(depth.T_camera_world, first_camera_is_the_world, atol=1e-5)
    with Tracks(tmp_path / "out/tracks_3d/00007.h5") as tracks:
        window = tracks[3]
        xyz, _, _ = truth.tracks(3, window.uv_px[0].astype(float).round() + [16, 0], LENGTH)
        np.testing.assert_allclose(window.xyz_cam0, xyz, atol=5e-4)
        assert (window.xyz_cam0[0, :, 2] < 1.0).all(), "a clipped depth was taken for a measured one"
    with Hands(tmp_path / "out/hand_poses/00007.h5") as hands:
        np.testing.assert_allclose(hands.T_camera_wrist[:, 0], truth.T_camera_wrist, atol=1e-5)
    assert "first camera being the world's origin" in " ".join(report.imported["00007"])


def test_poses_that_do_not_agree_with_the_depth_are_left_out(truth, tmp_path):
    """Another world's origin: the chained poses are wrong, and the depth maps say so."""
    (tmp_path / "data/h5_dataset").mkdir(parents=True)
    turned = np.eye(4)
    turned[:3, :3], turned[:3, 3] = Rotation.from_rotvec([0, 2.0, 1.0]).as_matrix(), [1.0, 2.0, -3.0]
    packaged_with_its_mistakes(tmp_path / "data/h5_dataset/00007.hdf5", truth, truth.T_camera_world @ turned)
    report = import_y2r(tmp_path / "data", tmp_path / "out", scale="metric")
    assert "camera and tracks: left out" in " ".join(report.imported["00007"])
    assert not (tmp_path / "out/tracks_3d/00007.h5").exists()
    assert verify_path(tmp_path / "out/h5_dataset") == []


LOAD = """
import sys, numpy as np, torch
from pathlib import Path
from videolift.y2r.importer import load_pt
from videolift.errors import CorruptFile
folder = Path(sys.argv[1])
good = {"tracks": [torch.ones(1, 2, 3, 3)], "windows": [(0, 2)], "valid": np.ones(3, bool), "n": np.int64(3)}
torch.save(good, folder / "good.pt")
found = load_pt(folder / "good.pt")
assert found["tracks"][0].shape == (1, 2, 3, 3) and found["valid"].all() and found["n"] == 3, found
class Evil:
    def __reduce__(self):
        return (open, (str(folder / "harmed"), "w"))
torch.save({"x": Evil()}, folder / "evil.pt")
try:
    load_pt(folder / "evil.pt")
except CorruptFile:
    assert not (folder / "harmed").exists()
else:
    sys.exit("it was opened")
"""


@pytest.mark.peers
def test_pt_files_open_without_running_what_is_in_them(tmp_path):
    python = os.environ.get("VIDEOLIFT_PEERS")
    if not python:
        pytest.skip("VIDEOLIFT_PEERS names no Python with torch")
    done = subprocess.run(
        [python, "-c", LOAD, tmp_path], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr[-2000:]
