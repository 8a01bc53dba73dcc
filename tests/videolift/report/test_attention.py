"""The worst seconds are those whose scores lie farthest beyond their limits."""

import numpy as np

from videolift.report.attention import beyond_limit, frame_excess, worst_spans


def series(**spans):
    values = np.full(100, 0.001, np.float32)
    for at, value in spans.items():
        values[int(at[1:]) : int(at[1:]) + 5] = value
    return values


def test_beyond_is_measured_towards_the_bad_side():
    assert beyond_limit("depth_residual", 0.04) == 2
    assert beyond_limit("valid_depth", 0.15) == 2
    assert beyond_limit("valid_depth", 0.0) > 1000


def test_a_frames_excess_is_that_of_its_worst_score_and_unmeasured_frames_have_none():
    quality = {
        "depth_residual": np.array([0.01, 0.04, np.nan], np.float32),
        "valid_depth": np.array([0.15, 0.6, np.nan], np.float32),
    }
    np.testing.assert_allclose(frame_excess(quality, 3), [2, 2, np.nan], rtol=1e-5)
    assert np.isnan(frame_excess({}, 4)).all()


def test_the_worst_seconds_are_found_worst_first_and_apart():
    found = worst_spans({"depth_residual": series(f20=0.05, f60=0.2)}, 100, 10.0)
    assert [span.score for span in found] == ["depth_residual"] * 2
    assert found[0].start <= 60 < found[0].stop <= 75
    assert found[1].start <= 20 < found[1].stop <= 35
    assert found[0].label == "depth_residual 0.2, limit 0.02"


def test_a_good_video_has_no_worst_second():
    assert worst_spans({"depth_residual": series()}, 100, 10.0) == []
    assert worst_spans({}, 100, 10.0) == []


def test_a_clip_shorter_than_a_second_has_one_span():
    found = worst_spans({"depth_residual": np.full(4, 0.5, np.float32)}, 4, 10.0)
    assert [(span.start, span.stop) for span in found] == [(0, 4)]
