"""Windows against slow references, point by point and step by step."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from videolift.dataset.layout import PackagedView
from videolift.dataset.windows import (
    displacements,
    hand_windows,
    kept_points,
    point_order,
    to_uvd,
    window_poses,
    window_starts,
    world_wrists,
)

seeds = st.integers(0, 2**32 - 1)


def random_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    T[:, :3, 3] = rng.normal(size=(count, 3))
    return T


@given(st.integers(0, 60), st.integers(2, 20), st.integers(1, 7))
def test_windows_are_all_starts_that_fit(frames, length, stride):
    expected = [s for s in range(0, frames, stride) if s + length <= frames]
    assert window_starts(frames, length, stride).tolist() == expected


def test_u_of_a_pixel_centre_is_its_index_plus_a_half_over_the_size():
    K = np.array([[200.0, 0, 100], [0, 210, 90], [0, 0, 1]])
    z, x_px, y_px = 0.7, 37.0, 201.0
    xyz = np.array([(x_px - 100) / 200 * z, (y_px - 90) / 210 * z, z])
    np.testing.assert_allclose(to_uvd(xyz, K, 256), [37.5 / 256, 201.5 / 256, 0.7], atol=1e-7)


def test_points_behind_the_camera_have_no_uv():
    uvd = to_uvd(np.array([[0.1, 0.2, -1.0], [0.1, 0.2, 0.0]]), np.eye(3), 256)
    assert np.isnan(uvd[:, :2]).all()


@settings(max_examples=60, deadline=None)
@given(seeds, st.booleans())
def test_kept_points_follow_the_rule_for_each_point_alone(seed, metres):
    rng = np.random.default_rng(seed)
    length, count, size = int(rng.integers(2, 6)), int(rng.integers(0, 40)), 64
    uvd = rng.uniform(-0.1, 1.1, (length, count, 3)).astype(np.float32)
    uvd[rng.random((length, count)) < 0.02] = np.nan
    uv_px = rng.uniform(-3, size + 2, (length, count, 2))
    valid3d, visible = rng.random((length, count)) < 0.95, rng.random((length, count)) < 0.8
    limits = (0.1, 0.9) if metres else None
    kept = kept_points(uvd, uv_px, valid3d, visible, size, limits)
    for n in range(count):
        wanted = bool(visible[0, n])
        for k in range(length):
            u, v, d = uvd[k, n]
            x, y = uv_px[k, n]
            wanted = wanted and bool(valid3d[k, n]) and d > 0 and 0 <= u < 1 and 0 <= v < 1
            wanted = wanted and -0.5 <= x < size - 0.5 and -0.5 <= y < size - 0.5
        if metres:
            wanted = wanted and np.float32(0.1) <= uvd[0, n, 2] <= np.float32(0.9)
        assert kept[n] == wanted


def test_point_identities_are_not_mixed_when_one_point_leaves_for_a_step():
    """The predecessor filtered each step alone and cut to the shortest: two still points seemed to move."""
    uvd = np.tile(np.array([[0.1, 0.5, 1.0], [0.2, 0.5, 1.0], [0.6, 0.5, 1.0]], np.float32), (4, 1, 1))
    uvd[2, 0, 0] = -0.3
    inside = np.zeros((4, 3, 2))
    ones = np.ones((4, 3), bool)
    kept = kept_points(uvd, inside, ones, ones, 256, None)
    assert kept.tolist() == [False, True, True]
    assert (displacements(uvd[:, kept]) == 0).all()


def test_a_point_hidden_later_is_kept_and_one_hidden_at_first_is_not():
    uvd, inside = np.full((3, 2, 3), 0.5, np.float32), np.zeros((3, 2, 2))
    visible = np.array([[True, False], [False, True], [False, True]])
    assert kept_points(uvd, inside, np.ones((3, 2), bool), visible, 256, None).tolist() == [True, False]


def test_scale_free_depth_is_not_compared_with_metres():
    uvd, inside, ones = np.full((2, 1, 3), 0.5, np.float32), np.zeros((2, 1, 2)), np.ones((2, 1), bool)
    uvd[..., 2] = 40.0
    assert kept_points(uvd, inside, ones, ones, 256, None).all()
    assert not kept_points(uvd, inside, ones, ones, 256, (0.1, 2.5)).any()


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_window_poses_move_points_of_camera_k_into_camera_0(seed):
    """World-to-camera matrices composed in the predecessor's order, inv(E_0) E_k, fail here as soon as E_0 is not the identity."""
    rng = np.random.default_rng(seed)
    E = random_poses(rng, 5)
    T, pose9d = window_poses(E)
    point_world = rng.normal(size=3)
    for k in range(5):
        in_k = E[k, :3, :3] @ point_world + E[k, :3, 3]
        in_0 = E[0, :3, :3] @ point_world + E[0, :3, 3]
        np.testing.assert_allclose(T[k, :3, :3] @ in_k + T[k, :3, 3], in_0, atol=1e-9)
        np.testing.assert_allclose(pose9d[k], [*T[k, :3, 0], *T[k, :3, 1], *T[k, :3, 3]], atol=1e-6)


def test_an_unknown_pose_is_nan_and_an_unknown_first_pose_makes_the_window_nan():
    E = random_poses(np.random.default_rng(0), 4)
    E[2] = np.nan
    _, pose9d = window_poses(E)
    assert np.isnan(pose9d).all(1).tolist() == [False, False, True, False]
    E[0] = np.nan
    assert np.isnan(window_poses(E)[1]).all()


def test_windows_side_by_side_equal_windows_one_by_one():
    rng = np.random.default_rng(1)
    E, hands = random_poses(rng, 8), random_poses(rng, 16).reshape(8, 2, 4, 4)
    valid, K = rng.random((8, 2)) < 0.8, np.array([[200.0, 0, 128], [0, 200, 128], [0, 0, 1]])
    frames = np.arange(5)[None, :] + np.arange(4)[:, None]
    T, pose9d = window_poses(E[frames])
    many = hand_windows(hands[frames], valid[frames], T, K, 256)
    for w in range(5):
        T_one, pose_one = window_poses(E[w : w + 4])
        one = hand_windows(hands[w : w + 4], valid[w : w + 4], T_one, K, 256)
        np.testing.assert_array_equal(pose9d[w], pose_one)
        for name in ("query_uvd", "displacement_uvd", "query_rot6d", "displacement_rot6d"):
            np.testing.assert_array_equal(getattr(many, name)[w], getattr(one, name))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_still_hand_stays_still_while_the_camera_moves(seed):
    """The wrist left in camera k while tracks are in camera 0: the predecessor's still wrists moved by 92 px."""
    rng = np.random.default_rng(seed)
    E = np.tile(np.eye(4), (6, 1, 1))
    E[:, :3, :3] = Rotation.from_rotvec(rng.normal(scale=0.1, size=(6, 3))).as_matrix()
    E[:, :3, 3] = rng.normal(scale=0.1, size=(6, 3))
    T_world_wrist = np.eye(4)
    T_world_wrist[:3, :3], T_world_wrist[:3, 3] = Rotation.random(rng=rng).as_matrix(), [0.1, 0.0, 3.0]
    wrist = np.stack([E @ T_world_wrist] * 2, 1)
    K = np.array([[200.0, 0, 128], [0, 200, 128], [0, 0, 1]])
    seen = hand_windows(wrist, np.ones((6, 2), bool), window_poses(E)[0], K, 256)
    np.testing.assert_allclose(seen.displacement_uvd, 0, atol=1e-6)
    np.testing.assert_allclose(seen.displacement_rot6d, np.broadcast_to([1, 0, 0, 0, 1, 0], (2, 6, 6)), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_hand_windows_equal_the_formula_step_by_step(seed):
    rng = np.random.default_rng(seed)
    E, wrists = random_poses(rng, 4), random_poses(rng, 8).reshape(4, 2, 4, 4)
    valid, K = rng.random((4, 2)) < 0.7, np.array([[180.0, 0, 120], [0, 190, 130], [0, 0, 1]])
    seen = hand_windows(wrists, valid, window_poses(E)[0], K, 256)
    for side in (0, 1):
        poses = [E[0] @ np.linalg.inv(E[k]) @ wrists[k, side] for k in range(4)]
        for k in range(4):
            if not (valid[0, side] and valid[k, side]):
                assert np.isnan(seen.displacement_uvd[side, k]).all()
                assert np.isnan(seen.displacement_rot6d[side, k]).all()
                continue
            turned = poses[k][:3, :3] @ poses[0][:3, :3].T
            np.testing.assert_allclose(seen.displacement_rot6d[side, k], [*turned[:, 0], *turned[:, 1]], atol=1e-6)
            x0, xk = poses[0][:3, 3], poses[k][:3, 3]
            if x0[2] > 0.01 and xk[2] > 0.01:
                uvd = [np.array([*(((K @ x)[:2] / x[2] + 0.5) / 256), x[2]]) for x in (x0, xk)]
                np.testing.assert_allclose(seen.query_uvd[side], uvd[0], rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(seen.displacement_uvd[side, k], uvd[1] - uvd[0], rtol=1e-3, atol=1e-3)


def test_hands_may_leave_the_image():
    wrist = np.tile(np.eye(4), (2, 2, 1, 1))
    wrist[..., :3, 3] = [-3.0, 0.0, 1.0]
    seen = hand_windows(wrist, np.ones((2, 2), bool), np.tile(np.eye(4), (2, 1, 1)), np.diag([100.0, 100, 1]), 256)
    assert (seen.query_uvd[:, 0] < 0).all()
    assert np.isfinite(seen.displacement_uvd).all()


def test_an_unknown_translation_leaves_the_rotation():
    wrist = np.tile(np.eye(4), (3, 2, 1, 1))
    wrist[..., :3, 3] = np.nan
    T = window_poses(random_poses(np.random.default_rng(3), 3))[0]
    seen = hand_windows(wrist, np.ones((3, 2), bool), T, np.eye(3), 256)
    assert np.isnan(seen.displacement_uvd).all()
    assert np.isfinite(seen.displacement_rot6d).all()


def test_stored_order_is_seeded_and_a_permutation():
    order = point_order(3, 7, 100)
    assert sorted(order) == list(range(100))
    assert (order == point_order(3, 7, 100)).all()
    assert (order != point_order(4, 7, 100)).any()
    assert (order != point_order(3, 8, 100)).any()


@given(st.integers(2, 900), st.integers(2, 900), st.sampled_from([64, 224, 256]))
def test_intrinsics_and_pixels_of_the_square_view_agree(width, height, size):
    view = PackagedView.of((width, height), size)
    K = np.array([[400.0, 0, width / 3], [0, 410, height / 2.5], [0, 0, 1]])
    point = np.array([0.2, -0.1, 1.3])
    before, after = K @ point, view.intrinsics(K) @ point
    np.testing.assert_allclose(view.pixels(before[:2] / before[2]), after[:2] / after[2], atol=1e-9)
    corners = (
        view.pixels(np.array([view.left_px - 0.5, view.top_px - 0.5])),
        view.pixels(np.array([view.left_px + view.width_px - 0.5, view.top_px + view.height_px - 0.5])),
    )
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [size - 0.5, size - 0.5]], atol=1e-9)


@pytest.mark.parametrize("clip_px", [(683, 384), (384, 683), (512, 384), (300, 300)])
@pytest.mark.parametrize(("kind", "padded"), [("full", False), ("full", True), ("square", True)])
def test_a_view_that_keeps_the_whole_clip_has_every_pixel_in_it_and_one_camera(clip_px, kind, padded):
    view = PackagedView.of(clip_px, 256, kind, padded=padded)
    corners = np.array([[-0.5, -0.5], [clip_px[0] - 0.5, clip_px[1] - 0.5]])
    low, high = view.pixels(corners)
    assert (low >= -0.5 - 1e-9).all()
    assert (high <= np.array(view.size_px) - 0.5 + 1e-9).all()
    assert min(view.size_px) == 256
    K = np.array([[400.0, 0, 250.0], [0, 410, 180], [0, 0, 1]])
    point = np.array([0.2, -0.1, 1.3])
    before, after = K @ point, view.intrinsics(K) @ point
    np.testing.assert_allclose(view.pixels(before[:2] / before[2]), after[:2] / after[2], atol=1e-9)
    images = np.full((2, clip_px[1], clip_px[0], 3), 7, np.uint8)
    cut = view.cut(images)
    assert cut.shape[1:3] == (view.height_px, view.width_px)
    assert (cut == 7).sum() == images.size  # nothing is lost, and bars are 0


def test_a_view_of_an_older_release_is_read_as_the_square_it_was():
    view = PackagedView.from_attribute({"left_px": 64, "top_px": 0, "side_px": 384, "size": 256})
    assert view == PackagedView.of((512, 384), 256)
    assert PackagedView.from_attribute(asdict(PackagedView.of((683, 384), 256, "full"))).size_px == (455, 256)


def test_points_are_measured_in_units_of_either_side_of_an_image_that_is_not_square():
    K = np.array([[100.0, 0, 49.5], [0, 100, 24.5], [0, 0, 1]])
    np.testing.assert_allclose(to_uvd([[0.0, 0.0, 1.0]], K, (100, 50))[0], [0.5, 0.5, 1.0])
    np.testing.assert_allclose(to_uvd([[0.495, 0.0, 1.0]], K, (100, 50))[0], [0.995, 0.5, 1.0], atol=1e-6)


def test_a_still_wrist_stays_where_it_is_in_the_world_while_the_camera_moves():
    E = np.tile(np.eye(4), (4, 1, 1))
    E[:, 0, 3] = [0.0, -0.1, -0.2, np.nan]  # the camera moves to the right; the last pose is not known
    in_world = np.eye(4)
    in_world[:3, 3] = [0.1, 0.0, 0.5]
    T = np.tile(np.nan_to_num(E) @ in_world, (2, 1, 1, 1)).transpose(1, 0, 2, 3)
    valid = np.array([[True, True], [True, False], [True, True], [True, True]])
    found = world_wrists(T, valid, E)
    np.testing.assert_allclose(found[:3, 0], np.tile(in_world, (3, 1, 1)), atol=1e-6)
    assert np.isnan(found[1, 1]).all()
    assert np.isnan(found[3]).all()
