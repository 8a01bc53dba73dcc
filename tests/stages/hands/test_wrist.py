"""Wrist poses from keypoints, and the mistakes that turn hands the wrong way without anyone noticing."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.hands.palm import SEEN_SIZE, Palm
from stages.hands.wrist import Errors, WristFit, choose_tilts, finger_direction, fit_by_pnp, hand_size_px, refined
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import invert_pose, mirror_rotation, project, rotation_angle, transform

K = np.array([[430.0, 0, 255.5], [0, 430.0, 191.5], [0, 0, 1]])


def degrees(fit, T):
    return float(np.degrees(rotation_angle(fit.T_camera_wrist[:3, :3], T[:3, :3])))


def pose(turn_deg=(0, 0, 0), at=(0.0, 0.0, 0.5)):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix() @ [[0, 0, -1], [0, -1, 0], [-1, 0, 0]]
    T[:3, 3] = at
    return T


def frontal(at=(0.0, 0.0, 0.5)):
    """Fingers up, the back of the hand to the camera."""
    T = np.eye(4)
    T[:3, :3] = np.stack([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], 1)
    T[:3, 3] = at
    return T


def keypoints(T, side="right", K=K, size=1.0):
    """21 keypoints of which the palm's are those that a detector sees, the fingers straight on."""
    points = np.zeros((21, 3))
    points[list(PALM_JOINTS)] = Palm.of(side).points_m(size)
    for joint in range(21):
        if joint not in PALM_JOINTS:
            points[joint] = points[joint - 1] * 1.2
    return project(transform(T, points), K)


def best(fits, T):
    return min(fits, key=lambda fit: degrees(fit, T))


def hand_of(truth):
    """The rendered hand's own palm in its hand frame, as a detector that sees it right does."""
    palm = np.median(transform(invert_pose(truth.T_camera_wrist), truth.joints_camera), 0)[list(PALM_JOINTS)]
    return Palm(palm, palm / SEEN_SIZE, np.zeros(3))


def test_true_keypoints_alone_give_the_wrist_by_the_palms_size(orbit_truth):
    truth, palm = orbit_truth, hand_of(orbit_truth)
    frames = range(0, 60, 7)
    candidates = [fit_by_pnp(truth.keypoints_px[k], truth.K, palm) for k in frames]
    chosen = choose_tilts(candidates, [hand_size_px(truth.keypoints_px[k]) for k in frames], truth.side, fingers_away=True)
    for k, fits, index in zip(frames, candidates, chosen, strict=True):
        assert degrees(fits[index], truth.T_camera_wrist[k]) < 8
        assert abs(fits[index].T_camera_wrist[2, 3] / truth.T_camera_wrist[k, 2, 3] - 1) < 0.06


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(6))
def test_a_perfect_palm_is_found_at_any_attitude(side, seed):
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = np.random.default_rng(seed).uniform([-0.15, -0.1, 0.35], [0.15, 0.1, 0.8])
    fits = fit_by_pnp(keypoints(T, side), K, Palm.of(side))
    assert len(fits) == 2
    assert fits[0].residual_px <= fits[1].residual_px
    assert degrees(best(fits, T), T) < 0.5
    assert np.allclose(best(fits, T).T_camera_wrist[:3, 3], T[:3, 3], atol=2e-3)


def test_left_hand_rotation_is_mirrored():
    T = pose((20, 10, -15), at=(0.1, 0.05, 0.5))
    uv = keypoints(T, "right")
    flipped = uv * [-1, 1] + [511, 0]  # the camera's axis is the image's centre
    right, left = fit_by_pnp(uv, K, Palm.of("right"))[0], fit_by_pnp(flipped, K, Palm.of("left"))[0]
    assert np.allclose(left.T_camera_wrist[:3, :3], mirror_rotation(right.T_camera_wrist[:3, :3]), atol=1e-3)
    assert np.allclose(left.T_camera_wrist[:3, 3], right.T_camera_wrist[:3, 3] * [-1, 1, 1], atol=1e-4)
    assert np.linalg.det(left.T_camera_wrist[:3, :3]) == pytest.approx(1)


def test_fingers_point_along_minus_x_of_a_right_and_plus_x_of_a_left_hand(orbit_truth, small_truth):
    for truth in (orbit_truth, small_truth):
        middle = truth.joints_camera[5, 9] - truth.joints_camera[5, 0]
        assert finger_direction(truth.T_camera_wrist[5], truth.side) @ middle / np.linalg.norm(middle) > 0.95
        assert Palm.of(truth.side).true_m[3] @ finger_direction(np.eye(4), truth.side) > 0.06


def test_a_palm_seen_small_has_its_wrist_behind_what_is_seen_and_one_as_large_as_a_true_one_is_true():
    for side in ("left", "right"):
        palm = Palm.of(side)
        assert abs(palm.points_m()[0, 0]) == pytest.approx(0.030, abs=1e-3)
        assert np.allclose(palm.points_m(1 / SEEN_SIZE), palm.true_m)
        assert np.allclose(palm.points_m(1 / SEEN_SIZE)[0], 0)


def test_the_wrist_is_turned_the_same_wherever_in_the_image_the_hand_is():
    # an orientation for a centred crop, taken for the true one, is off by the angle of the ray
    T = pose((20, 10, -15), at=(0.28, 0.19, 0.5))
    assert degrees(best(fit_by_pnp(keypoints(T), K, Palm.of("right")), T), T) < 0.5


def test_depth_decides_the_distance_where_a_palm_is_larger_than_usual():
    T, palm = pose((40, 20, 10)), Palm.of("right")
    uv = keypoints(T, size=1.2)
    by_pixels = best(fit_by_pnp(uv, K, palm), T)
    assert by_pixels.T_camera_wrist[2, 3] == pytest.approx(0.5 / 1.2, rel=0.05)
    z = transform(T, palm.points_m(1.2))[:, 2]
    with_depth = refined(by_pixels, uv, K, palm, z, Errors(depth_m=0.008))
    assert with_depth.T_camera_wrist[2, 3] == pytest.approx(0.5, rel=0.03)
    assert with_depth.palm_size == pytest.approx(1.2, rel=0.05)
    assert degrees(with_depth, T) < 3


def test_steady_depth_decides_between_two_tilts():
    T, palm = pose((40, 20, 10)), Palm.of("right")
    wrong = max(fit_by_pnp(keypoints(T), K, palm), key=lambda fit: degrees(fit, T))
    assert degrees(wrong, T) > 20
    z = transform(T, palm.points_m())[:, 2]
    assert degrees(refined(wrong, keypoints(T), K, palm, z, Errors(depth_m=0.001)), T) < 3


@pytest.mark.parametrize("pixels", [np.full((21, 2), 50.0), np.full((21, 2), np.nan)])
def test_keypoints_that_no_palm_can_give_have_no_pose(pixels):
    assert fit_by_pnp(pixels, K, Palm.of("right")) == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_that_turns_by_200_degrees_per_second_is_followed_within_ten_degrees_and_one_frame(side):
    """At 10 frames per second, keypoints 1 % of the hand off; none falls to the other tilt."""
    random = np.random.default_rng(4)
    for axis in ("x", "y", "z"):
        true = [pose(at=(0.05, 0.0, 0.45)) for _ in range(30)]
        for k, T in enumerate(true):
            swing = abs((20 * k + 60) % 240 - 120) - 60  # there and back between -60 and 60, 20 degrees per frame
            T[:3, :3] = Rotation.from_euler(axis, swing, degrees=True).as_matrix() @ pose((50, 0, 0))[:3, :3]
        uv = [keypoints(T, side) for T in true]
        uv = [px + random.normal(0, 0.01 * hand_size_px(px), px.shape) for px in uv]
        fits = [fit_by_pnp(px, K, Palm.of(side)) for px in uv]
        chosen = choose_tilts(fits, [hand_size_px(px) for px in uv], side, fingers_away=False)
        off = [
            min(degrees(found[i], true[j]) for j in (k - 1, k, k + 1) if 0 <= j < 30)
            for k, (found, i) in enumerate(zip(fits, chosen, strict=True))
        ]
        assert np.median(off) < 5, axis
        assert np.percentile(off, 80) < 10, axis
        assert max(off) < 30, axis


def two_tilts(away_residual=1.0, towards_residual=1.0, turn_deg=0.0):
    away, towards = pose((60, 0, turn_deg)), pose((120, 0, turn_deg))
    fits = [WristFit(away, 1.0, away_residual), WristFit(towards, 1.0, towards_residual)]
    directions = [finger_direction(fit.T_camera_wrist, "right")[2] for fit in fits]
    assert directions[0] * directions[1] < 0
    return fits if directions[0] > 0 else fits[::-1]


def chosen_index(frames, *, fingers_away):
    return choose_tilts(frames, [100.0] * len(frames), "right", fingers_away=fingers_away)


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
