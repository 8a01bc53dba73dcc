"""How many workers a device should have, as a pure function of a snapshot of it.

The rule: ``n = floor((free - reserve) / (p95 peak x (1 + margin)))``, where free is what foreign use leaves and the peak is that of
items as long as the longest one left. One worker probes; each measured item doubles what is allowed until three have been seen. A
worker is added only while the work left pays for starting it. This module starts nothing and reads no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UNBOUNDED = 1 << 20
_TRUSTED_SAMPLES = 3


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
class Peak:
    """What one item, or a worker still at it, took at most: on the device and in the host's memory."""

    size: float
    device_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class Snapshot:
    """All that a decision about one device depends on.

    Attributes:
        total_bytes, free_bytes: of the device, now.
        own_bytes: in use by our workers now.
        host_free_bytes: of the machine, or of our control group, now.
        host_own_bytes: of that, in use by our workers.
        slots: the most that cores allow.
        workers: alive, loading ones included; ``ready`` of them have loaded.
        ready: see workers.
        waiting: items that nobody works on and that may run beside others.
        largest: size of the longest of them.
        seconds_left: single-worker seconds of all that is waiting, None while nothing has been measured.
        load_s: seconds from start to ready, None while nothing has been measured.
        peaks: what finished items took, and what running ones have taken so far.
        finished_samples: how many of ``peaks`` are of finished items, remembered ones included.
        settled: the most workers since an out of memory, None without one.
    """

    total_bytes: int
    free_bytes: int
    own_bytes: int
    host_free_bytes: int
    host_own_bytes: int
    slots: int
    workers: int
    ready: int
    waiting: int
    largest: float
    seconds_left: float | None
    load_s: float | None
    peaks: tuple[Peak, ...]
    finished_samples: int
    settled: int | None = None


@dataclass(frozen=True)
class Decision:
    """How many workers the device should have, and why; ``figures`` are the numbers behind it, for events and people."""

    workers: int
    reason: str
    figures: dict[str, float]


def decide(now: Snapshot, rules: SizingRules) -> Decision:
    """The number of workers for one device. At least 1: whether even one fits, only trying tells."""
    device_peak, host_peak = _p95([p.device_bytes for p in _relevant(now)]), _p95([p.host_bytes for p in _relevant(now)])
    limits = {
        "memory": _fit(now.free_bytes + now.own_bytes, device_peak, rules),
        "host memory": _fit(now.host_free_bytes + now.host_own_bytes, host_peak, rules),
        "cores": now.slots,
        "max_workers": rules.max_workers or UNBOUNDED,
        "out of memory before": now.settled or UNBOUNDED,
        "probing": UNBOUNDED if now.finished_samples >= _TRUSTED_SAMPLES else 2**now.finished_samples,
        "items left": max(1, now.workers, min(now.ready + now.waiting, UNBOUNDED)),
    }
    if not _pays(now):
        limits["not worth starting"] = max(1, now.workers)
    reason = min(limits, key=lambda name: limits[name])
    figures = {
        "free_gib": _gib(now.free_bytes),
        "own_gib": _gib(now.own_bytes),
        "peak_gib": _gib(device_peak),
        "host_free_gib": _gib(now.host_free_bytes),
        "host_peak_gib": _gib(host_peak),
        "samples": now.finished_samples,
        "waiting": now.waiting,
    }
    return Decision(max(1, limits[reason]), reason, figures)


def _fit(available: int, peak: float, rules: SizingRules) -> int:
    if peak <= 0:
        return UNBOUNDED
    return max(0, math.floor((available - rules.reserve_bytes) / (peak * (1 + rules.margin))))


def _relevant(now: Snapshot) -> list[Peak]:
    """Peaks of items at least half as long as the longest one left; all of them where there is none."""
    longer = [p for p in now.peaks if 2 * p.size >= now.largest]
    return longer or list(now.peaks)


def _p95(values: list[int]) -> float:
    """The smallest value that at least 95 % do not exceed; of fewer than 20 values, the largest."""
    if not values:
        return 0.0
    return float(sorted(values)[math.ceil(0.95 * len(values)) - 1])


def _pays(now: Snapshot) -> bool:
    """True if one more worker would end the work sooner, its loading counted."""
    if now.seconds_left is None or now.load_s is None:
        return True
    return now.seconds_left / max(1, now.workers) > now.load_s


def _gib(count: float) -> float:
    return round(count / 2**30, 2)
