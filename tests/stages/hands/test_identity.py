"""Which detection is which hand."""

import numpy as np

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
