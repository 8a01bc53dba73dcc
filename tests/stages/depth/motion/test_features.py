"""Corners followed through frames: ids that stay, motion that is right, exposure that does not matter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.depth.motion.dense_flow import FlowField, pixel_grid
from stages.depth.motion.features import follow_features
from stages.depth.motion.grey import GreyFrames, normalised_grey

SIZE = (256, 192)
STEP_PX = (1.5, -0.75)


def texture(seed=0):
    """Smooth noise, larger than an image."""
    noise = np.random.default_rng(seed).uniform(0, 255, (300, 400)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 20, 235, cv2.NORM_MINMAX)


def shifted(frames, gain=None):
    """RGB frames that move by `STEP_PX` each, with a brightness per frame."""
    out = []
    for k in range(frames):
        move = np.float32([[1, 0, k * STEP_PX[0] - 60], [0, 1, k * STEP_PX[1] - 30]])
        image = cv2.warpAffine(texture(), move, SIZE, flags=cv2.INTER_CUBIC) * (1.0 if gain is None else gain[k])
        out.append(np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return np.stack(out)


@pytest.mark.parametrize("gain", [None, np.linspace(0.5, 1.1, 12)])
def test_corners_move_as_the_image_does_whatever_the_exposure(gain):
    tracks = follow_features(GreyFrames(shifted(12, gain)), 200, lambda k: None)
    uv_0, uv_11 = tracks.shared(0, 11)
    assert len(uv_0) > 100
    assert np.abs(np.median(uv_11 - uv_0, axis=0) - 11 * np.array(STEP_PX)).max() < 0.1


def test_ids_ascend_and_are_never_used_twice():
    tracks = follow_features(GreyFrames(shifted(12)), 200, lambda k: None)
    born = -1
    for k in range(len(tracks)):
        ids, uv = tracks.frame(k)
        assert (np.diff(ids) > 0).all()
        assert len(ids) <= 200
        assert ((uv >= 0) & (uv < SIZE)).all()
        new = ids[~np.isin(ids, tracks.frame(k - 1)[0])] if k else ids
        assert (new > born).all()
        born = max(born, int(ids.max()))


def test_a_corner_that_is_covered_ends():
    rgb = shifted(6)
    rgb[3:, 60:130, 80:170] = 128
    tracks = follow_features(GreyFrames(rgb), 300, lambda k: None)
    uv_2, uv_5 = tracks.shared(2, 5)
    covered = (uv_2 > (85, 65)).all(1) & (uv_2 < (160, 120)).all(1)
    assert covered.sum() <= 0.05 * len(uv_2)


def test_a_blank_video_has_no_corners():
    assert len(follow_features(GreyFrames(np.full((5, 192, 256, 3), 90, np.uint8)), 200, lambda k: None).ids) == 0


def test_exposure_does_not_change_the_normalised_image():
    rgb = shifted(1)[0]
    darker = (rgb * 0.6 + 20).astype(np.uint8)
    off = normalised_grey(rgb).astype(int) - normalised_grey(darker)
    assert np.abs(off).mean() < 1.5


def test_frames_are_read_again_and_not_all_kept():
    class Counting(list):
        asked = 0

        def __getitem__(self, k):
            Counting.asked += 1
            return super().__getitem__(k)

    grey = GreyFrames(Counting(shifted(5)), keep=2)
    first = grey[0]
    for k in (0, 1, 2, 1):
        grey[k]
    assert Counting.asked == 3
    assert np.array_equal(grey[0], first)
    assert Counting.asked == 4


def test_flow_reaches_far_frames_through_the_near_ones():
    field = FlowField(GreyFrames(shifted(14), keep=14), keep=14)
    found = dict(field.matches(3, [13, 8, 0]))
    assert sorted(found) == [0, 8, 13]
    for partner, match in found.items():
        expected = pixel_grid(192, 256) + (partner - 3) * np.float32(STEP_PX)
        assert match.trusted.mean() > 0.8
        assert np.abs(match.uv_px - expected)[match.trusted].max() < 1.0
        outside = (expected < 0).any(-1) | (expected > np.array(SIZE) - 1).any(-1)
        assert not match.inside[outside].any()


def test_flow_does_not_depend_on_what_was_computed_before():
    """OpenCV's DIS starts from the flow it was last given where it is given none; between unlike images the start decides."""
    unlike = np.stack([np.repeat(texture(k)[:192, :256, None], 3, axis=2).astype(np.uint8) for k in range(6)])
    fresh, used = (FlowField(GreyFrames(unlike, keep=6), keep=6) for _ in range(2))
    list(used.matches(0, [3]))
    (_, first), (_, second) = *fresh.matches(3, [5]), *used.matches(3, [5])
    assert np.array_equal(first.uv_px, second.uv_px)
