"""A machine whose processes, cards and clock are made up: what `World` says happens to the workers that a real pool starts on it.

Takes the places of `LocalMachine`, `WorkerProcess` and `SystemGauge`; everything above them is the pool itself. Time passes in
`wait` alone, from one thing that happens to the next.
"""

from __future__ import annotations

import math
import pickle
import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.videolift.pool.simulator.worlds import VirtualItem, World
from videolift.pool.interface import Device, Item
from videolift.pool.memory import Memory
from videolift.pool.supervisor import COST_OF_LOOKING
from videolift.pool.workers.messages import AttemptFailed, DoItem, EndWorker, ItemDone, ItemProgress, WorkerMessage, WorkerReady
from videolift.processes import exit_text

SHRINKS = (1.0, 0.5, 0.25)
_GROWTH = (0.1, 0.2, 0.3)
"""An item's memory grows in equal steps at these shares of its work."""
_CRASH_AT = 0.5
_STEPS = 1_000_000
"""Of progress: as good as the share itself."""
_FIRST_PID = 1 << 23
_MAX_IDLE_WAITS = 2_000
_LOOKS_PER_ITEM, _LOOK_SHARE = 20, 0.01
_CLOSE = 1e-9
_BUSY_BIAS_SIGMA, _BUSY_NOISE_SIGMA = 0.05, 0.05


class Deadlock(AssertionError):
    """The simulated pool stands still although there is work."""


@dataclass
class VirtualCard:
    """One device and who is on it.

    Attributes:
        tenant_bytes: held by somebody else now.
        work_by_count: item-seconds of work done under each number of busy workers.
    """

    bytes: int
    workers: list[VirtualProcess] = field(default_factory=list)
    tenant_bytes: float = 0.0
    work_by_count: dict[int, float] = field(default_factory=dict)

    @property
    def own_bytes(self) -> float:
        """Held by workers."""
        return sum(worker.held_bytes for worker in self.workers)

    @property
    def busy(self) -> int:
        """Workers with an item."""
        return sum(worker.item is not None for worker in self.workers)


class VirtualProcess:
    """A worker's process, see `videolift.pool.workers.handle.ControlledProcess`."""

    def __init__(self, serial: int, machine: VirtualMachine, card: VirtualCard) -> None:
        self.pid = _FIRST_PID + serial
        self.pids = [self.pid]
        self.exit_status: int | None = None
        self.fault, self.is_open = "", True
        self._machine, self._card = machine, card
        self.start_time = machine.now()
        self.ready = False
        self.item: VirtualItem | None = None
        self.job: DoItem | None = None
        self.progress, self.step = 0.0, 0
        self.cpu_s = 0.0
        self._leaked_bytes = 0.0
        self._resting_bytes = 0.0
        self._ended: int | None = None
        self._outbox: list[WorkerMessage] = []

    @property
    def load_share(self) -> float:
        """Of its load that is done."""
        return 1.0 if self.ready else min(1.0, (self._machine.now() - self.start_time) / self._machine.world.load_s)

    @property
    def held_bytes(self) -> float:
        """On the device, now."""
        if self.item is None:
            return self._resting_bytes
        grown = self.item.peak_bytes * self.shrink * self.step / len(_GROWTH)
        return self._resting_bytes + grown

    @property
    def shrink(self) -> float:
        """Of the item it works on."""
        return 1.0 if self.job is None else self.job.shrink

    @property
    def milestone(self) -> float:
        """The share of its item at which something happens next."""
        if self.step < len(_GROWTH):
            return _GROWTH[self.step]
        return _CRASH_AT if self._will_crash else 1.0

    @property
    def _will_crash(self) -> bool:
        assert self.item is not None
        assert self.job is not None
        return self._machine.attempts[self.job.item.key] <= self.item.crashes

    # What the supervisor does

    def refresh(self) -> None:
        """Starts nothing of its own."""

    def send(self, frame: bytes) -> None:
        """See `ControlledProcess`."""
        message = pickle.loads(frame[4:])
        if isinstance(message, EndWorker):
            self._end(0)
            return
        assert isinstance(message, DoItem)
        key = message.item.key
        self._machine.attempts[key] = self._machine.attempts.get(key, 0) + 1
        self.job, self.item = message, self._machine.items[key]
        self.progress, self.step = 0.0, 0

    def receive(self) -> list[WorkerMessage]:
        """See `ControlledProcess`; a worker says how far it is whenever it is asked."""
        said, self._outbox = self._outbox, []
        if self.job is not None and self.progress > 0:
            said.append(ItemProgress(self.job.claim, round(self.progress * _STEPS), _STEPS))
        return said

    def has_ended(self) -> bool:
        """See `ControlledProcess`."""
        return self._ended is not None

    def kill(self) -> None:
        """Its memory is free at once."""
        self._end(-9)

    def reap(self) -> str:
        """See `ControlledProcess`."""
        self.exit_status = self._ended
        return exit_text(self.exit_status)

    def leftovers(self) -> list[int]:
        """None: it has no children."""
        return []

    def close(self) -> None:
        """Nothing to close."""

    def begin_tail(self) -> None:
        """It prints nothing."""

    def tail(self) -> str:
        """It prints nothing."""
        return ""

    def bound_log(self) -> None:
        """It prints nothing."""

    def _end(self, status: int) -> None:
        if self._ended is None:
            self._ended, self.item, self.job = status, None, None
            self._card.workers.remove(self)
            self._machine.unseen_end = True

    # What happens to it

    def finish_load(self) -> None:
        """Loading is over, well or not."""
        self.ready = True
        self._resting_bytes = float(self._machine.world.loaded_bytes)
        if self._machine.fits(self._card):
            self._outbox.append(WorkerReady(SHRINKS, None))
        else:
            self._machine.out_of_memory += 1
            self._outbox.append(AttemptFailed("oom", "OutOfMemory", "out of memory"))

    def reach_milestone(self) -> None:
        """Its item needs more memory, kills it, or is done."""
        assert self.item is not None
        assert self.job is not None
        key, claim = self.job.item.key, self.job.claim
        if self.step < len(_GROWTH):
            self.step += 1
            if not self._machine.fits(self._card):
                self._machine.out_of_memory += 1
                self._outbox.append(AttemptFailed("oom", "OutOfMemory", "out of memory", key=key, claim=claim))
                self._resting_bytes, self.item, self.job = self.held_bytes, None, None  # kept until it is killed
        elif self.progress < 1.0 - _CLOSE:
            self._end(1)
        else:
            peak = int(self.held_bytes) if self._machine.world.on_cpu else self._machine.world.host_loaded_bytes
            self._leaked_bytes += self._machine.world.leak_share * self.item.peak_bytes
            self._resting_bytes = self._machine.world.loaded_bytes + self._leaked_bytes
            rest = int(self._resting_bytes) if self._machine.world.on_cpu else self._machine.world.host_loaded_bytes
            self._outbox.append(ItemDone(key, claim, pickle.dumps(None), peak, rest))
            self.item, self.job = None, None


class VirtualMachine:
    """A `videolift.pool.workers.machine.PoolMachine`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.seed)
        self.items = {str(number): item for number, item in enumerate(world.items)}
        self.attempts: dict[str, int] = {}
        self.cards = {f"card {number}": VirtualCard(size) for number, size in enumerate(world.card_bytes)}
        self.bias = math.exp(self.rng.gauss(0.0, _BUSY_BIAS_SIGMA))
        self.out_of_memory = self.started = 0
        self._now, self._idle_waits, self._cpu_s = 0.0, 0, 0.0
        self._item_s = statistics.median(item.seconds for item in world.items)
        self.unseen_end = False

    def pool_items(self) -> list[Item]:
        """What the pool is given."""
        return [Item(key, item.frames) for key, item in self.items.items()]

    def devices(self) -> list[Device]:
        """What the pool is given."""
        kind: Literal["cpu", "cuda"] = "cpu" if self.world.on_cpu else "cuda"
        return [Device(kind, name, f"{card.bytes >> 30} GiB", card.bytes, 1, self.world.cores) for name, card in self.cards.items()]

    def now(self) -> float:
        """See `PoolMachine.now`."""
        return self._now

    def cpu_seconds(self) -> float:
        """See `PoolMachine.cpu_seconds`: asked before and after a look at memory, whose cost says when the next one is due.

        A virtual look costs as much as makes the pool look twice a second at first, as it does, and later about 20 times per item:
        every look is real time of whoever waits for the simulation.
        """
        wanted_s = min(self._item_s / _LOOKS_PER_ITEM, _LOOK_SHARE * self._now)
        self._cpu_s += wanted_s * COST_OF_LOOKING
        return self._cpu_s

    def start_worker(self, serial: int, device: Device) -> VirtualProcess:
        """See `PoolMachine.start_worker`."""
        card = self.cards[device.id]
        worker = VirtualProcess(serial, self, card)
        card.workers.append(worker)
        self.started += 1
        return worker

    def forget(self, serial: int) -> None:
        """Nothing is watched."""

    def fits(self, card: VirtualCard) -> bool:
        """What is held now is no more than there is."""
        on_device = card.own_bytes + card.tenant_bytes <= card.bytes
        if self.world.on_cpu:
            return on_device
        return (
            on_device and sum(len(c.workers) for c in self.cards.values()) * self.world.host_loaded_bytes <= self.world.host_bytes
        )

    def noisy_share(self, busy: int) -> float:
        """For which share of the time a device with so many busy workers is seen at work."""
        noise = math.exp(self.rng.gauss(0.0, _BUSY_NOISE_SIGMA))
        return min(1.0, self.world.busy_share * busy * self.bias * noise)

    def wait(self, seconds: float) -> None:
        """See `PoolMachine.wait`: until something happens, at most ``seconds``."""
        if self.unseen_end:
            self.unseen_end = False
            return
        coming = self._next_time()
        self._idle_waits = self._idle_waits + 1 if coming == math.inf else 0
        until = min(coming, self._now + max(0.0, seconds))
        if self._idle_waits > _MAX_IDLE_WAITS or until == math.inf:
            raise Deadlock(f"seed {self.world.seed}: nothing is going to happen, and the pool waits")
        self._advance(until)
        self._happen()

    def _next_time(self) -> float:
        times = [t for tenant in self.world.tenants for t in (tenant.begin_s, tenant.end_s) if t > self._now]
        for card in self.cards.values():
            speed = self.world.speed(card.busy)
            for worker in card.workers:
                if not worker.ready:
                    times.append(worker.start_time + self.world.load_s)
                elif worker.item is not None:
                    times.append(self._now + (worker.milestone - worker.progress) * worker.item.seconds / speed)
        return max(self._now, min(times, default=math.inf))

    def _advance(self, until: float) -> None:
        passed, self._now = until - self._now, until
        for card in self.cards.values():
            busy = card.busy
            if not busy or not passed:
                continue
            speed, share = self.world.speed(busy), self.noisy_share(busy)
            card.work_by_count[busy] = card.work_by_count.get(busy, 0.0) + passed * speed * busy
            for worker in card.workers:
                if worker.item is not None:
                    worker.progress += passed * speed / worker.item.seconds
                    worker.cpu_s += passed * share * self.world.cores / busy

    def _happen(self) -> None:
        for tenant in self.world.tenants:
            card = list(self.cards.values())[tenant.card]
            here = tenant.begin_s <= self._now < tenant.end_s
            # one that finds the card full takes what is left, and more as it comes free
            card.tenant_bytes = max(card.tenant_bytes, min(tenant.bytes, card.bytes - card.own_bytes)) if here else 0.0
        for card in self.cards.values():
            for worker in list(card.workers):
                if not worker.ready:
                    if worker.start_time + self.world.load_s <= self._now + _CLOSE:
                        worker.finish_load()
                elif worker.item is not None and worker.progress >= worker.milestone - _CLOSE:
                    worker.reach_milestone()


class VirtualGauge:
    """A `videolift.pool.memory.Gauge` over a `VirtualMachine`."""

    def __init__(self, machine: VirtualMachine) -> None:
        self._machine, self._world = machine, machine.world

    def _of(self, pids: Iterable[int]) -> list[VirtualProcess]:
        wanted = set(pids)
        return [worker for card in self._machine.cards.values() for worker in card.workers if worker.pid in wanted]

    def host(self) -> Memory:
        """See `Gauge.host`."""
        if self._world.on_cpu:
            return self._free(next(iter(self._machine.cards.values())))
        workers = [worker for card in self._machine.cards.values() for worker in card.workers]
        return Memory(self._world.host_bytes, self._world.host_bytes - int(sum(self._host_bytes(worker) for worker in workers)))

    def _host_bytes(self, worker: VirtualProcess) -> float:
        return self._device_bytes(worker) if self._world.on_cpu else worker.load_share * self._world.host_loaded_bytes

    def _device_bytes(self, worker: VirtualProcess) -> float:
        return worker.held_bytes if worker.ready else worker.load_share * self._world.loaded_bytes

    def _free(self, card: VirtualCard) -> Memory:
        used = sum(self._device_bytes(worker) for worker in card.workers) + card.tenant_bytes
        return Memory(card.bytes, max(0, int(card.bytes - used)))

    def device(self, device: Device) -> Memory:
        """See `Gauge.device`."""
        return self._free(self._machine.cards[device.id])

    def tree(self, device: Device, pids: Iterable[int]) -> int | None:
        """See `Gauge.tree`."""
        return int(sum(self._device_bytes(worker) for worker in self._of(pids)))

    def host_tree(self, pids: Iterable[int]) -> int:
        """See `Gauge.host_tree`."""
        return int(sum(self._host_bytes(worker) for worker in self._of(pids)))

    def cpu_seconds(self, pids: Iterable[int]) -> float:
        """See `Gauge.cpu_seconds`."""
        return sum(worker.cpu_s for worker in self._of(pids))

    def busy_share(self, device: Device) -> float | None:
        """See `Gauge.busy_share`."""
        return self._machine.noisy_share(self._machine.cards[device.id].busy)

    def holders(self, device: Device) -> dict[int, int] | None:
        """Memory is free as soon as its process has ended."""
        return {}

    def oom_kills(self) -> int:
        """The kernel never steps in: `fits` does."""
        return 0
