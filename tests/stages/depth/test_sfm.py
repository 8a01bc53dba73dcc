"""sfm against rendered truth, its fall-backs, and that equal work gives equal bytes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import follow_features
from stages.depth.motion.grey import GreyFrames
from stages.depth.motion.motion_gates import Motion
from stages.depth.motion.trajectory import solve_trajectory
from stages.depth.sfm import SfmDepth
from stages.depth.sfm_settings import SfmSettings
from stages.sample import render
from tests.stages.depth.motion.test_features import texture
from tests.stages.depth.truth import moving_now
from videolift.errors import BadInput
from videolift.evaluation import depth_errors, focal_error, marked_valid, pose_errors
from videolift.geometry import invert_pose, pinhole
from videolift.inputs.focal_curves import MIN_RISE, FocalCurve
from videolift.inputs.framing import Framing


@pytest.fixture(scope="module")
def small():
    """24 frames of the orbit at 320 x 240."""
    return render("orbit", frames=24, width=320, height=240)


@pytest.mark.slow  # in CI `benchmarks.truth` holds the sample's own clip against these targets
def test_orbit_meets_its_targets(orbit_truth, make_clip, run):
    """The whole clip: poses, focal length, depth, and what moves left out."""
    depth, quality = run(SfmDepth, make_clip(orbit_truth.rgb))
    assert (depth.tier, depth.scale, depth.attrs["pose"], depth.attrs["intrinsics"]) == ("C", "arbitrary", "sfm", "estimated")
    assert depth.pose_valid.all()
    assert pose_errors(depth.T_camera_world, orbit_truth.T_camera_world).ate < 2e-3
    assert abs(focal_error(depth.K, orbit_truth.K)) < 0.02
    errors = depth_errors(depth[:], orbit_truth.depth_m, align=True)
    assert errors.abs_rel < 0.05
    assert depth_errors(depth[:], orbit_truth.depth_m, align=False).abs_rel > 0.2  # its unit is not the metre
    assert errors.valid_share > 0.6
    moving = np.stack([moving_now(orbit_truth, k) for k in range(0, 60, 3)])
    assert marked_valid(depth[:][::3, ::4, ::4], moving) < 0.02
    assert np.median(depth[:][depth[:] > 0]) == pytest.approx(1.0, abs=1e-3)
    assert pose_errors(depth.T_camera_world, orbit_truth.T_camera_world).scale == pytest.approx(errors.scale, rel=0.03)
    assert "60 of 60 frames placed" in quality.checks[0]
    assert quality.figures["valid_share"] == pytest.approx(np.mean(depth[:] > 0), abs=1e-3)


def test_a_calibration_is_kept_to_the_last_digit(small, make_clip, run):
    depth, quality = run(SfmDepth, make_clip(small.rgb, K_given=small.K.tolist()))
    assert depth.attrs["intrinsics"] == "given"
    assert np.array_equal(depth.K, small.K.astype(np.float32))
    assert depth_errors(depth[:], small.depth_m, align=True).abs_rel < 0.03
    assert quality.figures["hfov_deg"] == pytest.approx(np.degrees(2 * np.arctan(160 / small.K[0, 0])))


def test_a_camera_that_stands_still_gets_a_plane_that_says_so(make_clip, run, tripod):
    depth, quality = run(SfmDepth, make_clip(tripod.rgb))
    assert (depth.tier, depth.scale, depth.attrs["pose"], depth.attrs["intrinsics"]) == ("D", "assumed", "static", "assumed")
    assert np.array_equal(depth.T_camera_world, np.tile(np.eye(4, dtype=np.float32), (24, 1, 1)))
    assert (depth[:] > 0).all()
    assert quality.figures["valid_share"] == 0.0
    assert "stands still" in quality.checks[0]


def turning_clip(frames=24):
    """A flat picture seen by a camera that only turns, and its rotations (T, 3, 3)."""
    K = pinhole(217, 256, 192)
    R = Rotation.from_rotvec(np.linspace(0, 0.12, frames)[:, None] * [0.4, 1.0, 0.3]).as_matrix()
    place = np.array([[1, 0, -70], [0, 1, -50], [0, 0, 1]], np.float64)
    rgb = []
    for k in range(frames):
        image = cv2.warpPerspective(texture(), K @ R[k] @ np.linalg.inv(K) @ place, (256, 192), flags=cv2.INTER_CUBIC)
        rgb.append(np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return np.stack(rgb), R, K


def test_a_camera_that_only_turns_gets_a_plane_and_its_rotations(make_clip, run):
    rgb, R, K = turning_clip()
    depth, quality = run(SfmDepth, make_clip(rgb, K_given=K.tolist()))
    assert (depth.tier, depth.attrs["pose"], depth.attrs["intrinsics"]) == ("D", "rotation", "given")
    assert depth.pose_valid.all()
    off = depth.T_camera_world[:, :3, :3].astype(np.float64) @ np.swapaxes(R, 1, 2)
    assert np.degrees(Rotation.from_matrix(off).magnitude()).max() < 0.1
    assert "only turns" in quality.checks[0]


def test_a_view_without_texture_claims_no_pose(make_clip, run):
    rgb = np.full((20, 96, 128, 3), 120, np.uint8)
    depth, quality = run(SfmDepth, make_clip(rgb))
    assert depth.tier == "D"
    assert not depth.pose_valid.any()
    assert np.isnan(depth.T_camera_world).all()
    assert "too few corners" in quality.checks[0]


def test_a_refused_reconstruction_leaves_no_pose_and_every_reason(small, make_clip, run):
    depth, quality = run(SfmDepth, make_clip(small.rgb), sfm={"max_reprojection_px": 0.01})
    assert (depth.tier, depth.attrs["pose"]) == ("D", "sfm")
    assert not depth.pose_valid.any()
    assert len(quality.checks) == 5  # two mappers from two focal lengths, and what follows from it
    assert all("reprojection error" in reason for reason in quality.checks[1:])


def solve(truth, folder, seed=0):
    size = (truth.rgb.shape[2], truth.rgb.shape[1])
    tracks = follow_features(GreyFrames(truth.rgb), 900, lambda k: None)
    start = CameraPath.standing(len(tracks), truth.K, "given")
    motion = Motion(gap=20, motion_px=10.0, rotation_px=3.0, focal_px=start.K[0, 0])
    return solve_trajectory(
        tracks, size, start, fixed=True, motion=motion, settings=SfmSettings(), seed=seed, folder=folder, progress=lambda: None
    )


def test_mapping_twice_gives_equal_bytes_and_survives_being_saved(small, tmp_path):
    first, second = (solve(small, tmp_path / name) for name in ("a", "b"))
    assert first.T_camera_world.tobytes() == second.T_camera_world.tobytes()
    assert first.K.tobytes() == second.K.tobytes()
    np.savez(tmp_path / "saved.npz", **first.to_arrays())
    with np.load(tmp_path / "saved.npz", allow_pickle=False) as arrays:
        again = CameraPath.from_arrays(dict(arrays))
    assert again.figures == first.figures
    assert again.notes == first.notes
    assert np.array_equal(again.scene_depth, first.scene_depth)
    assert not (tmp_path / "a").exists()


def test_a_killed_run_goes_on_and_ends_with_equal_bytes(small, make_clip, run, tmp_path):
    clip, progress = make_clip(small.rgb, K_given=small.K.tolist()), []
    whole, quality = run(
        SfmDepth, clip, segment_s=0.8, segments=tmp_path / "one", progress=lambda done, total: progress.append((done, total))
    )
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert {total for _, total in progress} == {72}
    assert progress[-1][0] == 72

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done >= 2 * 24 + 16:
            raise KilledError

    with pytest.raises(KilledError):
        run(SfmDepth, clip, segment_s=0.8, segments=tmp_path / "two", progress=kill)
    seen = []
    again, again_quality = run(
        SfmDepth, clip, segment_s=0.8, segments=tmp_path / "two", progress=lambda done, total: seen.append(done)
    )
    assert min(seen) == 2 * 24 + 16  # features, poses, unit and the first segment were kept
    assert np.array_equal(again.T_camera_world, whole.T_camera_world)
    assert np.array_equal(again[:], whole[:])
    assert dict(again.attrs) == dict(whole.attrs)
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert again_quality == quality


def test_poses_are_world_to_camera(small, tmp_path):
    """The other way round steps between frames do not fit, whatever the world and the unit."""
    found = solve(small, tmp_path / "a").T_camera_world
    errors, inverted = (pose_errors(T, small.T_camera_world) for T in (found, invert_pose(found)))
    assert errors.ate < 1e-3
    assert inverted.rpe > 10 * errors.rpe
    assert inverted.rpe_rad > 10 * errors.rpe_rad


def test_a_lens_that_the_motion_does_not_show_is_assumed_and_gives_no_tier_c(small, make_clip, run):
    """Solved for, this short clip's focal length comes out 13 % off, with an error and a field of view that pass."""
    depth, quality = run(SfmDepth, make_clip(small.rgb))
    assert (depth.tier, depth.attrs["intrinsics"]) == ("D", "assumed")
    assert not depth.pose_valid.any()
    assert "too little to show its focal length" in quality.checks[0]
    curve = FocalCurve.from_figures(quality.figures)
    assert curve.size_px == (320, 240)
    assert curve.rise_within_tenth < MIN_RISE


def test_a_shot_filmed_with_another_lens_than_the_others_of_its_video_is_refused(make_clip, run):
    """With a lens 1.3 times as long it was mapped, with an error that passes."""
    orbit = render("orbit", frames=40, width=320, height=240)
    other = pinhole(1.3 * orbit.K[0, 0], 320, 240)
    shot = make_clip(orbit.rgb, K_given=other.tolist(), K_source="estimated", cut_from={"first": 0, "frames": 80})
    with pytest.raises(BadInput, match="shows a focal length of 26. px, other shots one of 347 px") as caught:
        run(SfmDepth, shot)
    assert caught.value.code == "other_camera"


def test_the_curve_of_a_clip_cut_from_a_wider_picture_counts_in_that_picture(small, make_clip, run):
    framing = Framing((640, 240), (640, 240), (160, 0), (320, 240))
    _, quality = run(SfmDepth, make_clip(small.rgb, framing=framing))
    assert FocalCurve.from_figures(quality.figures).size_px == (640, 240)
