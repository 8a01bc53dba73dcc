"""How many workers a device should have, as a pure function of a snapshot of it.

The rule: ``n = floor((free - reserve) / (p95 peak x (1 + margin)))``, where free is what foreign use leaves and the peak is that of
items as long as the longest one left; up to 20 measured items the margin is larger, the fewer the more. One worker probes; others
may load beside it, but work only once its peak is known. More workers than keep the device busy, or than throughput gains from, or
than the work left pays for, are not started. This module starts nothing and reads no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from videolift.pool.decisions.figures import Peak, Rate, Running

UNBOUNDED = 1 << 20
# Numbers without another origin were set on seeds 0 to 999 of the simulator in the tests, and judged on others.
_MIN_GAIN = 0.25
"""A further worker must add this share of what the workers before it do each."""
_PROBE_SHARE_OF_LOAD = 0.1
"""While nothing is known of an item's seconds, it must have run for this share of a load before another load is worth while."""
_ENOUGH_SAMPLES, _BUCKET_SAMPLES = 20, 3
_TRUSTED_ITEMS, _RATE_NOISE = 6, 0.4
_SATURATION_TOLERANCE = 0.15
_CRITICAL_SHARE = 0.5
_LOADS_AT_ONCE = 4
_SLOW_LOAD_S, _SPARE = 0.5, 8
_LEAK_BYTES, _LEAK_SHARE = 300 << 20, 0.5
_REGROW_ITEMS = 8


@dataclass(frozen=True)
class SizingRules:
    """The settings that matter here (`videolift.config.PoolSettings`).

    Attributes:
        margin: added to the measured peak, as a share.
        reserve_bytes: left to others, on the device and in the host.
        max_workers: cap per device, None for none.
    """

    margin: float
    reserve_bytes: int
    max_workers: int | None


@dataclass(frozen=True)
class Snapshot:
    """All that a decision about one device depends on.

    Attributes:
        free_bytes, own_bytes: of the device, now: what a new process could get, and what our workers use.
        host_free_bytes, host_own_bytes: of the machine, or of our control group, likewise.
        slots: the most workers that cores allow.
        workers: alive, loading ones included.
        waiting: items that nobody works on and that may run beside others.
        largest: size of the longest of them.
        waiting_size: their sizes together.
        waiting_s: seconds that one worker alone would need for all of them, None while not known.
        load_s: seconds from start to ready, None while not known.
        loaded_bytes: (device, host) memory of a worker that has done nothing, None while not known.
        peaks: what finished items took.
        running: items at work.
        samples: how many items have been measured, remembered ones included.
        busy_share: for which share of its time one worker keeps the device busy, None while not known.
        rates: throughput by number of workers.
        settled: the most workers after an out of memory, None without one.
        loading: (device bytes, host bytes, seconds so far) of the workers that load.
        pool_workers: alive on all devices together.
        ready: workers that have loaded.
        cores: of the machine.
    """

    free_bytes: int
    own_bytes: int
    host_free_bytes: int
    host_own_bytes: int
    slots: int
    workers: int
    waiting: int
    largest: float
    waiting_size: float
    waiting_s: float | None = None
    load_s: float | None = None
    loaded_bytes: tuple[int, int] | None = None
    peaks: tuple[Peak, ...] = ()
    running: tuple[Running, ...] = ()
    samples: int = 0
    busy_share: float | None = None
    rates: tuple[Rate, ...] = ()
    settled: int | None = None
    loading: tuple[tuple[int, int, float], ...] = ()
    pool_workers: int = 0
    ready: int = 0
    cores: int = 1


@dataclass(frozen=True)
class Decision:
    """What a device should have.

    Attributes:
        busy: how many workers may work at once; at least 1, since whether even one fits, only trying tells.
        start: how many workers to have started; above ``busy`` only while the first items are measured.
        keep: how many workers may live; those above ``busy`` only rest, and take no more than when they had just loaded.
        loads_at_once: how many may load at the same time; loading reads disks and fills memory in bursts.
        reason: the limit that decided.
        give_up: the host is about to run out: the youngest worker of the pool must go at once.
        figures: the numbers behind it, for events and people.
    """

    busy: int
    start: int
    keep: int
    loads_at_once: int
    reason: str
    give_up: bool
    figures: dict[str, float]


def decide(now: Snapshot, rules: SizingRules) -> Decision:
    """The numbers for one device."""
    known = _relevant(now)
    # One sample says little of the next item; with 20 the 95th percentile has a meaning.
    margin = rules.margin * (1.0 + max(0.0, 1.0 / max(1, now.samples) - 1.0 / _ENOUGH_SAMPLES))
    peak, host_peak = (_p95([p.device_bytes for p in known]), _p95([p.host_bytes for p in known]))
    limits = {
        "memory": _fit(now.free_bytes + now.own_bytes, peak * (1 + margin), rules),
        "host memory": _fit(now.host_free_bytes + now.host_own_bytes, host_peak * (1 + margin), rules),
        "cores": now.slots,
        "max_workers": rules.max_workers or UNBOUNDED,
        "out of memory before": now.settled or UNBOUNDED,
        # As many as keep the device busy: one busy for 31 % of its time with one worker takes a third one, hardly a fourth.
        "device busy": max(1, math.ceil(1.0 / now.busy_share - _SATURATION_TOLERANCE)) if now.busy_share else UNBOUNDED,
        "throughput": _throughput_limit(now.rates, now.busy_share),
    }
    reason = min(limits, key=lambda name: limits[name])
    allowed = max(1, limits[reason])
    # Without a measured peak nobody may join the first item: two that do not fit both die, and say nothing of one.
    busy = start = allowed if known else 1
    if not now.samples:
        unmeasured = min(limit for name, limit in limits.items() if "memory" not in name)
        beside = _resting(now, rules, busy) // 2  # fewer than may be kept, or small changes would start and end them in turn
        start = max(busy, min(unmeasured, busy + beside if known else _loadable(now, rules)))
        reason = "probing" if max(allowed, start) > busy else reason
    if not _worth_starting(now) and start > now.workers:
        start, reason = max(1, now.workers), "not worth starting"
    # Memory of the host is shared by all devices, and each of them sees all of it: none may grow into the reserve.
    if now.host_free_bytes < rules.reserve_bytes and start > now.workers:
        start, reason = now.workers if now.pool_workers else 1, "host memory"
    keep = max(start, busy + _resting(now, rules, busy))
    figures = {
        "free_gib": _gib(now.free_bytes),
        "own_gib": _gib(now.own_bytes),
        "peak_gib": _gib(peak),
        "host_free_gib": _gib(now.host_free_bytes),
        "host_peak_gib": _gib(host_peak),
        "samples": now.samples,
        "busy_share": round(now.busy_share or 0.0, 3),
        "waiting": now.waiting,
    }
    critical = now.host_free_bytes < _CRITICAL_SHARE * rules.reserve_bytes and max(now.workers, now.pool_workers) > 1
    loads = loads_at_once(now.ready, now.cores, known=now.samples > 0)
    return Decision(busy, start, keep, loads_at_once=loads, reason=reason, give_up=critical, figures=figures)


def _fit(available: int, peak: float, rules: SizingRules) -> int:
    if peak <= 0:
        return UNBOUNDED
    return max(0, math.floor((available - rules.reserve_bytes) / peak))


def _loadable(now: Snapshot, rules: SizingRules) -> int:
    """How many may be loaded while the probe's peak is not known: half of the memory is left to its growth."""
    if now.loaded_bytes is None:
        if len(now.loading) < now.workers or not now.loading:
            return 1
        # Beside the very first a second one may load where that takes its time, and far more memory is free than it has taken.
        device, host, seconds = now.loading[0]
        free = min(now.free_bytes - _SPARE * device, now.host_free_bytes - _SPARE * host)
        return 1 + (seconds >= _SLOW_LOAD_S and free > rules.reserve_bytes)
    return _room(rules, now.loaded_bytes, ((now.free_bytes + now.own_bytes) / 2, (now.host_free_bytes + now.host_own_bytes) / 2))


def _resting(now: Snapshot, rules: SizingRules, busy: int) -> int:
    """How many loaded workers may rest beside so many busy ones at their peak."""
    known = _relevant(now)
    if now.loaded_bytes is None or not known:
        return now.workers
    left = (
        now.free_bytes + now.own_bytes - busy * _p95([p.device_bytes for p in known]) * (1 + rules.margin),
        now.host_free_bytes + now.host_own_bytes - busy * _p95([p.host_bytes for p in known]) * (1 + rules.margin),
    )
    return _room(rules, now.loaded_bytes, left)


def _room(rules: SizingRules, loaded_bytes: tuple[int, int], free_bytes: tuple[float, float]) -> int:
    """Loaded workers for which device and host have room."""
    rooms = [
        (free - rules.reserve_bytes) / (loaded * (1 + rules.margin))
        for free, loaded in zip(free_bytes, loaded_bytes, strict=True)
        if loaded
    ]
    return max(0, math.floor(min(rooms, default=0.0)))


def _throughput_limit(rates: tuple[Rate, ...], busy_share: float | None) -> int:
    """The number from which on more workers added, or would add, too little; no limit while no two numbers have been tried.

    Seen: a few more added less than `_MIN_GAIN` of their share. Expected: each slows the others by an equal share, so that each
    of n works, against the fewest seen, at ``1 - k (n - 1)`` of the speed, apart from a device that is simply busy; the product
    with n is largest at ``(1 + 1 / k) / 2``.
    """
    if len(rates) < 2:
        return UNBOUNDED
    best = UNBOUNDED
    for fewer, more in zip(rates, rates[1:], strict=False):
        # Two numbers far apart say nothing of the numbers between them.
        if more.workers > 1.5 * fewer.workers + 1 or fewer.items < _TRUSTED_ITEMS:
            continue
        each = fewer.throughput / fewer.workers
        if more.throughput - fewer.throughput < _MIN_GAIN * each * (more.workers - fewer.workers):
            best = fewer.workers
            break
    first, most = rates[0], rates[-1]
    relative = (most.throughput / most.workers) / (first.throughput / first.workers)
    # Few items are noisy: give the larger number the benefit of the doubt, less of it the more items there are.
    relative *= 1.0 + _RATE_NOISE / math.sqrt(first.items)
    share = busy_share or 0.0
    busy = max(1.0, share * most.workers) / max(1.0, share * first.workers)
    slowing = (1.0 - min(1.0, relative * busy)) / (most.workers - first.workers)
    return best if slowing <= 0 else min(best, max(first.workers, math.floor((1.0 + 1.0 / slowing) / 2.0)))


def _relevant(now: Snapshot) -> list[Peak]:
    """Peaks of items about as long as the longest one left, or longer where few such are known or still run; running ones so far.

    Before the first item has ended: what the running ones will come to by their own word, if they say how far they are.
    """
    if not now.samples:
        expected = [running.at_its_end(now.loaded_bytes or (0, 0)) for running in now.running]
        return [peak for peak in expected if peak is not None]
    longer = [p for p in now.peaks if 2 * p.size >= now.largest]
    bucket = [p for p in longer if p.size <= 2 * now.largest]
    # Longer items than any that is left need not be provided for, unless one of them still runs.
    if len(bucket) >= _BUCKET_SAMPLES and all(r.size <= 2 * now.largest for r in now.running):
        longer = bucket
    # A running item may already be above every peak known.
    return [*(longer or now.peaks), *(Peak(r.size, r.device_bytes, r.host_bytes) for r in now.running)]


def _p95(values: list[int]) -> float:
    """The smallest value that at least 95 % do not exceed; of fewer than 20 values, the largest."""
    if not values:
        return 0.0
    return float(sorted(values)[math.ceil(0.95 * len(values)) - 1])


def _worth_starting(now: Snapshot) -> bool:
    """True if work would be left for one more worker when it has loaded."""
    if now.waiting == 0:
        return False
    if now.load_s is None or now.workers == 0:
        return True
    waiting_s = now.waiting_s
    if waiting_s is None:  # no item has ended yet: the slowest speed that a running one reports
        told = [r.seconds / (r.progress * r.size) for r in now.running if r.progress > 0 and r.size > 0]
        waiting_s = now.waiting_size * max(told) if told else None
    if waiting_s is None:
        return max((r.seconds for r in now.running), default=0.0) >= _PROBE_SHARE_OF_LOAD * now.load_s
    # By the time it has loaded, the others will have shared what waits; less than a load each is not worth it.
    return waiting_s / now.workers > now.load_s


def loads_at_once(ready: int, cores: int, *, known: bool) -> int:
    """How many workers may load at the same time: a few, more where there are many cores; two before the first is ready.

    Args:
        ready: workers that have loaded.
        cores: of the machine.
        known: what a worker takes is remembered from an earlier run.
    """
    return max(_LOADS_AT_ONCE, ready, cores // 2) if ready or known else 2


def crowding(workers: int, busy_share: float | None) -> float:
    """How many times as long an item takes on a device beside so many busy workers, itself included, as alone on it.

    While it is not known how busy one worker keeps the device, they are taken to share it in turns.
    """
    return max(1.0, workers * (1.0 if busy_share is None else busy_share))


def leaks(first_rest_bytes: int, rest_bytes: int) -> bool:
    """True if a worker holds so much more between items than after its first ones that a fresh one should take its place."""
    return rest_bytes - first_rest_bytes > max(_LEAK_BYTES, _LEAK_SHARE * first_rest_bytes)


def regrown(settled: int | None, done_since: int) -> int | None:
    """The cap after an out of memory, one higher once each of its workers has done several items since without another."""
    if settled is None or done_since < _REGROW_ITEMS * settled:
        return settled
    return settled + 1


def _gib(count: float) -> float:
    return round(count / 2**30, 2)
