"""All workers of one device: what they take now, what has been seen of them, and the snapshot that sizing decides on.

Measures and remembers; who is started, fed and ended is decided elsewhere. A card can vanish between two looks: the last figures
stay, and `lost` says so to `staffing.fence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from videolift.pool.decisions.figures import Peak, Running, WorkerFigures
from videolift.pool.decisions.policy import FOREIGN_SHARE
from videolift.pool.decisions.sizing import Decision, Snapshot, crowding, leaks, regrown
from videolift.pool.devices import DeviceLost
from videolift.pool.interface import Device
from videolift.pool.items import WorkQueue
from videolift.pool.memory import Gauge, Memory
from videolift.pool.workers.handle import WorkerHandle

_CALM_ITEMS = 2
"""Items after which a worker's memory at rest is taken as normal: caches have been filled."""

_Figure = TypeVar("_Figure")


@dataclass(frozen=True)
class _WorkerUse:
    """Of one worker's process tree: bytes now, and CPU seconds so far."""

    device_bytes: int
    host_bytes: int
    cpu_s: float


class DeviceWorkers:
    """One device's workers and figures.

    Attributes:
        fenced: why nothing more is started here, None while it is used.
        lost: what the driver said when it no longer answered for the card, None while it does.
        settled: the most workers after an out of memory, None without one.
        most: workers alive at once so far.
    """

    def __init__(self, device: Device, slots: int, figures: WorkerFigures, gauge: Gauge, now: Callable[[], float]) -> None:
        self.device, self.slots, self.figures = device, slots, figures
        self._gauge, self._now = gauge, now
        self.workers: list[WorkerHandle] = []
        self.fenced: str | None = None
        self.lost: str | None = None
        self.load_failures = 0
        self.first_load_failure = 0.0
        self.spawn_not_before = 0.0
        self.settled: int | None = None
        self.done_since = 0
        self.most = 0
        self.decision: Decision | None = None
        self.usual_foreign_bytes: int | None = None
        self._use: dict[int, _WorkerUse] = {}
        self._memory = Memory(device.memory_bytes, device.memory_bytes)
        self._host = self._memory
        self._running: dict[int, Peak] = {}
        self._progress_at_look: dict[int, float] = {}
        self._company: dict[int, float] = {}
        self._last_count = (0, now())
        self._last_busy: tuple[frozenset[int], float, float] = (frozenset(), 0.0, 0.0)

    @property
    def living(self) -> list[WorkerHandle]:
        """Loading, idle or busy."""
        return [w for w in self.workers if w.living]

    @property
    def busy(self) -> int:
        """Workers with an item."""
        return sum(w.state == "busy" for w in self.workers)

    @property
    def own_bytes(self) -> int:
        """Device memory of all workers at the last look."""
        return sum(use.device_bytes for use in self._use.values())

    @property
    def foreign_bytes(self) -> int:
        """Device memory that was neither free nor ours at the last look."""
        return max(0, self._memory.total - self._memory.free - self.own_bytes)

    @property
    def held_by_others(self) -> str:
        """What to say where others held a good part of the device's memory at the last look, else empty."""
        foreign, total = self.foreign_bytes, self._memory.total
        held = f", while others hold {foreign / 2**30:.1f} GiB of {total / 2**30:.1f} GiB"
        return held if foreign > FOREIGN_SHARE * total else ""

    def measured(self) -> Memory:
        """The device's memory, looked at just now together with its workers'."""
        self.sample()
        return self._memory

    def sample(self) -> None:
        """Looks at what is free, at every worker's memory, all at one moment so that they add up, and at how busy the device is."""
        # Host before device before trees: all at one moment, or a worker that grows in between is counted as a foreign one.
        self._host = self._gauge.host()
        self._memory = self._device_memory()
        if self.usual_foreign_bytes is None:
            self.usual_foreign_bytes = self.foreign_bytes
        self._use = {worker.serial: self._look(worker) for worker in self.workers if worker.state != "gone"}
        busy, now = frozenset(w.serial for w in self.workers if w.state == "busy"), self._now()
        cpu_s = sum(self._use[serial].cpu_s for serial in busy if serial in self._use)
        before, then, cpu_then = self._last_busy
        self._last_busy = (busy, now, cpu_s)
        # A worker that began or ended in between would make the share a mixture of two numbers.
        if busy and busy == before and now > then:
            share = (
                (cpu_s - cpu_then) / (now - then) / self.device.cores
                if self.device.kind == "cpu"
                else self._unless_lost(lambda: self._gauge.busy_share(self.device), None)
            )
            if share is not None:
                self.figures.busied(len(busy), min(1.0, max(0.0, share)))

    def _device_memory(self) -> Memory:
        if self.device.kind == "cpu":
            return self._host
        return self._unless_lost(lambda: self._gauge.device(self.device), self._memory)

    def _unless_lost(self, ask: Callable[[], _Figure], otherwise: _Figure) -> _Figure:
        """What the driver answers; ``otherwise`` once the card is lost."""
        if self.lost is None:
            try:
                return ask()
            except DeviceLost as error:
                self.lost = str(error)
        return otherwise

    def holders(self) -> dict[int, int]:
        """Bytes per pid on the card, as far as the driver says."""
        return self._unless_lost(lambda: self._gauge.holders(self.device), None) or {}

    def _look(self, worker: WorkerHandle) -> _WorkerUse:
        worker.process.refresh()
        pids = worker.process.pids
        host = self._gauge.host_tree(pids)
        on_device: int | None = host
        if self.device.kind == "cuda":
            nothing: int | None = 0
            on_device = self._unless_lost(lambda: self._gauge.tree(self.device, pids), nothing)
        if on_device is None:  # containers hide pids: what is in use beyond what was before us, divided evenly
            memory = self._device_memory()
            ours = max(0, memory.total - memory.free - (self.usual_foreign_bytes or 0))
            on_device = ours // max(1, len(self.living))
        use = _WorkerUse(on_device, host, self._gauge.cpu_seconds(pids) if self.device.kind == "cpu" else 0.0)
        if worker.task is not None:
            before = self._running.get(worker.serial, Peak(worker.task.size, 0, 0))
            after = Peak(before.size, max(before.device_bytes, use.device_bytes), max(before.host_bytes, use.host_bytes))
            self._running[worker.serial] = after
            # Newer progress is not paired with older memory: it would promise a far too small peak.
            self._progress_at_look[worker.serial] = worker.progress
            worker.peak_bytes = after.device_bytes or None
        return use

    def note_company(self) -> None:
        """To be called before the number of busy workers changes: keeps each running item's average company."""
        busy, then = self._last_count
        now = self._now()
        for worker in self.workers:
            if worker.state == "busy":
                self._company[worker.serial] = self._company.get(worker.serial, 0.0) + (now - then) * busy
        self._last_count = (self.busy, now)

    def item_started(self, worker: WorkerHandle) -> None:
        """A worker has started on an item."""
        self._running.pop(worker.serial, None)
        self._company.pop(worker.serial, None)
        self._last_count = (self.busy, self._now())

    def item_ended(self, worker: WorkerHandle, size: float, peak_rss_bytes: int | None) -> int | None:
        """A worker has ended an item, well or not; returns the item's peak on the device, None where it could not be measured."""
        # The item was shorter than the time between two samples: a late one is better than none.
        if worker.serial not in self._running and (peak_rss_bytes is None or self.device.kind == "cuda"):
            self._look(worker)
        seen = self._running.pop(worker.serial, Peak(size, 0, 0))
        host = max(seen.host_bytes, peak_rss_bytes or 0)
        on_device = host if self.device.kind == "cpu" else seen.device_bytes
        if on_device or host:
            self.figures.peaked(Peak(size, on_device, host))
        return on_device or None

    def item_done(self, worker: WorkerHandle, size: float) -> None:
        """The item has been done."""
        seconds = worker.busy_seconds
        self.figures.worked(size, seconds, self._company.pop(worker.serial, 0.0) / seconds if seconds > 0 else 1.0)
        self.done_since += 1
        self.settled = regrown(self.settled, self.done_since)

    def cap_workers(self, workers: int) -> None:
        """An out of memory: no more than so many for a while."""
        self.settled, self.done_since = max(1, workers), 0

    def is_leaking(self, worker: WorkerHandle, rest_rss_bytes: int | None) -> bool:
        """True if the worker, which has just ended an item, has kept too much of its items."""
        use = self._use.get(worker.serial)
        resting = rest_rss_bytes if self.device.kind == "cpu" else use.device_bytes if use is not None else None
        if resting is None or worker.items_done < _CALM_ITEMS:
            return False
        if worker.first_rest_bytes is None:
            worker.first_rest_bytes = resting
        return leaks(worker.first_rest_bytes, resting)

    def worker_loaded(self, worker: WorkerHandle) -> None:
        """A worker became ready."""
        use = self._look(worker)
        self.figures.loaded(self._now() - worker.spawned, use.device_bytes, use.host_bytes)
        self.load_failures = 0

    def snapshot(self, queue: WorkQueue, pool_workers: int) -> Snapshot:
        """What sizing needs; ``pool_workers`` are alive on all devices together.

        What is free and what is ours are read one after the other and may come to more than there is: then what is free counts.
        """
        per_size, figures = self.figures.seconds_per_size, self.figures
        return Snapshot(
            free_bytes=self._memory.free,
            # On the CPU pages shared with other programs count here and are not free there.
            own_bytes=min(self.own_bytes, self._memory.total - self._memory.free),
            host_free_bytes=self._host.free,
            host_own_bytes=min(sum(use.host_bytes for use in self._use.values()), self._host.total - self._host.free),
            slots=self.slots,
            workers=len(self.living),
            waiting=queue.shared,
            largest=queue.largest,
            waiting_size=queue.shared_size,
            waiting_s=None if per_size is None else per_size * queue.shared_size,
            load_s=figures.load_s,
            loaded_bytes=figures.loaded_bytes,
            peaks=figures.peaks,
            running=tuple(
                Running(
                    peak.size, peak.device_bytes, peak.host_bytes, seconds=w.busy_seconds, progress=self._progress_at_look[w.serial]
                )
                for w in self.workers
                if w.state == "busy" and (peak := self._running.get(w.serial)) is not None
            ),
            samples=figures.samples,
            busy_share=figures.busy_share,
            rates=figures.rates,
            settled=self.settled,
            loading=tuple(
                (use.device_bytes, use.host_bytes, self._now() - w.spawned)
                for w in self.workers
                if w.state == "loading" and (use := self._use.get(w.serial)) is not None
            ),
            pool_workers=pool_workers,
            ready=sum(w.state in ("idle", "busy") for w in self.workers),
            cores=self.device.cores,
        )

    def seconds_beside(self, workers: int) -> float | None:
        """Expected seconds per unit of size for one of so many busy workers here, None before the first item."""
        alone_s = self.figures.seconds_per_size
        return None if alone_s is None else alone_s * crowding(workers, self.figures.busy_share)
