"""Statistics against rational arithmetic on the quantised values, and against numpy where it is exact."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videolift.dataset.statistics.accumulators import BIN_WIDTH, QUANTILES, Accumulators, ChannelSummary
from videolift.errors import CorruptFile


def packed_bytes(statistics: Accumulators) -> bytes:
    return b"".join(name.encode() + array.tobytes() for name, array in sorted(statistics.pack().items()))


def some_video(seed: int) -> Accumulators:
    rng = np.random.default_rng(seed)
    out = Accumulators()
    out.add_rgb(rng.integers(0, 256, (2, 3, 8, 8), np.uint8))
    out.add_depth(rng.uniform(0, 3, (2, 8, 8)).astype(np.float16), (0.1, 2.5))
    out.add("displacement", rng.normal(scale=0.1, size=(rng.integers(1, 200), 3)))
    out.add("query_depth", rng.uniform(0.1, 2.5, (50, 1)))
    if seed % 3:
        out.add("hand_rot_displacement", rng.normal(size=(30, 6)))
    return out


def rational_moments(values: list[Fraction]) -> tuple[float, float]:
    mean = sum(values, Fraction(0)) / len(values)
    variance = sum(((v - mean) ** 2 for v in values), Fraction(0)) / len(values)
    return float(mean), math.sqrt(variance)


def quantised(value: float) -> Fraction:
    return Fraction(round(Fraction(value) * 2**20), 2**20)


floats = st.floats(-100, 100, width=32)


@settings(max_examples=60, deadline=None)
@given(st.lists(floats, min_size=1, max_size=60))
def test_moments_of_f32_equal_rational_arithmetic_on_quantised_values(values):
    statistics = Accumulators()
    statistics.add("query_depth", np.array(values, np.float32))
    summary = statistics.parts["query_depth"].summary(0)
    mean, std = rational_moments([quantised(v) for v in values])
    assert summary.mean == mean
    assert summary.std == pytest.approx(std, rel=1e-15, abs=1e-30)
    assert (summary.minimum, summary.maximum) == (min(values), max(values))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 60000, width=16), min_size=1, max_size=60).filter(any))
def test_moments_and_quantiles_of_f16_are_exact(values):
    statistics = Accumulators()
    statistics.add_depth(np.array(values, np.float16), None)
    summary = statistics.parts["depth"].summary(0)
    valid = sorted(v for v in values if v > 0)
    mean, std = rational_moments([Fraction(v) for v in valid])
    assert summary.samples == len(valid)
    assert summary.mean == mean
    assert summary.std == pytest.approx(std, rel=1e-15, abs=1e-30)
    expected = [valid[math.ceil(Fraction(str(q)) * len(valid)) - 1] for q in QUANTILES]
    assert list(summary.quantiles) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=200))
def test_quantiles_of_f32_are_within_half_a_bin_or_the_extremum(values):
    statistics = Accumulators()
    statistics.add("query_depth", np.array(values, np.float32))
    summary, ordered = statistics.parts["query_depth"].summary(0), sorted(values)
    for q, found in zip(QUANTILES, summary.quantiles, strict=True):
        true = ordered[math.ceil(Fraction(str(q)) * len(values)) - 1]
        if abs(true) < 8 - BIN_WIDTH:
            assert abs(found - true) <= BIN_WIDTH / 2 + 2**-20
        elif abs(true) > 8 + BIN_WIDTH:
            assert found == (ordered[0] if true < 0 else ordered[-1])


def test_fifty_merge_orders_give_the_same_bytes():
    videos = [some_video(seed) for seed in range(6)]
    shuffle, found = random.Random(0), set()
    for _ in range(50):
        order = videos.copy()
        shuffle.shuffle(order)
        cut = shuffle.randrange(1, len(order))
        halves = [Accumulators.merged(order[:cut]), Accumulators.merged(order[cut:])]
        found.add(packed_bytes(Accumulators.merged(halves)))
    assert len(found) == 1


def test_packing_in_between_changes_nothing():
    videos = [some_video(seed) for seed in range(5)]
    through_files = Accumulators()
    for video in videos:
        through_files.merge_packed(video.pack())
    assert packed_bytes(through_files) == packed_bytes(Accumulators.merged(videos))
    assert packed_bytes(Accumulators.unpack(through_files.pack())) == packed_bytes(through_files)


def test_how_rows_are_cut_into_additions_changes_nothing():
    rows = np.random.default_rng(0).normal(size=(150_000, 3)).astype(np.float32)
    whole, pieces = Accumulators(), Accumulators()
    whole.add("displacement", rows)
    for part in np.array_split(rows, 37):
        pieces.add("displacement", part)
    assert packed_bytes(whole) == packed_bytes(pieces)


def test_sums_beyond_64_bits_are_exact():
    rows = np.full((70_000, 1), 60_000.25, np.float32)
    statistics = Accumulators()
    statistics.add("query_depth", rows)
    samples, total, square = statistics.parts["query_depth"].exact(0)
    assert (samples, total, square) == (70_000, Fraction(60_000.25) * 70_000, Fraction(60_000.25) ** 2 * 70_000)
    again = Accumulators.unpack(statistics.pack())
    assert again.parts["query_depth"].exact(0) == (samples, total, square)


def test_statistics_are_not_summed_in_float32():
    """Near-constant values, as rotations are: float32 sums over 2 M rows are off by several percent in the deviation."""
    values = (0.1 + 1e-4 * np.random.default_rng(0).normal(size=2_000_000)).astype(np.float32)
    statistics = Accumulators()
    statistics.add("query_depth", values)
    summary = statistics.parts["query_depth"].summary(0)
    assert summary.mean == pytest.approx(values.astype(np.float64).mean(), rel=1e-8)
    assert summary.std == pytest.approx(values.astype(np.float64).std(), rel=1e-3)
    in_float32 = np.cumsum(values)[-1] / len(values)
    assert abs(in_float32 / summary.mean - 1) > 1e-6, "the figures above would not notice float32"


def test_depth_is_clipped_in_metres_only_where_it_is_metres():
    depth = np.array([[0.0, 0.05, 1.0, 9.0]], np.float16)
    metric, free = Accumulators(), Accumulators()
    metric.add_depth(depth, (0.1, 2.5))
    free.add_depth(depth, None)
    figures = metric.parts["depth"].summary(0)
    assert (figures.samples, figures.minimum, figures.maximum) == (3, float(np.float16(0.1)), 2.5)
    assert free.parts["depth"].summary(0).maximum == 9.0


def test_clipping_counts_equals_clipping_values():
    depth = np.random.default_rng(1).uniform(0, 4, (64, 64)).astype(np.float16)
    statistics, reference = Accumulators(), Accumulators()
    statistics.add_depth(depth, (0.1, 2.5))
    reference.add_depth(np.where(depth > 0, np.clip(depth, np.float16(0.1), np.float16(2.5)), 0).astype(np.float16), None)
    assert packed_bytes(statistics) == packed_bytes(reference)


def test_nothing_counted_gives_no_figures_and_no_infinities():
    statistics = Accumulators()
    statistics.add("displacement", np.empty((0, 3)))
    assert statistics.parts["displacement"].summary(0) == ChannelSummary(0)
    assert np.isfinite(statistics.pack()["extrema"]).all()


def test_values_that_are_not_finite_are_refused():
    statistics = Accumulators()
    statistics.add("query_depth", [[1.0], [np.nan]])
    with pytest.raises(ValueError, match="finite"):
        statistics.pack()


def test_packed_statistics_of_another_version_are_refused():
    packed = some_video(0).pack()
    with pytest.raises(CorruptFile):
        Accumulators.unpack(packed | {"layout": np.frombuffer(b'{"names": [], "version": 2}', np.uint8)})
    with pytest.raises(CorruptFile):
        Accumulators.unpack({name: array for name, array in packed.items() if name != "bins"})


@pytest.mark.slow
def test_a_hundred_million_samples_equal_rational_arithmetic_on_quantised_values():
    """100 videos of a million values each, merged in a random order; the reference sums Python integers of the rounded values."""
    total, square, parts = 0, 0, []
    for seed in range(100):
        values = np.random.default_rng(seed).normal(0.01, 0.05, 1_000_000).astype(np.float32)
        part = Accumulators()
        part.add("query_depth", values)
        parts.append(part.pack())
        units = np.round(values.astype(np.float64) * 2**20).astype(np.int64)
        total += int(units.sum())
        square += sum(int((chunk * chunk).sum()) for chunk in np.split(units, 100))
    random.Random(0).shuffle(parts)
    merged = Accumulators()
    for part in parts:
        merged.merge_packed(part)
    samples, found_total, found_square = merged.parts["query_depth"].exact(0)
    assert (samples, found_total, found_square) == (10**8, Fraction(total, 2**20), Fraction(square, 2**40))
    mean = Fraction(total, 10**8 * 2**20)
    assert merged.parts["query_depth"].summary(0).mean == float(mean)
