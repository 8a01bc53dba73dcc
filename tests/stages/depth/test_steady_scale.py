"""Flicker found by corners, points triangulated from known cameras, both in spite of what moves by itself."""

import numpy as np
import pytest

from stages.depth.motion.features import FeatureTracks
from stages.depth.networks.steady_scale import corner_ranges, depth_at_corners, log_factors, triangulate_corners
from videolift.geometry import invert_pose, pinhole, project, transform

K = pinhole(200.0, 192, 144)


def test_flicker_is_found_from_corners_that_come_and_go_while_a_fifth_moves():
    random = np.random.default_rng(0)
    frames, corners = 30, 200
    flicker = 0.05 * random.standard_normal(frames)
    flicker -= np.median(flicker)
    level = np.log(random.uniform(0.4, 2.0, corners))
    frame, corner = np.nonzero(random.random((frames, corners)) < 0.5)
    value = level[corner] + flicker[frame] + 0.005 * random.standard_normal(len(frame))
    value += np.where(corner % 5 == 0, 0.02 * frame, 0)
    assert log_factors(frame, corner, value, frames) == pytest.approx(-flicker, abs=0.01)


def test_frames_with_few_corners_keep_their_scale():
    frame = np.array([0] * 50 + [1] * 50 + [2] * 3)
    corner = np.concatenate([np.arange(50), np.arange(50), np.arange(3)])
    factors = log_factors(frame, corner, np.where(frame == 0, 0.2, 0.0) + np.where(frame == 2, 9.0, 0), 4)
    assert factors[2] == factors[3] == 0
    assert factors[1] - factors[0] == pytest.approx(0.2)


def test_without_any_corner_nothing_is_changed():
    assert (log_factors([], [], [], 3) == 0).all()


def test_turning_the_camera_changes_z_but_not_the_range():
    point = np.array([[0.3, 0.1, 1.0]])
    turned = transform(_turn(0.3), point)
    values = [corner_ranges(project(p, K), p[:, 2], K)[0] for p in (point, turned)]
    assert values[0] == pytest.approx(values[1])
    assert point[0, 2] != pytest.approx(turned[0, 2])


def test_invalid_depth_is_not_sampled():
    depth = np.ones((4, 6), np.float16)
    depth[1, 2] = 0
    assert np.isnan(depth_at_corners(depth, np.array([[2.2, 0.8], [3.0, 1.0]], np.float32))).tolist() == [True, False]


def _turn(angle):
    T = np.eye(4)
    T[[0, 0, 2, 2], [0, 2, 0, 2]] = [np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)]
    return T


def _tracks(points_by_frame, E):
    seen = [project(transform(T, points), K).astype(np.float32) for T, points in zip(E, points_by_frame, strict=True)]
    n = len(seen[0])
    return FeatureTracks(np.tile(np.arange(n, dtype=np.int32), len(E)), np.concatenate(seen), np.arange(len(E) + 1) * n)


def test_points_are_triangulated_and_what_moves_is_left_out():
    random = np.random.default_rng(1)
    points = random.uniform([-0.4, -0.3, 0.8], [0.4, 0.3, 1.6], (40, 3))
    E = np.tile(np.eye(4), (12, 1, 1))
    E[:, 0, 3] = 0.02 * np.arange(12)
    moving = [points + np.where(np.arange(40)[:, None] < 5, [0, 0.02 * k, 0], 0) for k in range(12)]
    found = triangulate_corners(_tracks(moving, E), E, np.ones(12, bool), K)
    assert set(found) == set(range(5, 40))
    for corner, point in found.items():
        np.testing.assert_allclose(point, points[corner], atol=1e-3)


def test_a_camera_that_only_turns_triangulates_nothing():
    points = np.random.default_rng(1).uniform([-0.2, -0.2, 0.8], [0.2, 0.2, 1.6], (40, 3))
    E = np.stack([_turn(0.01 * k) for k in range(12)])
    assert triangulate_corners(_tracks([points] * 12, E), E, np.ones(12, bool), K) == {}
    assert np.isfinite(invert_pose(E)).all()
