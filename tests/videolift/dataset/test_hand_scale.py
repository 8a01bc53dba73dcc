"""The hand scale, on depth and hands whose true ratio is known."""

from __future__ import annotations

import numpy as np
import pytest

from videolift.artifacts import Depth, DepthWriter, Hands, HandsWriter
from videolift.dataset.hand_scale import hand_scale

FRAMES, HEIGHT, WIDTH = 20, 96, 128
TRUE = 0.37


@pytest.fixture
def video(tmp_path):
    def make(*, noise=0.0, hidden=False, interpolated=False, hands=FRAMES):
        rng = np.random.default_rng(0)
        depth = np.full((FRAMES, HEIGHT, WIDTH), 2.0)
        palm = np.array([[40, 40], [50, 36], [70, 40], [72, 46], [72, 52], [70, 58]], np.float32)
        z_palm = 1.5 if not hidden else 0.0
        depth[:, 34:62, 38:76] = z_palm
        writer = DepthWriter(tmp_path / "depth.h5")
        writer.append_frames(depth, np.tile(np.eye(4), (FRAMES, 1, 1)), np.ones(FRAMES, bool))
        writer.put(K=np.diag([100.0, 100, 1]))
        writer.declare(backend="test", tier="C", scale="arbitrary", pose="sfm", intrinsics="estimated")
        writer.publish()
        nan = np.full((FRAMES, 2), np.nan)
        keypoints, wrist, valid = (
            np.full((FRAMES, 2, 21, 2), np.nan),
            np.full((FRAMES, 2, 4, 4), np.nan),
            np.zeros((FRAMES, 2), bool),
        )
        keypoints[:, 1, [0, 1, 5, 9, 13, 17]] = palm
        wrist[:, 1] = np.eye(4)
        wrist[:, 1, 2, 3] = TRUE * 1.5 * (1 + noise * rng.normal(size=FRAMES))
        valid[:hands, 1] = True
        writer = HandsWriter(tmp_path / "hands.h5")
        joints, mano = np.full((FRAMES, 2, 21, 3), np.nan), np.full((FRAMES, 2, 15, 3, 3), np.nan)
        writer.append_frames(
            valid=valid,
            interpolated=valid if interpolated else np.zeros_like(valid),
            score=nan,
            keypoints_px=keypoints,
            T_camera_wrist=wrist,
            joints_camera=joints,
            mano_pose=mano,
        )
        writer.put(betas=np.full((2, 10), np.nan))
        writer.publish()
        return Depth(tmp_path / "depth.h5"), Hands(tmp_path / "hands.h5")

    return make


def test_depth_on_the_palm_gives_the_factor(video):
    found = hand_scale(*video())
    assert found.factor == pytest.approx(TRUE, rel=1e-3)
    assert (found.source, found.observations, found.spread) == ("palm", FRAMES, pytest.approx(0, abs=1e-3))


def test_the_surface_behind_serves_where_the_hand_has_no_depth(video):
    found = hand_scale(*video(hidden=True))
    assert found.source == "surroundings"
    assert found.factor == pytest.approx(TRUE * 1.5 / 2.0, rel=1e-3)


def test_scatter_is_recorded_as_spread(video):
    found = hand_scale(*video(noise=0.1))
    assert 0.05 < found.spread < 0.2
    assert found.factor == pytest.approx(TRUE, rel=0.1)


@pytest.mark.parametrize(
    ("case", "reason"),
    [({"hands": 9}, "9 hands, 10 are needed"), ({"interpolated": True}, "0 hands"), ({"noise": 3.0}, "scatter")],
)
def test_too_few_interpolated_or_scattering_hands_give_none(video, case, reason):
    found = hand_scale(*video(**case))
    assert found.factor is None
    assert reason in found.reason
