"""Scores of a hand's motion that need no truth."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from videolift.dataset.hand_scores import jitter_deg, jitter_px, side_changes

FRAMES = 30
MEASURED = np.ones((FRAMES, 2), bool)


def keypoints(noise_px=0.0):
    uv = np.random.default_rng(0).uniform(-20, 20, (1, 1, 21, 2)) + np.zeros((FRAMES, 2, 1, 1))
    uv[:, 0] += np.stack([50 + 5 * np.arange(FRAMES), np.full(FRAMES, 100)], -1)[:, None]
    uv[:, 1] += [300, 100]
    return uv + np.random.default_rng(1).normal(0, noise_px, uv.shape) if noise_px else uv


def wrists(noise_deg=0.0):
    T = np.tile(np.eye(4), (FRAMES, 2, 1, 1))
    noise = np.random.default_rng(2).normal(0, np.radians(noise_deg), (FRAMES, 3))
    steady = Rotation.from_rotvec(np.arange(FRAMES)[:, None] * [0.0, 0.1, 0.0])
    T[:, 0, :3, :3] = (steady * Rotation.from_rotvec(noise)).as_matrix()
    return T


def test_a_steady_motion_has_no_jitter_and_noise_has_its_own_size():
    assert np.nanmax(jitter_px(keypoints(), MEASURED)) == pytest.approx(0, abs=1e-6)
    assert 2 < np.nanmedian(jitter_px(keypoints(4.0), MEASURED)) < 6
    assert np.nanmax(jitter_deg(wrists(), MEASURED)) < 0.1
    assert 6 < np.nanmedian(jitter_deg(wrists(8.0), MEASURED)[:, 0]) < 20


def test_frames_with_few_neighbours_have_no_jitter():
    measured = np.zeros((FRAMES, 2), bool)
    measured[:3] = True
    assert np.isnan(jitter_px(keypoints(), measured)).all()
    assert np.isnan(jitter_deg(wrists(), measured)).all()


def test_sides_that_swap_are_counted_once_and_hands_that_move_are_not():
    uv = keypoints()
    assert not side_changes(uv, MEASURED).any()
    uv[12:] = uv[12:, ::-1].copy()
    assert np.flatnonzero(side_changes(uv, MEASURED)).tolist() == [12]
