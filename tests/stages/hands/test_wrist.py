"""Wrist poses from true keypoints, and the mistakes that turn hands the wrong way without anyone noticing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.hands.wrist import (
    WristFit,
    choose_tilts,
    depth_under,
    finger_direction,
    fit_by_pnp,
    fit_on_depth,
    hand_size_px,
    joints_on_depth,
    palm_template,
)
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import mirror_rotation, project, rotation_angle, transform

FRAMES = range(0, 60, 7)
K = np.array([[430.0, 0, 255.5], [0, 430.0, 191.5], [0, 0, 1]])


def degrees(fit, T):
    return float(np.degrees(rotation_angle(fit.T_camera_wrist[:3, :3], T[:3, :3])))


def pose(turn_deg=(0, 0, 0), at=(0.0, 0.0, 0.5)):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix() @ [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]
    T[:3, 3] = at
    return T


def keypoints(T, side="right"):
    """21 keypoints of which the palm's are a perfect hand's, the fingers straight on."""
    palm = palm_template(side)
    points = np.zeros((21, 3))
    points[list(PALM_JOINTS)] = palm
    for joint in range(21):
        if joint not in PALM_JOINTS:
            points[joint] = points[joint - 1] * 1.2
    return project(transform(T, points), K)


def best(fits, T):
    return min(fits, key=lambda fit: degrees(fit, T))


def test_true_keypoints_on_metric_depth_give_the_wrist(orbit_truth, record_property):
    truth, turned = orbit_truth, []
    for k in FRAMES:
        joints = joints_on_depth(truth.keypoints_px[k], truth.depth_m[k], truth.K)
        fit = fit_on_depth(joints, truth.keypoints_px[k], truth.K, truth.side)
        turned.append(degrees(fit, truth.T_camera_wrist[k]))
        assert np.linalg.norm(fit.T_camera_wrist[:3, 3] - truth.T_camera_wrist[k, :3, 3]) < 0.02
        assert fit.residual_px < 0.03 * hand_size_px(truth.keypoints_px[k])
    record_property("median_wrist_error_deg", float(np.median(turned)))
    assert np.median(turned) < 8
    assert max(turned) < 12


def test_true_keypoints_alone_give_the_wrist_by_the_palms_size(orbit_truth):
    truth = orbit_truth
    candidates = [fit_by_pnp(truth.keypoints_px[k], truth.K, truth.side) for k in FRAMES]
    sizes = [hand_size_px(truth.keypoints_px[k]) for k in FRAMES]
    chosen = choose_tilts(candidates, sizes, truth.side, fingers_away=True)
    for k, fit in zip(FRAMES, chosen, strict=True):
        assert degrees(fit, truth.T_camera_wrist[k]) < 8
        assert abs(fit.T_camera_wrist[2, 3] / truth.T_camera_wrist[k, 2, 3] - 1) < 0.06


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(6))
def test_a_perfect_palm_is_found_at_any_attitude(side, seed):
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = np.random.default_rng(seed).uniform([-0.15, -0.1, 0.35], [0.15, 0.1, 0.8])
    fits = fit_by_pnp(keypoints(T, side), K, side)
    assert len(fits) == 2
    assert fits[0].residual_px <= fits[1].residual_px
    assert degrees(best(fits, T), T) < 0.1
    assert np.allclose(best(fits, T).T_camera_wrist[:3, 3], T[:3, 3], atol=1e-4)


def test_left_hand_rotation_is_mirrored(orbit_truth):
    truth, k = orbit_truth, 35
    assert truth.side == "right"
    width = truth.depth_m.shape[2]
    flipped = truth.keypoints_px[k] * [-1, 1] + [width - 1, 0]  # the camera's axis is the image's centre
    right_joints = joints_on_depth(truth.keypoints_px[k], truth.depth_m[k], truth.K)
    left_joints = joints_on_depth(flipped, truth.depth_m[k][:, ::-1], truth.K)
    pairs = [
        (
            fit_on_depth(right_joints, truth.keypoints_px[k], truth.K, "right"),
            fit_on_depth(left_joints, flipped, truth.K, "left"),
        ),
        (fit_by_pnp(truth.keypoints_px[k], truth.K, "right")[0], fit_by_pnp(flipped, truth.K, "left")[0]),
    ]
    for right, left in pairs:
        assert np.allclose(left.T_camera_wrist[:3, :3], mirror_rotation(right.T_camera_wrist[:3, :3]), atol=0.02)
        assert np.allclose(left.T_camera_wrist[:3, 3], right.T_camera_wrist[:3, 3] * [-1, 1, 1], atol=0.003)
        assert np.linalg.det(left.T_camera_wrist[:3, :3]) == pytest.approx(1)


def test_fingers_point_along_minus_x_of_a_right_and_plus_x_of_a_left_hand(orbit_truth, small_truth):
    for truth in (orbit_truth, small_truth):
        middle = truth.joints_camera[5, 9] - truth.joints_camera[5, 0]
        assert finger_direction(truth.T_camera_wrist[5], truth.side) @ middle / np.linalg.norm(middle) > 0.95
        assert palm_template(truth.side)[3] @ finger_direction(np.eye(4), truth.side) > 0.09


def test_the_wrist_is_turned_the_same_wherever_in_the_image_the_hand_is():
    # an orientation for a centred crop, taken for the true one, is off by the angle of the ray
    T = pose((20, 10, -15), at=(0.28, 0.19, 0.5))
    assert degrees(best(fit_by_pnp(keypoints(T), K, "right"), T), T) < 0.1


def test_joints_are_where_the_depth_is_and_not_turned_again(orbit_truth):
    truth = orbit_truth
    for k in FRAMES:
        joints = joints_on_depth(truth.keypoints_px[k], truth.depth_m[k], truth.K)
        error = np.linalg.norm(joints - truth.joints_camera[k], axis=1)[list(PALM_JOINTS)]
        assert np.nanmedian(error) < 0.015


def test_a_keypoint_outside_the_image_has_no_depth_instead_of_the_borders():
    depth = np.full((384, 512), 0.5, np.float32)
    uv = np.array([[-0.6, 100], [511.6, 100], [100, -2], [100, 383.6], [560, 100], [100, 100], [-0.5, 383.4]])
    assert np.isnan(depth_under(depth, uv)).tolist() == [True, True, True, True, True, False, False]
    T = pose(at=(0.0, 0.0, 0.5))
    uv = keypoints(T)
    uv[1] = [600, 200]
    assert np.isnan(joints_on_depth(uv, depth, K)[1]).all()


@pytest.mark.parametrize("hole", [0.0, np.inf, np.nan, -1.0])
def test_depth_that_is_none_is_not_taken_for_depth(hole):
    depth = np.full((40, 40), hole, np.float32)
    depth[19:22, 21:23] = 0.6
    assert depth_under(depth, [[20, 20], [5, 5]])[0] == pytest.approx(0.6)
    assert np.isnan(depth_under(depth, [[5, 5]])[0])


def test_depth_behind_the_hand_is_not_the_hands():
    T = pose((35, 20, 0))
    uv = keypoints(T)
    z = transform(T, palm_template("right"))[:, 2] - 0.010  # the skin lies in front of the joints
    depth = np.full((384, 512), np.median(z), np.float32)
    for (u, v), d in zip(uv[list(PALM_JOINTS)], z, strict=True):
        depth[int(v) - 3 : int(v) + 4, int(u) - 3 : int(u) + 4] = d
    clean = fit_on_depth(joints_on_depth(uv, depth, K), uv, K, "right")
    u, v = uv[0].astype(int)
    depth[v - 3 : v + 4, u - 3 : u + 4] = 1.6  # the table shows where the wrist should be
    joints = joints_on_depth(uv, depth, K)
    fit = fit_on_depth(joints, uv, K, "right")
    assert np.isnan(joints[0]).all()
    assert degrees(clean, T) < 2
    assert degrees(fit, T) < 6
    assert np.linalg.norm(fit.T_camera_wrist[:3, 3] - T[:3, 3]) < 0.01


def test_three_palm_points_with_depth_are_too_few():
    uv = keypoints(pose((60, 0, 0)))
    depth = np.zeros((384, 512), np.float32)
    for joint in PALM_JOINTS[:3]:
        u, v = uv[joint].astype(int)
        depth[v - 3 : v + 4, u - 3 : u + 4] = 0.5
    joints = joints_on_depth(uv, depth, K)
    assert np.isnan(joints).all()
    assert fit_on_depth(joints, uv, K, "right") is None


@pytest.mark.parametrize("pixels", [np.full((21, 2), 50.0), np.full((21, 2), np.nan)])
def test_keypoints_that_no_palm_can_give_have_no_pose(pixels):
    assert fit_by_pnp(pixels, K, "right") == []


def two_tilts(away_residual=1.0, towards_residual=1.0, turn_deg=0.0):
    away, towards = pose((60, 0, turn_deg)), pose((120, 0, turn_deg))
    fits = [WristFit(away, away_residual, "palm_pnp"), WristFit(towards, towards_residual, "palm_pnp")]
    directions = [finger_direction(fit.T_camera_wrist, "right")[2] for fit in fits]
    assert directions[0] * directions[1] < 0
    return fits if directions[0] > 0 else fits[::-1]


def chosen_index(frames, *, fingers_away):
    found = choose_tilts(frames, [100.0] * len(frames), "right", fingers_away=fingers_away)
    return [next(i for i, fit in enumerate(fits) if fit is pick) for fits, pick in zip(frames, found, strict=True)]


def test_of_two_tilts_fingers_point_away_from_an_egocentric_camera():
    frames = [two_tilts(away_residual=1.2, towards_residual=1.0)] * 3
    assert chosen_index(frames, fingers_away=True) == [0, 0, 0]
    assert chosen_index(frames, fingers_away=False) == [1, 1, 1]


def test_of_two_tilts_one_frame_follows_its_neighbours_on_both_sides():
    sure, doubtful = two_tilts(1.0, 3.0), two_tilts(1.5, 1.0)
    assert chosen_index([sure, doubtful, sure], fingers_away=False) == [0, 0, 0]
    assert chosen_index([doubtful, sure, sure], fingers_away=False) == [0, 0, 0]


def test_no_frames_no_tilts():
    assert choose_tilts([], [], "right", fingers_away=True) == []
