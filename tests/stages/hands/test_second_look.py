"""A second look at a hand, from a virtual camera turned towards it."""

import numpy as np
import pytest

from stages.hands.identity import Detection
from stages.hands.second_look import HAND_PX, HandView, agreed, the_hand
from videolift.geometry import pinhole

K = pinhole(260.0, 683, 384)
HAND = np.random.default_rng(1).uniform(-30, 30, (21, 2))


@pytest.mark.parametrize("at", [(340, 190), (40, 60), (650, 350)])
def test_the_hand_stands_in_the_middle_of_its_view_at_one_size(at):
    uv = HAND + at
    view = HandView.of(uv, K, 4.0)
    q = np.c_[uv, np.ones(21)] @ view.H_view_clip.T
    seen = q[:, :2] / q[:, 2:]
    assert np.ptp(seen, axis=0).max() == pytest.approx(HAND_PX, rel=0.02)
    assert np.abs((seen.min(0) + seen.max(0)) / 2 - (view.side_px - 1) / 2).max() < 0.1 * HAND_PX
    assert np.allclose(view.to_clip(seen), uv, atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mark_in_the_clip_is_found_in_the_picture_and_leads_back_to_its_pixel(mirrored):
    uv = HAND + (600, 300)
    rgb = np.zeros((384, 683, 3), np.uint8)
    rgb[298:303, 618:623] = 255
    view = HandView.of(uv, K, 4.0, mirrored=mirrored)
    picture = view.picture(rgb)[..., 0].astype(float)
    rows, columns = np.indices(picture.shape)
    mark = np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()
    assert view.to_clip(mark) == pytest.approx([620, 300], abs=0.5)


def test_a_look_in_a_mirror_shows_the_same_picture_with_left_and_right_swapped():
    uv = HAND + (340, 190)
    rgb = np.random.default_rng(2).integers(0, 256, (48, 86, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:384, :683]
    plain, mirror = (HandView.of(uv, K, 4.0, mirrored=mirrored).picture(rgb).astype(int) for mirrored in (False, True))
    assert np.abs(mirror - plain[:, ::-1]).mean() < 1
    assert np.abs(mirror - plain).mean() > 20


def test_of_the_hands_in_a_view_the_one_that_was_looked_at_is_taken_or_none():
    hand = Detection(0, HAND + 100, 0.9, 0.9)
    other = HAND + [100 + 2 * hand.size_px, 100]
    assert the_hand(hand, [other, HAND + 103]) == 1
    assert the_hand(hand, [other]) is None
    assert the_hand(hand, []) is None


def test_the_median_of_the_looks_is_the_keypoint_and_their_distance_the_spread():
    hand = Detection(3, HAND + 100, 0.9, 0.9)
    looks = np.stack([HAND + 101, HAND + 160])
    found = agreed(hand, looks, np.array([0.7, 0.2]))
    assert np.allclose(found.keypoints_px, HAND + 101)
    assert found.right == pytest.approx(0.6)
    assert 0 < found.spread < 0.1
    # A look in a mirror says nothing of the side, and has a place all the same.
    silent = agreed(hand, looks, np.array([0.7, np.nan]))
    assert np.allclose(silent.keypoints_px, HAND + 101)
    assert silent.right == pytest.approx(0.8)
    one = agreed(hand, np.full((2, 21, 2), np.nan), np.full(2, np.nan))
    assert one == hand
    assert np.isnan(one.spread)
