"""How windows meet TAPIP3D: which frames are fed, at which size, and what becomes of frames without a camera."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tracks.queries import Queries
from stages.tracks.tapip3d import FeedingPlan, VisibilityLimit, window_of
from stages.tracks.windowed import LiftingScene

MODEL = {"seq_len": 16, "image_size": [384, 512], "stride": 4}


@given(st.integers(9, 60))
def test_a_window_is_fed_whole_halves_of_the_models_own_and_never_less_than_one(length):
    fed = FeedingPlan.of(length, (384, 512), MODEL, 1.0).fed
    assert fed >= max(length, 16)
    assert fed % 8 == 0
    assert fed - length < 16


def test_real_frames_fill_the_model_and_only_the_clips_end_is_repeated():
    plan, known = FeedingPlan.of(10, (384, 512), MODEL, 1.0), np.ones(30, bool)
    assert plan.indices(5, known) == (list(range(5, 21)), 16)
    indices, real = plan.indices(20, known)
    assert real == 10
    assert indices == [*range(20, 30), *[29] * 6]


def test_frames_after_one_without_a_camera_are_not_fed():
    known = np.ones(40, bool)
    known[12] = False
    assert FeedingPlan.of(10, (384, 512), MODEL, 1.0).indices(4, known) == ([*range(4, 12), *[11] * 8], 8)
    assert FeedingPlan.of(10, (384, 512), MODEL, 1.0).indices(12, known)[1] == 0


@pytest.mark.parametrize(
    ("clip", "factor", "size"), [((384, 512), 1.0, (384, 512)), ((512, 384), 1.0, (512, 384)), ((384, 512), 2.0, (544, 724))]
)
def test_frames_are_fed_at_the_models_area_in_their_own_shape(clip, factor, size):
    assert FeedingPlan.of(10, clip, MODEL, factor).size == size


def test_what_leaves_the_image_or_is_behind_the_camera_is_not_visible():
    E = np.tile(np.eye(4), (16, 1, 1))
    E[1, 2, 3] = -2.0
    scene = LiftingScene(None, np.array([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]]), E)
    xyz = np.tile(np.array([[0.0, 0, 1], [5, 0, 1]], np.float32), (16, 1, 1))
    reply = {"kept": np.array([True, False, True]), "xyz_cam0": xyz, "logit": np.full((16, 2), 4.0, np.float32)}
    queries = Queries(np.zeros((3, 2), np.float32), np.array([7, 8, 9], np.uint8))
    window = window_of(0, 12, queries, reply, scene, VisibilityLimit((128, 96), 0.9))
    assert window.label.tolist() == [7, 9]
    assert window.visible[[0, 2], 0].all()
    assert not window.visible[1, 0]
    assert not window.valid3d[1, 0]
    assert not window.visible[:, 1].any()
    assert np.isnan(window.xyz_cam0[12:]).all()
    assert np.isnan(window.visibility_logit[12:]).all()
    assert window.frames_tracked == 12
