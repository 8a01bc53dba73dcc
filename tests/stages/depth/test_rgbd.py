"""rgbd: sensor depth in the clip's view, poses as given or followed, hostile files refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from stages.depth.rgbd import RgbdDepth
from videolift.errors import BadInput
from videolift.evaluation import depth_errors, pose_errors
from videolift.geometry import crop_intrinsics, invert_pose, project, resize_intrinsics, transform, unproject
from videolift.inputs.framing import Framing


@pytest.fixture(scope="module")
def orbit(orbit_truth):
    """The first 24 frames of the orbit."""
    parts = ("rgb", "depth_m", "T_camera_world", "instance", "pts_seconds", "joints_world", "T_world_wrist")
    return replace(orbit_truth, **{name: getattr(orbit_truth, name)[:24] for name in parts})


def test_depth_poses_and_camera_arrive_as_given(small_truth, make_clip, run, save_depth):
    depth, quality = run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth))
    assert (depth.tier, depth.scale, depth.attrs["pose"], depth.attrs["intrinsics"]) == ("A", "metric", "given", "given")
    assert np.array_equal(depth[:], small_truth.depth_m.astype(np.float16))
    assert np.allclose(depth.T_camera_world, small_truth.T_camera_world, atol=1e-6)
    assert np.allclose(depth.K, small_truth.K)
    assert depth.pose_valid.all()
    assert quality.checks == ()
    assert quality.figures["extrinsics_px"] < 1


def test_what_is_not_a_positive_number_is_invalid(small_truth, make_clip, run, save_depth):
    depths = small_truth.depth_m.copy()
    depths[:, 0, :4] = [np.nan, np.inf, -1.0, 0.0]
    depth, _ = run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, depths=depths))
    assert (depth[:][:, 0, :4] == 0).all()
    assert np.isfinite(depth[:]).all()


@pytest.mark.parametrize("factor", [2, 0.5, 1.5])
def test_depth_of_another_size_keeps_points_in_place(small_truth, make_clip, run, save_depth, factor):
    """A linear interpolation, INTER_NEAREST, or intrinsics scaled without the half pixel all shift points between images."""
    height, width = small_truth.depth_m.shape[1:]
    size = (round(width * factor), round(height * factor))
    K_other = resize_intrinsics(small_truth.K, (width, height), size)
    v, u = np.mgrid[: size[1], : size[0]]
    plane = 0.8 + 0.3 * (v - K_other[1, 2]) / K_other[1, 1]  # z-depth that is exact at every size
    depths = np.repeat(plane[None].astype(np.float32), len(small_truth.rgb), axis=0)
    intrinsics = np.repeat(K_other[None], len(small_truth.rgb), axis=0)
    given = save_depth(small_truth, depths=depths, intrinsics=intrinsics, extrinsics=None)
    depth, _ = run(RgbdDepth, make_clip(small_truth.rgb), depth=given, rgbd={"pose": "static"})
    assert np.allclose(depth.K, small_truth.K, atol=1e-4)
    rows = np.arange(height)
    expected = 0.8 + 0.3 * (rows - small_truth.K[1, 2]) / small_truth.K[1, 1]
    off = depth[0][:, width // 2].astype(np.float64) - expected
    nearest_px = 0.5 / factor  # the nearest pixel is at most half of its own size away
    assert np.abs(off).max() <= 0.3 * nearest_px / small_truth.K[1, 1] + 1e-3
    assert abs(off.mean()) < 0.3 * 0.1 / small_truth.K[1, 1] + (0.3 * 0.25 / small_truth.K[1, 1] if factor == 2 else 0) + 2e-4


def test_depth_is_cut_as_the_clip_was(orbit, make_clip, run, save_depth):
    """The clip shows a resized, cropped part of the source; depth comes at the source's own size."""
    framing = Framing((512, 384), (256, 192), (32, 0), (192, 192))
    rgb = np.stack([cv2.resize(frame, (256, 192), interpolation=cv2.INTER_AREA)[:, 32:224] for frame in orbit.rgb])
    depth, quality = run(RgbdDepth, make_clip(rgb, framing=framing), depth=save_depth(orbit))
    assert np.allclose(depth.K, crop_intrinsics(resize_intrinsics(orbit.K, (512, 384), (256, 192)), 32, 0), atol=1e-4)
    exact = np.stack([cv2.resize(z, (256, 192), interpolation=cv2.INTER_NEAREST_EXACT)[:, 32:224] for z in orbit.depth_m])
    assert (np.abs(depth[:].astype(np.float32) - exact) < 0.02 * exact).mean() > 0.99
    assert quality.figures["extrinsics_px"] < 1


def test_depth_of_another_view_is_refused(small_truth, make_clip, run, save_depth):
    turned = np.ascontiguousarray(np.swapaxes(small_truth.depth_m, 1, 2))
    with pytest.raises(BadInput, match="144x192") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, depths=turned))
    assert caught.value.code == "depth_view"


def test_poses_given_the_wrong_way_round_are_refused(orbit, make_clip, run, save_depth):
    given = save_depth(orbit, extrinsics=invert_pose(orbit.T_camera_world))
    with pytest.raises(BadInput, match="camera to world") as caught:
        run(RgbdDepth, make_clip(orbit.rgb), depth=given)
    assert caught.value.code == "depth_extrinsics"


def test_poses_that_disagree_with_the_images_are_told(orbit, make_clip, run, save_depth):
    wrong = orbit.T_camera_world.copy()
    wrong[:, :3, 3] *= 3
    _, quality = run(RgbdDepth, make_clip(orbit.rgb), depth=save_depth(orbit, extrinsics=wrong))
    assert "disagree" in quality.checks[0]


def test_poses_that_are_not_finite_are_invalid(small_truth, make_clip, run, save_depth):
    poses = small_truth.T_camera_world.copy()
    poses[3, 0, 0] = np.nan
    depth, quality = run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, extrinsics=poses))
    assert depth.pose_valid.tolist() == [k != 3 for k in range(24)]
    assert np.isnan(depth.T_camera_world[3]).all()
    assert "1 of 24" in quality.checks[0]


@pytest.mark.parametrize("damage", ["scaled", "mirrored", "last row"])
def test_poses_that_are_no_rigid_motion_are_refused(small_truth, make_clip, run, save_depth, damage):
    poses = small_truth.T_camera_world.copy()
    if damage == "last row":
        poses[:, 3, 0] = 1.0
    else:
        poses[:, :3, 0] *= 1.1 if damage == "scaled" else -1.0
    with pytest.raises(BadInput, match="no rotation and translation") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, extrinsics=poses))
    assert caught.value.code == "depth_extrinsics"


def test_without_extrinsics_a_camera_that_stands_still_is_identity(make_clip, run, save_depth, tripod):
    depth, quality = run(RgbdDepth, make_clip(tripod.rgb), depth=save_depth(tripod, extrinsics=None))
    assert depth.attrs["pose"] == "static"
    assert np.array_equal(depth.T_camera_world, np.tile(np.eye(4, dtype=np.float32), (len(depth), 1, 1)))
    assert "stands still" in quality.checks[0]


def test_without_extrinsics_a_moving_camera_is_followed_in_metres(orbit, make_clip, run, save_depth):
    depth, quality = run(RgbdDepth, make_clip(orbit.rgb), depth=save_depth(orbit, extrinsics=None))
    assert depth.attrs["pose"] == "sfm"
    assert depth.pose_valid.all()
    assert pose_errors(depth.T_camera_world, orbit.T_camera_world, scale_known=True).ate < 1.5e-3  # no scale is forgiven
    assert depth_errors(depth[:], orbit.depth_m, align=False).abs_rel < 1e-3
    moved = unproject([[200.0, 300.0]], orbit.depth_m[0, 300, 200:201], orbit.K)
    seen = project(transform(depth.T_camera_world[23], moved), orbit.K)
    T_true = orbit.T_camera_world[23] @ invert_pose(orbit.T_camera_world[0])
    assert np.linalg.norm(seen - project(transform(T_true, moved), orbit.K)) < 2.0
    assert "24 of 24" in quality.checks[0]


def test_pose_given_without_extrinsics_is_refused(small_truth, make_clip, run, save_depth):
    with pytest.raises(BadInput, match="has no extrinsics"):
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, extrinsics=None), rgbd={"pose": "given"})


def test_without_intrinsics_the_calibration_is_used(small_truth, make_clip, run, save_depth):
    given = save_depth(small_truth, intrinsics=None)
    depth, _ = run(RgbdDepth, make_clip(small_truth.rgb, K_given=small_truth.K.tolist()), depth=given)
    assert np.allclose(depth.K, small_truth.K)
    with pytest.raises(BadInput, match="no intrinsics") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=given)
    assert caught.value.code == "depth_intrinsics"


def test_a_zoom_is_refused(small_truth, make_clip, run, save_depth):
    K = np.repeat(small_truth.K[None], 24, axis=0)
    K[12:, :2, :2] *= 1.5
    with pytest.raises(BadInput, match="change by"):
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, intrinsics=K))


def test_intrinsics_of_another_image_size_are_refused(small_truth, make_clip, run, save_depth):
    K = resize_intrinsics(small_truth.K, (192, 144), (640, 480))
    with pytest.raises(BadInput, match="outside the depth images"):
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, intrinsics=K))


def test_millimetres_are_refused(small_truth, make_clip, run, save_depth):
    with pytest.raises(BadInput, match="median depth") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, depths=1000 * small_truth.depth_m))
    assert caught.value.code == "depth_unit"
    assert "1000" in caught.value.remedy


def test_depth_without_a_single_value_is_refused(small_truth, make_clip, run, save_depth):
    with pytest.raises(BadInput, match="no pixel") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=save_depth(small_truth, depths=0 * small_truth.depth_m))
    assert caught.value.code == "depth_empty"


def test_a_row_without_a_depth_file_says_what_to_do(small_truth, make_clip, run):
    with pytest.raises(BadInput, match="no depth file") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb))
    assert "overrides" in caught.value.remedy


class _Evil:
    def __init__(self, attacked):
        self.attacked = attacked

    def __reduce__(self):
        return os.system, (f"echo attacked > {self.attacked}",)


def _npy(shape, dtype="<f4", data=b""):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "case",
    [
        "missing",
        "pickle",
        "objects",
        "lies",
        "overflow",
        "integers",
        "columns",
        "text",
        "truncated",
        "flipped",
        "bzip2",
        "pipe",
        "2d",
    ],
)
def test_hostile_files_are_refused(small_truth, make_clip, run, save_depth, tmp_path, case):
    path = save_depth(small_truth) if case in ("truncated", "flipped") else tmp_path / "evil.npz"
    if case == "pickle":
        path.write_bytes(pickle.dumps(_Evil(tmp_path / "attacked")))
    elif case == "objects":
        np.savez(path, depths=np.array([_Evil(tmp_path / "attacked")] * 24, object))
    elif case == "integers":
        np.savez(path, depths=(1000 * small_truth.depth_m).astype(np.uint16), intrinsics=small_truth.K)
    elif case == "columns":
        np.savez(path, depths=np.asfortranarray(small_truth.depth_m), intrinsics=small_truth.K)
    elif case == "2d":
        np.savez(path, depths=small_truth.depth_m[0], intrinsics=small_truth.K)
    elif case == "text":
        path.write_text("not a zip")
    elif case == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif case == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0xFF
        path.write_bytes(bytes(data))
    elif case == "pipe":
        os.mkfifo(path)
    elif case in ("lies", "overflow", "bzip2"):
        shape = {"lies": (24, 60000, 60000), "overflow": (2**40, 2**20, 2**20), "bzip2": (24, 144, 192)}[case]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2 if case == "bzip2" else zipfile.ZIP_STORED) as archive:
            archive.writestr("depths.npy", _npy(shape, data=small_truth.depth_m.tobytes()))
    with pytest.raises(BadInput) as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=path)
    assert caught.value.code == "depth_file"
    assert not (tmp_path / "attacked").exists()


def test_another_number_of_images_is_refused_before_any_is_read(small_truth, make_clip, run, save_depth, tmp_path, write_video):
    video = write_video(24, fps=10)
    given = save_depth(small_truth, depths=small_truth.depth_m[:20], intrinsics=small_truth.K, extrinsics=None)
    with pytest.raises(BadInput, match="20 depth images, 24 frames in the clip and 24 in the video") as caught:
        run(RgbdDepth, make_clip(small_truth.rgb), depth=given, source=video)
    assert caught.value.code == "depth_frames"


def test_depth_of_every_source_frame_is_chosen_by_time(small_truth, make_clip, run, save_depth, write_video):
    """The source has 30 frames a second, the clip every third of them."""
    video = write_video(72, fps=30)
    depths = np.zeros((72, 144, 192), np.float32)
    depths[:] = np.arange(1, 73)[:, None, None] / 16  # exact in float16
    given = save_depth(small_truth, depths=depths, intrinsics=small_truth.K, extrinsics=None)
    clip = make_clip(small_truth.rgb, pts_seconds=np.arange(24) * 3 / 30)
    depth, _ = run(RgbdDepth, clip, depth=given, source=video, rgbd={"pose": "static"})
    assert np.array_equal(depth[:][:, 50, 50] * 16, np.arange(1, 73, 3))


def test_a_killed_run_goes_on_and_ends_with_equal_bytes(small_truth, make_clip, run, save_depth, tmp_path):
    clip, given = make_clip(small_truth.rgb), save_depth(small_truth)
    whole, quality = run(RgbdDepth, clip, depth=given, segment_s=0.8, segments=tmp_path / "one")

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done > 2 * 24 + 8:
            raise KilledError

    with pytest.raises(KilledError):
        run(RgbdDepth, clip, depth=given, segment_s=0.8, segments=tmp_path / "two", progress=kill)
    seen = []
    again, again_quality = run(
        RgbdDepth, clip, depth=given, segment_s=0.8, segments=tmp_path / "two", progress=lambda done, total: seen.append(done)
    )
    assert min(done for done in seen if done > 0) == 2 * 24 + 16
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert again_quality == quality
