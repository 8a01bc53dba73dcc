"""Which detection is which hand."""

import numpy as np
import pytest

from stages.hands.identity import Detection, assign_sides, link, without_duplicates

HAND = np.random.default_rng(3).uniform(-50, 50, (21, 2))


def hand(frame, at, *, right=0.9, score=0.9, size=1.0):
    return Detection(frame, HAND * size + np.asarray(at, float), score, right)


def frames_of(detections):
    return [d.frame for d in detections]


def test_a_hand_seen_whole_and_in_a_tile_is_one_hand():
    whole, tile, other = hand(0, (100, 100)), hand(0, (108, 96), size=1.1), hand(0, (300, 100))
    assert without_duplicates([whole, tile, other]) == [whole, other]


def test_two_hands_keep_their_tracks_while_they_come_near():
    def x(k):
        return 100 + 10 * k, 400 - 10 * k

    detections = [hand(k, (at, 100)) for k in range(12) for at in x(k)]
    tracks = link(detections)
    assert [len(track) for track in tracks] == [12, 12]
    for track, start in zip(tracks, (100, 400), strict=True):
        assert abs(track[0].centre_px[0] - HAND[:, 0].mean() - start) < 1
        assert max(abs(np.diff([d.centre_px[0] for d in track]))) < 11


def test_a_track_survives_a_short_gap_and_no_long_one():
    assert len(link([hand(k, (100, 100)) for k in (0, 1, 2, 8, 9)])) == 1
    assert len(link([hand(k, (100, 100)) for k in (0, 1, 2, 9, 10)])) == 2


def test_a_side_is_what_most_frames_say():
    track = [hand(k, (100, 100), right=0.95 if k % 5 else 0.1) for k in range(20)]
    left, right = assign_sides([track])
    assert frames_of(right) == list(range(20))
    assert left == []


def test_two_hands_of_one_label_are_a_right_and_a_left_hand():
    sure = [hand(k, (100, 100), right=0.95) for k in range(10)]
    unsure = [hand(k, (400, 100), right=0.6) for k in range(10)]
    left, right = assign_sides([unsure, sure])
    assert right == sure
    assert left == unsure


def test_a_third_hand_is_left_out():
    tracks = [[hand(k, (x, 100), right=r) for k in range(10)] for x, r in ((100, 0.95), (300, 0.1), (500, 0.7))]
    left, right = assign_sides(tracks)
    assert right == tracks[0]
    assert left == tracks[1]


def test_a_hand_that_comes_back_after_another_left_takes_its_own_side():
    early = [hand(k, (100, 100)) for k in range(5)]
    late = [hand(k, (400, 100), right=0.8) for k in range(4, 12)]
    left, right = assign_sides([early, late])
    assert left == []
    assert frames_of(right) == list(range(12))


FINGERS_UP = np.array([[0.0, 60.0], *[[dx, dy] for dx in (-20, -10, 0, 10, 20) for dy in (10, -10, -25, -40)]])
"""A hand's keypoints with the wrist below."""


def along_arm(frame, at, arm, right, score=0.9):
    """A hand whose forearm comes from the left (-1) or the right (1) of the image."""
    leaning = FINGERS_UP + np.clip(FINGERS_UP[:, 1:], 0, None) * [arm, 0]
    return Detection(frame, leaning + np.asarray(at, float), score, right)


def crossing(frames=40, wrong_labels=()):
    """Face to face: the right hand comes from the image's left and passes behind the left one, which hides it for five frames."""
    detections, truth = [], {}
    for k in range(frames):
        right_at, left_at = (100 + 8 * k, 200), (420 - 8 * k, 200)
        hidden = 17 <= k <= 21
        for side, at, arm in (("right", right_at, -1), ("left", left_at, 1)):
            if side == "right" and hidden:
                continue
            belief = 0.9 if side == "right" else 0.1
            hand = along_arm(k, at, arm, 1 - belief if k in wrong_labels else belief)
            detections.append(hand)
            truth[k, round(float(hand.centre_px[0]))] = side
    return detections, truth


def wrong_sides(sides, truth):
    return [
        (name, d.frame)
        for name, hands in zip(("left", "right"), sides, strict=True)
        for d in hands
        if d.side_known and truth[d.frame, round(float(d.centre_px[0]))] != name
    ]


def test_no_track_goes_over_from_one_hand_to_the_other_where_they_meet():
    detections, truth = crossing()
    for track in link(detections):
        assert len({truth[d.frame, round(float(d.centre_px[0]))] for d in track}) == 1


@pytest.mark.parametrize("along_arms", [False, True], ids=["nothing_said", "said_to_look_along_the_arms"])
def test_sides_do_not_swap_when_hands_cross_and_one_is_hidden(along_arms):
    detections, truth = crossing()
    sides = assign_sides(link(detections), 3, along_arms=along_arms)
    assert wrong_sides(sides, truth) == []
    assert len(sides[0]) == 40
    assert len(sides[1]) == 35


def test_sides_survive_a_detector_that_is_wrong_for_a_while_after_the_crossing():
    detections, truth = crossing(wrong_labels=range(22, 30))
    assert wrong_sides(assign_sides(link(detections), 3), truth) == []


def test_seen_along_the_arms_a_left_hand_that_is_taken_for_a_right_one_all_the_time_is_left():
    """It lies still at the left; the right hand comes in for a few frames."""
    still = [along_arm(k, (100, 200), -0.5, right=0.7) for k in range(40)]
    passing = [along_arm(k, (400, 200), 1, right=0.6) for k in range(28, 33)]
    left, right = assign_sides(link(still + passing), 3, along_arms=True)
    assert frames_of(left) == list(range(40))
    assert frames_of(right) == list(range(28, 33))


def test_a_hand_of_which_nothing_tells_the_side_is_marked():
    left, right = assign_sides(link([hand(k, (100, 100), right=0.5) for k in range(10)]))
    assert len(left) + len(right) == 10
    assert not any(d.side_known for d in left + right)
    _, sure = assign_sides(link([hand(k, (100, 100), right=0.9) for k in range(10)]))
    assert all(d.side_known for d in sure)


def test_a_hand_seen_for_less_than_the_least_is_left_out_but_its_pieces_count_together():
    pieces = [hand(k, (100, 100)) for k in (0, 1, 2, 9, 10)]
    assert sum(map(len, assign_sides(link(pieces), 5))) == 5
    assert sum(map(len, assign_sides(link(pieces[:2]), 3))) == 0
