from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.timing import Cadence, Timed, in_order, nearest

GAPS = st.lists(st.floats(0.004, 0.6), min_size=1, max_size=60)


def times_of(gaps: list[float]) -> np.ndarray:
    return np.cumsum([0.0, *gaps])


def pick(times, fps, start_s=None, end_s=None, tolerance_s=1e-6):
    frames = list(enumerate(times))
    chosen = nearest(((t, i) for i, t in frames), fps, start_s=start_s, end_s=end_s, tolerance_s=tolerance_s)
    return [i for _, i in chosen]


def ordered(seconds: list[float | None], cadence: Cadence | None = None) -> tuple[list[float], list[int], Cadence]:
    cadence = cadence or Cadence(frame_s=0.1, tick_s=0.001)
    out = list(in_order([Timed(s, i) for i, s in enumerate(seconds)], cadence))
    return [s for s, _ in out], [i for _, i in out], cadence


def test_a_multiple_of_the_rate_keeps_every_third_frame():
    assert pick(np.arange(31) / 30, 10) == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]


def test_rounded_timestamps_choose_the_same_frames_as_exact_ones():
    for offset in (0.0, 0.0334, 0.067):
        exact = np.arange(300) / 30 + offset
        assert pick(np.round(exact, 3), 10, tolerance_s=0.001) == pick(exact, 10)


def test_half_way_between_two_frames_the_earlier_is_taken():
    assert pick(np.arange(26) / 25, 10)[:5] == [0, 2, 5, 7, 10]


def test_a_source_slower_than_the_output_keeps_every_frame_once():
    assert pick(np.arange(20) / 8, 10) == list(range(20))


def test_start_and_end_are_in_the_sources_clock_and_end_is_left_out():
    times = np.arange(60) / 10
    assert pick(times, 5, start_s=2.0, end_s=3.0) == [20, 22, 24, 26, 28]


def test_a_gap_of_hours_takes_no_time():
    assert pick([0.0, 0.1, 1e6, 1e6 + 0.1], 10) == [0, 1, 2, 3]


@given(GAPS, st.floats(1, 60))
def test_every_chosen_frame_is_the_nearest_to_some_output_time(gaps, fps):
    times = times_of(gaps)
    chosen = pick(times, fps)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    targets = np.arange(0, times[-1] + gaps[-1] / 2 + 1e-9, 1 / fps)
    best = {int(np.argmin(np.abs(times - t))) for t in targets}
    ties = {int(i) for t in targets for i in np.flatnonzero(np.abs(np.abs(times - t) - np.abs(times - t).min()) < 1e-5)}
    assert best - ties <= set(chosen) <= ties


def test_missing_timestamps_are_set_by_the_header_rate_and_counted():
    seconds, frames, cadence = ordered([0.0, None, None, 0.3])
    assert seconds == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert frames == [0, 1, 2, 3]
    assert cadence.guessed == 2


def test_swapped_timestamps_are_sorted_and_frames_stay_in_order():
    seconds, frames, cadence = ordered([0.1, 0.4, 0.3, 0.5, 0.2, 0.7, 0.8, 0.6])
    assert seconds == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert frames == list(range(8))
    assert cadence.moved == 6


def test_frames_that_go_far_back_in_time_are_dropped_and_counted():
    seconds, frames, cadence = ordered([*np.arange(20) / 10, 0.05, 2.0, 2.1])
    assert np.all(np.diff(seconds) > 0)
    assert cadence.dropped == 1
    assert len(frames) == 22


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=50))
def test_whatever_the_timestamps_the_result_increases_and_nothing_is_lost_uncounted(seconds):
    out, frames, cadence = ordered(seconds)
    assert all(b > a for a, b in zip(out, out[1:], strict=False))
    assert frames == sorted(frames)
    assert len(out) + cadence.dropped == len(seconds)


@pytest.mark.parametrize(
    ("gaps", "variable"),
    [([0.033, 0.034] * 20, False), ([0.0333] * 40, False), ([0.033, 0.066] * 20, True), ([0.0333] * 60 + [0.5] * 2, True)],
)
def test_variable_frame_rate_is_told_from_rounding(gaps, variable):
    _, _, cadence = ordered(list(times_of(gaps)))
    assert cadence.variable is variable


def test_measured_rate_is_that_of_the_timestamps():
    _, _, cadence = ordered(list(np.arange(11) / 24))
    assert cadence.fps == pytest.approx(24)
    assert cadence.longest_gap_s == pytest.approx(1 / 24)
