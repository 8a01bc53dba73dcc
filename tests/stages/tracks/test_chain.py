"""Flow between two frames, followed by points, lifted to 3D."""

import cv2
import numpy as np
import pytest

from stages.optical_flow import sample_bilinear
from stages.tracks.chain import DenseFlow, FlowSettings, lift_nearest
from videolift.geometry import project

SIZE = (160, 120)
K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])


def texture(seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return cv2.GaussianBlur(cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC), (0, 0), 2.0)


def shifted(dx, dy, size=SIZE, seed=0):
    matrix = np.float32([[1, 0, dx - 60], [0, 1, dy - 50]])
    return cv2.warpAffine(texture(seed), matrix, size, flags=cv2.INTER_CUBIC)


def points():
    return np.stack(np.meshgrid(np.arange(30, 130, 7), np.arange(30, 90, 7)), -1).reshape(-1, 2).astype(np.float32)


@pytest.mark.parametrize("max_side_px", [640, 80])
def test_points_follow_the_image_in_pixels_of_the_clip(max_side_px):
    flow = DenseFlow(FlowSettings(max_side_px=max_side_px), SIZE)
    pair = flow.between(flow.grey(shifted(0, 0)), flow.grey(shifted(3.4, -2.2)))
    uv, trusted = flow.follow(pair, points())
    assert max(flow.flow_size_px) == min(160, max_side_px)
    assert trusted.mean() > 0.95
    assert np.abs(uv - points() - [3.4, -2.2])[trusted].max() < 0.25


def test_points_that_do_not_come_back_are_not_trusted():
    flow = DenseFlow(FlowSettings(), SIZE)
    covered = shifted(0, 0)
    covered[40:80, 60:110] = shifted(0, 0, seed=1)[40:80, 60:110]
    uv = points()
    _, trusted = flow.follow(flow.between(flow.grey(shifted(0, 0)), flow.grey(covered)), uv)
    hidden = ((uv >= [70, 50]) & (uv < [100, 70])).all(1)
    away = (uv[:, 0] < 50) | (uv[:, 0] >= 120)
    assert trusted[hidden].mean() < 0.4
    assert trusted[away].mean() > 0.95


def test_points_that_leave_the_image_are_not_trusted():
    flow = DenseFlow(FlowSettings(), SIZE)
    uv = np.array([[157.0, 60.0], [80.0, 60.0]], np.float32)
    _, trusted = flow.follow(flow.between(flow.grey(shifted(0, 0)), flow.grey(shifted(5, 0))), uv)
    assert trusted.tolist() == [False, True]


def test_flow_is_the_same_with_any_number_of_threads():
    flow, threads = DenseFlow(FlowSettings(), SIZE), cv2.getNumThreads()
    frames = flow.grey(shifted(0, 0)), flow.grey(shifted(3, 1))
    try:
        found = []
        for count in (1, 3):
            cv2.setNumThreads(count)
            found.append(flow.between(*frames))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(found[0].forward, found[1].forward)
    assert np.array_equal(found[0].backward, found[1].backward)


@pytest.mark.parametrize("count", [0, 1, 1024, 40_000])
def test_any_number_of_points_can_be_sampled(count):
    image = np.stack(np.meshgrid(np.arange(50.0), np.arange(40.0)), -1).astype(np.float32)
    uv = np.random.default_rng(0).uniform(0, 39, (count, 2)).astype(np.float32)
    assert sample_bilinear(image, uv).shape == (count, 2)
    assert np.abs(sample_bilinear(image, uv) - uv).max(initial=0) < 0.05


def test_depth_is_not_mixed_across_an_edge():
    depth = np.full((120, 160), 0.5, np.float16)
    depth[:, 80:] = 2.0
    xyz, valid = lift_nearest(np.array([[79.4, 60.0], [79.6, 60.0]]), depth, K)
    assert valid.all()
    assert xyz[:, 2].tolist() == [0.5, 2.0]


def test_lifted_points_lie_behind_their_pixels():
    uv = np.random.default_rng(0).uniform(0, 119, (50, 2))
    xyz, valid = lift_nearest(uv, np.full((120, 160), 0.7, np.float32), K)
    assert valid.all()
    assert np.allclose(project(xyz, K), uv, atol=1e-9)


def test_points_without_depth_or_outside_the_image_are_invalid():
    depth = np.ones((120, 160), np.float16)
    depth[60, 80] = 0
    depth[60, 90] = np.inf
    uv = np.array([[80.0, 60], [90, 60], [-0.6, 60], [159.6, 60], [100, -3], [159.4, 119.4]])
    xyz, valid = lift_nearest(uv, depth, K)
    assert valid.tolist() == [False, False, False, False, False, True]
    assert np.isnan(xyz[:5]).all()
