import dataclasses
import random

from hypothesis import given
from hypothesis import strategies as st

from videolift.pool.decisions.figures import Peak, Rate, Running, WorkerFigures
from videolift.pool.decisions.sizing import SizingRules, Snapshot, crowding, decide, leaks, loads_at_once, regrown

GIB = 2**30
RULES = SizingRules(margin=0.15, reserve_bytes=GIB, max_workers=None)
CARD = Snapshot(
    free_bytes=24 * GIB,
    own_bytes=0,
    host_free_bytes=64 * GIB,
    host_own_bytes=0,
    slots=1 << 20,
    workers=1,
    waiting=100,
    largest=1.0,
    waiting_size=100.0,
)


def measured(count=20, gib=4.0, host_gib=1.0, **changes):
    peaks = (Peak(1.0, int(gib * GIB), int(host_gib * GIB)),) * count
    return dataclasses.replace(CARD, peaks=peaks, samples=count, loaded_bytes=(GIB, GIB), **changes)


def test_the_rule_of_the_design():
    assert decide(measured(), RULES).busy == (24 - 1) // (4 * 1.15)


def test_without_a_measured_item_one_works():
    decision = decide(CARD, RULES)
    assert (decision.busy, decision.start) == (1, 1)


def test_beside_the_probe_others_load_but_do_not_work():
    decision = decide(dataclasses.replace(CARD, loaded_bytes=(2 * GIB, 1 * GIB)), RULES)
    assert decision.busy == 1
    assert decision.start == (12 - 1) // (2 * 1.15)


def test_a_probe_that_tells_how_far_it_is_lets_others_begin():
    probe = Running(1.0, 2 * GIB, GIB, seconds=30.0, progress=0.5)
    decision = decide(dataclasses.replace(CARD, running=(probe,), loaded_bytes=(GIB, GIB)), RULES)
    assert decision.busy == 23 // (3 * 1.3)
    silent = dataclasses.replace(probe, progress=0.0)
    assert decide(dataclasses.replace(CARD, running=(silent,), loaded_bytes=(GIB, GIB)), RULES).busy == 1


def test_few_samples_widen_the_margin():
    assert decide(measured(count=1), RULES).busy < decide(measured(count=20), RULES).busy


def test_peaks_of_short_items_say_nothing_about_long_ones():
    peaks = (*[Peak(1.0, GIB, 0)] * 50, *[Peak(8.0, 6 * GIB, 0)] * 3)
    long = dataclasses.replace(CARD, peaks=peaks, samples=53, largest=8.0)
    assert decide(long, RULES).busy == 3
    short = dataclasses.replace(long, largest=1.0)
    assert decide(short, RULES).busy == 23 // 1.15
    still_long = Running(8.0, 5 * GIB, 0, seconds=1.0, progress=0.5)
    assert decide(dataclasses.replace(short, running=(still_long,)), RULES).busy == 3


def test_foreign_use_lowers_the_number():
    assert decide(measured(free_bytes=10 * GIB), RULES).busy == 1


def test_own_use_does_not():
    assert decide(measured(free_bytes=4 * GIB, own_bytes=20 * GIB), RULES).busy == decide(measured(), RULES).busy


def test_host_memory_caps_workers_of_a_card():
    decision = decide(measured(host_gib=30.0), RULES)
    assert (decision.busy, decision.reason) == (1, "host memory")


def test_max_workers_caps():
    assert decide(measured(), dataclasses.replace(RULES, max_workers=2)).busy == 2


def test_a_busy_device_gets_no_more_workers():
    assert decide(measured(busy_share=0.45), RULES).busy == 3
    assert decide(measured(busy_share=0.51), RULES).busy == 2
    assert decide(measured(busy_share=0.97), RULES).busy == 1


def test_workers_that_add_nothing_are_not_kept():
    rates = (Rate(2, 2.0, 20), Rate(3, 2.05, 20))
    assert decide(measured(rates=rates), RULES).busy == 2


def test_workers_that_slow_each_other_down_are_capped_where_their_product_is_largest():
    slowing = 0.1
    rates = tuple(Rate(n, n * (1 - slowing * (n - 1)), 10_000) for n in (1, 9))
    assert decide(measured(gib=0.1, rates=rates), RULES).busy == 5  # (1 + 1 / 0.1) / 2


def test_a_set_too_small_to_pay_for_a_second_worker_gets_one():
    decision = decide(measured(waiting=4, waiting_s=20.0, load_s=60.0), RULES)
    assert (decision.start, decision.reason) == (1, "not worth starting")
    assert decide(measured(waiting=40, waiting_s=200.0, load_s=60.0), RULES).start > 1


def test_the_youngest_goes_before_the_machine_is_out_of_memory():
    assert decide(measured(workers=3, host_free_bytes=GIB // 4), RULES).give_up
    assert not decide(measured(workers=1, host_free_bytes=GIB // 4), RULES).give_up
    assert not decide(measured(workers=3, host_free_bytes=GIB), RULES).give_up


def test_no_worker_is_added_while_the_host_is_short_of_memory():
    short = measured(workers=2, pool_workers=3, host_free_bytes=GIB // 2, host_own_bytes=60 * GIB)
    assert decide(short, RULES).start == 2
    assert decide(dataclasses.replace(short, workers=0), RULES).start == 0
    assert decide(dataclasses.replace(short, workers=0, pool_workers=0), RULES).start == 1


def test_after_out_of_memory_the_number_grows_again_only_with_quiet_work():
    assert decide(measured(settled=2), RULES).busy == 2
    assert regrown(2, done_since=15) == 2
    assert regrown(2, done_since=16) == 3
    assert regrown(None, done_since=10**6) is None


def test_resting_workers_are_kept_while_there_is_room_but_none_is_started_for_it():
    decision = decide(measured(busy_share=0.97, workers=4), RULES)
    assert (decision.busy, decision.start) == (1, 1)
    assert decision.keep >= 4


def test_a_second_worker_loads_beside_a_slow_first_one_where_there_is_far_more_memory():
    slow = dataclasses.replace(CARD, loading=((GIB, GIB, 1.5),))
    assert decide(slow, RULES).start == 2
    assert decide(dataclasses.replace(slow, loading=((GIB, GIB, 0.3),)), RULES).start == 1
    assert decide(dataclasses.replace(slow, loading=((3 * GIB, GIB, 1.5),)), RULES).start == 1
    assert decide(dataclasses.replace(slow, waiting=0), RULES).start == 1


def test_few_load_at_once():
    assert loads_at_once(ready=0, cores=64, known=False) == 2
    assert loads_at_once(ready=1, cores=2, known=False) == 4
    assert loads_at_once(ready=0, cores=2, known=True) == 4
    assert loads_at_once(ready=9, cores=2, known=True) == 9
    assert loads_at_once(ready=1, cores=64, known=False) == 32
    assert decide(measured(ready=1, cores=64), RULES).loads_at_once == 32


def test_workers_share_a_device_in_turns_until_it_is_known_how_busy_one_keeps_it():
    assert crowding(3, None) == 3.0
    assert crowding(3, 0.25) == 1.0
    assert crowding(8, 0.25) == 2.0


def test_a_worker_that_keeps_more_and_more_is_replaced():
    assert not leaks(1 * GIB, int(1.4 * GIB))
    assert leaks(1 * GIB, int(1.6 * GIB))
    assert not leaks(10 << 20, 200 << 20)


def test_the_busy_share_of_one_worker_is_seen_below_saturation_only():
    figures = WorkerFigures()
    figures.busied(4, 1.0)
    assert figures.busy_share == 0.25
    figures.busied(2, 0.6)
    assert figures.busy_share == 0.3


def test_throughput_counts_all_workers():
    figures = WorkerFigures()
    for _ in range(10):
        figures.worked(size=10.0, seconds=5.0, workers=3.1)
    assert figures.rates == (Rate(3, 6.0, 10),)
    assert figures.seconds_per_size == 0.5


@given(
    free=st.integers(0, 200 * GIB),
    own=st.integers(0, 100 * GIB),
    peaks=st.lists(st.integers(1 << 20, 40 * GIB), max_size=40),
    settled=st.none() | st.integers(1, 9),
    workers=st.integers(0, 40),
)
def test_what_is_promised_fits(free, own, peaks, settled, workers):
    now = dataclasses.replace(
        CARD,
        free_bytes=free,
        own_bytes=own,
        workers=workers,
        peaks=tuple(Peak(1.0, peak, 0) for peak in peaks),
        samples=len(peaks),
        settled=settled,
        loaded_bytes=(GIB, GIB),
    )
    decision = decide(now, RULES)
    assert decision.busy >= 1
    assert decision.keep >= decision.start
    if decision.busy > 1:
        p95 = sorted(peaks)[max(0, -(-len(peaks) * 95 // 100) - 1)]
        assert decision.busy * p95 * 1.15 + GIB <= free + own


def test_more_memory_never_means_fewer_workers():
    rng = random.Random(1)
    for _ in range(200):
        now = measured(count=rng.randint(1, 30), gib=rng.uniform(0.1, 9), free_bytes=rng.randint(1, 30) * GIB)
        more = dataclasses.replace(now, free_bytes=now.free_bytes + GIB)
        assert decide(more, RULES).busy >= decide(now, RULES).busy
