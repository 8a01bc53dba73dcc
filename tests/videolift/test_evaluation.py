"""Errors against a truth: what an alignment forgives and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from videolift.evaluation import depth_errors, focal_error, marked_valid, pose_errors
from videolift.geometry import invert_pose, pinhole, transform, umeyama

seeds = st.integers(0, 2**32 - 1)


def some_path(seed, frames=12):
    """A wandering camera (T, 4, 4)."""
    rng = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.3, (frames, 3))).as_matrix()
    T[:, :3, 3] = rng.normal(0, 0.2, (frames, 3))
    return T


def in_another_world(T_camera_world, seed):
    """The same cameras in another world and unit, and how many of its units a unit of the old one is."""
    rng = np.random.default_rng(seed + 1)
    scale = float(rng.uniform(0.2, 5))
    T_new_old = np.eye(4)
    T_new_old[:3, :3], T_new_old[:3, 3] = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)
    moved = T_camera_world.copy()
    moved[:, :3, 3] *= scale
    return moved @ invert_pose(T_new_old), scale


@given(seed=seeds)
def test_umeyama_recovers_a_similarity(seed):
    rng = np.random.default_rng(seed)
    points, scale = rng.normal(size=(8, 3)), float(rng.uniform(0.1, 10))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3)
    found, T_found = umeyama(points, transform(T, scale * points))
    assert found == pytest.approx(scale, rel=1e-9)
    assert np.allclose(T_found, T, atol=1e-8)


@given(seed=seeds)
def test_an_arbitrary_world_and_unit_are_no_error(seed):
    truth = some_path(seed)
    estimate, scale = in_another_world(truth, seed)
    errors = pose_errors(estimate, truth)
    assert errors.ate < 1e-9
    assert errors.rpe < 1e-9
    assert errors.rpe_rad < 1e-7
    assert errors.scale == pytest.approx(1 / scale)


def test_poses_composed_in_the_wrong_order_are_an_error():
    """Camera to world where world to camera belongs."""
    truth = some_path(3)
    assert pose_errors(invert_pose(truth), truth).ate > 0.05


def test_a_known_scale_is_not_forgiven():
    truth = some_path(4)
    twice = truth.copy()
    twice[:, :3, 3] *= 2
    assert pose_errors(twice, truth).ate < 1e-9
    assert pose_errors(twice, truth, scale_known=True).ate > 0.1


def test_unknown_poses_are_left_out_and_steps_across_them_too():
    truth = some_path(5)
    estimate = truth.copy()
    estimate[4] = np.nan
    errors = pose_errors(estimate, truth)
    assert errors.frames == 11
    assert errors.rpe < 1e-9
    with pytest.raises(ValueError, match="2 poses are known"):
        pose_errors(estimate[3:6], truth[3:6])


def test_a_turn_between_two_frames_is_one_relative_error():
    truth = some_path(6)
    estimate = truth.copy()
    estimate[5:, :3, :3] = estimate[5:, :3, :3] @ Rotation.from_rotvec([0, 0, 0.1]).as_matrix()
    assert pose_errors(estimate, truth).rpe_rad * 11 == pytest.approx(0.1, rel=1e-6)


def test_depth_of_an_arbitrary_unit_is_wrong_in_metres_and_right_aligned():
    truth = np.random.default_rng(0).uniform(0.3, 2, (2, 10, 10))
    estimate = truth / 0.37
    estimate[:, :5] = 0
    assert depth_errors(estimate, truth, align=True).abs_rel < 1e-12
    assert depth_errors(estimate, truth, align=True).scale == pytest.approx(0.37)
    unaligned = depth_errors(estimate, truth, align=False)
    assert unaligned.abs_rel == pytest.approx(1 / 0.37 - 1)
    assert unaligned.within_25_percent == 0
    assert unaligned.valid_share == 0.5


def test_depth_without_common_pixels_is_an_error():
    with pytest.raises(ValueError, match="no pixel"):
        depth_errors(np.zeros((4, 4)), np.ones((4, 4)), align=True)


def test_focal_error_is_signed_and_of_the_worse_axis():
    K = pinhole(400, 512, 384)
    K[0, 0] *= 1.01
    K[1, 1] *= 0.97
    assert focal_error(K, pinhole(400, 512, 384)) == pytest.approx(-0.03)


def test_marked_valid_counts_only_the_mask():
    depth = np.array([[1.0, 0.0], [2.0, 0.0]])
    assert marked_valid(depth, np.array([[True, True], [False, False]])) == 0.5
    assert marked_valid(depth, np.zeros((2, 2), bool)) == 0.0
