"""What has been seen of one kind of worker: memory per item, seconds, loading, how busy it keeps the device.

Takes observations, gives the estimates that `sizing` decides on. They are kept between runs in a small JSON file: advice for the
first minutes of the next run, never needed and not trusted for long. It has one entry per (label, device name), where the label
names backend, version and resolution, and keeps the largest peaks per power of two of the item's size. A missing, torn or old
file is an empty one, and a file that cannot be written costs nothing but the advice.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videolift.errors import Transient

_log = logging.getLogger("videolift.pool")
FIGURES_FORMAT = 1
_PEAKS_PER_BUCKET = 3

# A p95 needs some tens; older ones may be of another kind of video.
_KEPT = 200
# NVML rounds, and its sampling period is not ours: above this a device counts as full.
_SATURATED = 0.95
_RATE_SAMPLES = 6
# Models fill their caches at the start of an item; before a tenth of it, growth says nothing of the end.
_TOLD_ENOUGH = 0.1


@dataclass(frozen=True)
class Peak:
    """What one item, or a worker still at it, took at most: on the device and in the host's memory."""

    size: float
    device_bytes: int
    host_bytes: int


@dataclass(frozen=True)
class Running:
    """An item at work: what it has taken so far at most, for how long, and the share that is done by its own word (0: unknown)."""

    size: float
    device_bytes: int
    host_bytes: int
    seconds: float
    progress: float

    def at_its_end(self, loaded_bytes: tuple[int, int]) -> Peak | None:
        """What it will have taken if what it adds to a loaded worker grows no faster than its progress; None while unknown."""
        if self.progress < _TOLD_ENOUGH:
            return None
        device, host = (
            round(loaded + max(0, now - loaded) / min(1.0, self.progress))
            for now, loaded in zip((self.device_bytes, self.host_bytes), loaded_bytes, strict=True)
        )
        return Peak(self.size, device, host)


@dataclass(frozen=True)
class Rate:
    """Throughput of one device with so many workers busy: size units per second, all together, from so many items."""

    workers: int
    throughput: float
    items: int


class WorkerFigures:
    """Estimates for one device (or for all cards of one name, which share it)."""

    def __init__(self) -> None:
        self._peaks: deque[Peak] = deque(maxlen=_KEPT)
        self._loads_s: deque[float] = deque(maxlen=_KEPT)
        self._loaded: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        self._rates: dict[int, deque[float]] = {}
        self._busy: dict[int, deque[float]] = {}
        self.samples = 0

    def remember(
        self, peaks: list[Peak], load_s: float | None, seconds_per_size: float | None = None, busy_share: float | None = None
    ) -> None:
        """Takes over what an earlier run has seen."""
        self._peaks.extend(peaks)
        self.samples += len(peaks)
        if load_s is not None:
            self._loads_s.append(load_s)
        if seconds_per_size:
            self.worked(1.0, seconds_per_size, 1)
        if busy_share is not None:
            self.busied(1, busy_share)

    def loaded(self, seconds: float, device_bytes: int, host_bytes: int) -> None:
        """A worker became ready, and takes so much before its first item."""
        self._loads_s.append(seconds)
        if device_bytes or host_bytes:
            self._loaded.append((device_bytes, host_bytes))

    def peaked(self, peak: Peak) -> None:
        """An item ended, or ran out of memory, having taken this much."""
        self._peaks.append(peak)
        self.samples += 1

    def worked(self, size: float, seconds: float, workers: float) -> None:
        """An item took ``seconds`` while on average so many workers of the device were busy, this one included."""
        if seconds > 0:
            self._rates.setdefault(max(1, round(workers)), deque(maxlen=_KEPT)).append(size / seconds)

    def busied(self, workers: int, share: float) -> None:
        """With so many busy workers the device was busy for ``share`` of the time."""
        if workers:
            self._busy.setdefault(workers, deque(maxlen=_KEPT)).append(share)

    @property
    def peaks(self) -> tuple[Peak, ...]:
        """Of items that ended."""
        return tuple(self._peaks)

    @property
    def load_s(self) -> float | None:
        """Seconds from start to ready, None before the first."""
        return statistics.median(self._loads_s) if self._loads_s else None

    @property
    def loaded_bytes(self) -> tuple[int, int] | None:
        """(device, host) memory of a worker that has loaded and done nothing, None before the first."""
        if not self._loaded:
            return None
        return max(device for device, _ in self._loaded), max(host for _, host in self._loaded)

    @property
    def seconds_per_size(self) -> float | None:
        """Of a worker that is alone on its device, None before the first item; estimated from the fewest workers seen."""
        if not self._rates:
            return None
        # The fewest workers seen were slowed least by each other.
        few = min(self._rates)
        return 1.0 / statistics.median(self._rates[few])

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Throughput by number of busy workers, fewest first; beyond the fewest only where enough items have been seen."""
        few = min(self._rates, default=0)
        enough = {n: rates for n, rates in self._rates.items() if n == few or len(rates) >= max(_RATE_SAMPLES, n // 2)}
        return tuple(Rate(n, n * statistics.median(enough[n]), len(enough[n])) for n in sorted(enough))

    @property
    def busy_share(self) -> float | None:
        """Share of its time for which one worker keeps the device busy, None while not known.

        Where the device is not saturated, n workers keep it busy n times as long as one; where it is, they do so at least.
        """
        # A full device hides how much more it is asked for, so unsaturated moments tell more.
        clear = [share / n for n, shares in self._busy.items() for share in shares if share < _SATURATED]
        if clear:
            return statistics.median(clear)
        full = [n for n, shares in self._busy.items() if shares]
        return 1.0 / min(full) if full else None


def load_figures(path: Path, label: str, device_name: str, figures: WorkerFigures) -> bool:
    """Adds what is known of ``label`` on such a device to ``figures``; False where nothing is."""
    entry = _entries(path).get(_key(label, device_name))
    try:
        if entry is None:
            return False
        peaks = [Peak(float(size), int(device), int(host)) for size, device, host in entry["peaks"]]
        figures.remember(peaks, entry["load_s"], entry["seconds_per_size"], entry["busy_share"])
    except (KeyError, TypeError, ValueError):
        return False
    return bool(peaks)


def save_figures(path: Path, label: str, figures: dict[str, WorkerFigures], *, busy_share: bool) -> None:
    """Replaces the entries of ``label`` for each device name by what is known now.

    ``busy_share`` is kept for cards only: on the CPU it depends on the threads that a worker happened to get.
    """
    from videolift.store import write_json  # it brings h5py, which a worker that imports this package need not have

    entries = _entries(path)
    for device_name, known in figures.items():
        if not known.peaks:
            continue
        # The largest few of each power of two of size: a limit is set by the largest, and a set of short videos must not push
        # what is known of long ones out.
        buckets: dict[int, list[Peak]] = {}
        for peak in known.peaks:
            buckets.setdefault(math.floor(math.log2(max(peak.size, 1e-9))), []).append(peak)
        largest = [
            peak
            for bucket in buckets.values()
            for peak in sorted(bucket, key=lambda p: -max(p.device_bytes, p.host_bytes))[:_PEAKS_PER_BUCKET]
        ]
        entries[_key(label, device_name)] = {
            "peaks": [[p.size, p.device_bytes, p.host_bytes] for p in sorted(largest, key=lambda p: -p.size)],
            "load_s": known.load_s,
            "seconds_per_size": known.seconds_per_size,
            "busy_share": known.busy_share if busy_share else None,
        }
    try:
        write_json(path, {"format": FIGURES_FORMAT, "figures": entries})
    except (Transient, OSError) as error:
        _log.warning("the pool's figures are not remembered: %s", error)


def _key(label: str, device_name: str) -> str:
    return f"{label} | {device_name}"


def _entries(path: Path) -> dict[str, Any]:
    from videolift.store import read_json

    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FIGURES_FORMAT or not isinstance(value.get("figures"), dict):
        return {}
    return dict(value["figures"])
