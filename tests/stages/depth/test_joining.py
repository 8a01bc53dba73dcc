"""Stretches cut and joined: any similarity between two worlds is found again from the frames they share."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stages.depth.networks.joining import OVERLAP_FRAMES, DepthStretch, similarity_between, stretches
from videolift.errors import BadInput
from videolift.geometry import invert_pose, rotation_angle


def _path(n, seed=0, still=False):
    random = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (n, 1, 1))
    if not still:
        T[:, :3, :3] = Rotation.from_rotvec(0.1 * random.standard_normal((n, 3))).as_matrix()
        T[:, :3, 3] = np.cumsum(0.05 * random.standard_normal((n, 3)), 0)
    return T


def _seen_from(T_a_camera, scale, R, t):
    """The same cameras in a world b with x_a = scale R x_b + t."""
    T = T_a_camera.copy()
    T[:, :3, :3] = R.T @ T[:, :3, :3]
    T[:, :3, 3] = (T[:, :3, 3] - t) @ R / scale
    return T


@given(st.floats(0.2, 5.0), st.integers(0, 1000), st.booleans())
def test_any_similarity_is_found_again_even_from_a_camera_that_rests(scale, seed, still):
    random = np.random.default_rng(seed)
    R, t = Rotation.random(random_state=seed).as_matrix(), random.standard_normal(3)
    A = _path(8, seed, still)
    depth = random.uniform(0.5, 2.0, (8, 24, 32))
    found = similarity_between(A, _seen_from(A, scale, R, t), depth, depth / scale)
    assert found.scale == pytest.approx(scale)
    assert rotation_angle(found.R_a_b, R) < 1e-5
    np.testing.assert_allclose(found.poses(_seen_from(A, scale, R, t)), A, atol=1e-6)


def test_invalid_depth_and_moving_things_do_not_change_the_scale():
    A, depth = _path(5), np.full((5, 40, 40), 1.0)
    other = depth / 2.0
    other[:, :10] = 0
    other[:, 10:20] *= 1.5
    assert similarity_between(A, A, depth, other).scale == pytest.approx(2.0)


def test_an_overlap_without_common_depth_cannot_be_joined():
    with pytest.raises(BadInput, match=r"no pixel.*segment_s"):
        similarity_between(_path(3), _path(3), np.zeros((3, 8, 8)), np.ones((3, 8, 8)))


def test_a_joined_stretch_begins_after_the_shared_frames():
    T, K = _path(OVERLAP_FRAMES + 10), np.eye(3)
    depth = np.random.default_rng(0).uniform(1, 2, (OVERLAP_FRAMES + 10, 16, 16)).astype(np.float32)
    first = DepthStretch(depth[:OVERLAP_FRAMES], T[:OVERLAP_FRAMES], K)
    R, t = Rotation.random(random_state=1).as_matrix(), np.array([1.0, 2, 3])
    second = DepthStretch(depth / 3.0, _seen_from(T, 3.0, R, t), 2 * K)
    joined = second.onto(first)
    np.testing.assert_allclose(joined.T_world_camera, T[OVERLAP_FRAMES:], atol=1e-6)
    np.testing.assert_allclose(joined.depth, depth[OVERLAP_FRAMES:], rtol=1e-5)
    assert (joined.K == K).all()
    np.testing.assert_allclose(invert_pose(joined.T_world_camera) @ T[OVERLAP_FRAMES:], np.tile(np.eye(4), (10, 1, 1)), atol=1e-6)


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(100, 1000))
def test_stretches_cover_the_clip_share_frames_and_stay_below_the_limit(frames, length, most):
    bounds = stretches(frames, length, most)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == frames
    assert all(after[0] == before[1] for before, after in pairwise(bounds))
    looked_at = [end - max(0, start - OVERLAP_FRAMES) for start, end in bounds]
    assert all(0 < frames <= max(most, 2 * OVERLAP_FRAMES) + OVERLAP_FRAMES for frames in looked_at)


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_stretches_go_on_after_what_is_done_whatever_its_length_was(frames, length, other, data):
    bounds = stretches(frames, length, 1000)
    k = data.draw(st.integers(0, len(bounds) - 1))
    done = bounds[k][1]
    assert stretches(frames, length, 1000, done=done) == bounds[k + 1 :]
    rest = stretches(frames, other, 1000, done=done)
    assert (rest[0][0], rest[-1][1]) == (done, frames) if done < frames else rest == []
