"""All workers of one device: what they have been seen to take, how fast they are, and the snapshot that sizing decides on.

Measures; the supervisor acts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from videolift.pool.handle import WorkerHandle
from videolift.pool.memory import Gauge
from videolift.pool.queue import WorkQueue
from videolift.pool.sizing import Decision, Peak, Snapshot
from videolift.pool.types import Device

_KEPT_PEAKS = 200


@dataclass(frozen=True)
class Use:
    """Of one worker's process tree, in bytes, now."""

    device_bytes: int
    host_bytes: int


class Crew:
    """One device's workers and figures."""

    def __init__(self, device: Device, slots: int) -> None:
        self.device, self.slots = device, slots
        self.workers: list[WorkerHandle] = []
        self.fenced: str | None = None
        self.load_failures = 0
        self.spawn_not_before = 0.0
        self.settled: int | None = None
        self.most = 0
        self.decision: Decision | None = None
        self.peaks: list[Peak] = []
        self.load_s: float | None = None
        self._use: dict[int, Use] = {}
        self._running: dict[int, Peak] = {}
        self._work_s = self._work_size = 0.0

    @property
    def living(self) -> list[WorkerHandle]:
        """Loading, idle or busy."""
        return [w for w in self.workers if w.living]

    @property
    def own_bytes(self) -> int:
        """Device memory of all workers at the last sample."""
        return sum(use.device_bytes for use in self._use.values())

    def sample(self, gauge: Gauge) -> None:
        """Looks at the memory of every worker's tree."""
        for worker in self.workers:
            if worker.living:
                self._look(worker, gauge)
        alive = {w.serial for w in self.workers}
        self._use = {serial: use for serial, use in self._use.items() if serial in alive}

    def _look(self, worker: WorkerHandle, gauge: Gauge) -> None:
        worker.refresh_members()
        host = gauge.host_tree(worker.members)
        on_device = host if self.device.kind == "cpu" else gauge.tree(self.device, worker.members)
        use = Use(on_device or 0, host)
        self._use[worker.serial] = use
        if worker.state == "busy" and worker.task is not None:
            before = self._running.get(worker.serial, Peak(worker.task.size, 0, 0))
            after = Peak(before.size, max(before.device_bytes, use.device_bytes), max(before.host_bytes, use.host_bytes))
            self._running[worker.serial] = after
            worker.peak_bytes = after.device_bytes or None

    def began(self, worker: WorkerHandle) -> None:
        """A worker starts on an item."""
        self._running.pop(worker.serial, None)

    def ended(self, worker: WorkerHandle, size: float, gauge: Gauge, peak_rss_bytes: int | None) -> int | None:
        """A worker has ended an item; returns the item's peak on the device, None where it could not be measured."""
        if worker.serial not in self._running and (peak_rss_bytes is None or self.device.kind == "cuda"):
            self._look(worker, gauge)
        seen = self._running.pop(worker.serial, Peak(size, 0, 0))
        host = max(seen.host_bytes, peak_rss_bytes or 0)
        on_device = host if self.device.kind == "cpu" else seen.device_bytes
        if on_device or host:
            self.peaks = [*self.peaks, Peak(size, on_device, host)][-_KEPT_PEAKS:]
        return on_device or None

    def worked(self, size: float, seconds: float) -> None:
        """An item of ``size`` was done in ``seconds``."""
        self._work_s += seconds
        self._work_size += size

    def loaded(self, worker: WorkerHandle) -> None:
        """A worker became ready."""
        self.load_s = time.monotonic() - worker.spawned
        self.load_failures = 0

    def snapshot(self, gauge: Gauge, queue: WorkQueue) -> Snapshot:
        """What sizing needs."""
        host, living = gauge.host(), self.living
        memory = host if self.device.kind == "cpu" else gauge.device(self.device)
        own_host = sum(use.host_bytes for use in self._use.values())
        per_size = self._work_s / self._work_size if self._work_size else None
        return Snapshot(
            total_bytes=memory.total,
            free_bytes=memory.free,
            own_bytes=self.own_bytes,
            host_free_bytes=host.free,
            host_own_bytes=own_host,
            slots=self.slots,
            workers=len(living),
            ready=sum(w.state != "loading" for w in living),
            waiting=queue.shared,
            largest=queue.largest,
            seconds_left=None if per_size is None else per_size * queue.shared_size,
            load_s=self.load_s,
            peaks=(*self.peaks, *self._running.values()),
            finished_samples=len(self.peaks),
            settled=self.settled,
        )
