"""A run of the pool in a virtual world: the same queue, policy, figures and sizing, with cards, time and misfortune made up.

`simulate` plays a `World` under the sizing rules or under a fixed number of workers, and says how long it took, what was chosen and
whether a promise was broken. Nothing real is started or measured.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from videolift.pool.figures import Figures, Peak, Running
from videolift.pool.messages import Failed
from videolift.pool.policy import Again, Circumstances, Death, Pending, Rules, Verdict, judge
from videolift.pool.queue import Task, WorkQueue
from videolift.pool.sizing import Decision, SizingRules, Snapshot, decide, leaks, may_load, regrown
from videolift.pool.types import Item
from videolift.pool.worlds import GIB, VirtualItem, World

RULES = Rules(attempts=3, allow_shrink=True, transient_retries=3, backoff_s=2.0)
SIZING = SizingRules(margin=0.15, reserve_bytes=1 * GIB, max_workers=None)
_GROWTH = (0.1, 0.2, 0.3)
"""An item's memory grows in equal steps at these shares of its work."""
_CRASH_AT = 0.5
_BUSY_EVERY_S = 0.5
_LOOK_AT_LOAD_S = 0.501
_BUSY_BIAS_SIGMA, _BUSY_NOISE_SIGMA = 0.05, 0.05
_MANY_EVENTS = 400_000


class Deadlock(AssertionError):
    """The simulated pool stands still although there is work."""


@dataclass
class _Worker:
    serial: int
    ready_at: float
    ready: bool = False
    task: Task | None = None
    began: float = 0.0
    progress: float = 0.0
    step: int = 0
    held: float = 0.0
    leaked: float = 0.0
    items_done: int = 0
    first_rest: float | None = None
    alone: bool = False
    company: float = 0.0


@dataclass
class _Card:
    index: int
    bytes: int
    figures: Figures
    slots: int
    workers: list[_Worker] = field(default_factory=list)
    tenant: float = 0.0
    settled: int | None = None
    done_since: int = 0
    decision: Decision | None = None
    work_by_count: dict[int, float] = field(default_factory=dict)

    @property
    def own(self) -> float:
        return sum(w.held for w in self.workers)

    @property
    def busy(self) -> int:
        return sum(w.task is not None for w in self.workers)


@dataclass(frozen=True)
class Played:
    """How a simulated run went.

    Attributes:
        seconds: from start to the last outcome.
        chosen: per device, the number under which most work was done.
        done, lost: items by outcome.
        out_of_memory: how often an item or a load ran out of memory.
        broken_promises: decisions whose workers, at the peak they were sized for, would not have fitted the device.
        spawned: workers started.
    """

    seconds: float
    chosen: tuple[int, ...]
    done: int
    lost: int
    out_of_memory: int
    broken_promises: int
    spawned: int


class _Run:
    def __init__(self, world: World, fixed: int | None) -> None:
        self.world, self.fixed, self.now = world, fixed, 0.0
        self.rng = random.Random(world.seed)
        self.bias = math.exp(self.rng.gauss(0.0, _BUSY_BIAS_SIGMA))
        self.by_key = {str(i): item for i, item in enumerate(world.items)}
        self.queue = WorkQueue(Task(Item(key, item.frames)) for key, item in self.by_key.items())
        self.attempts: dict[str, int] = {}
        self.fits = [true_fit(world, card) for card in range(len(world.card_bytes))]
        slots = world.cores if world.on_cpu else 1 << 20
        figures = Figures()
        self.cards = [_Card(i, size, figures, slots) for i, size in enumerate(world.card_bytes)]
        self.serial = self.done = self.lost = self.oom = self.broken = 0
        self.tick = max(0.5, world.load_s / 20)

    # Time

    def play(self) -> Played:
        for _ in range(_MANY_EVENTS):
            for card in self.cards:
                self._staff(card)
            if self.done + self.lost == len(self.by_key):
                chosen = tuple(max(c.work_by_count, key=lambda n: c.work_by_count[n], default=0) for c in self.cards)
                return Played(self.now, chosen, self.done, self.lost, self.oom, self.broken, self.serial)
            self._advance(self._next_time())
            self._happen()
        raise Deadlock(f"seed {self.world.seed}: more than {_MANY_EVENTS} events")

    def _next_time(self) -> float:
        times = [self.queue.next_time() or math.inf]
        for tenant in self.world.tenants:
            times += [t for t in (tenant.begin_s, tenant.end_s) if t > self.now]
        for card in self.cards:
            speed = self.world.speed(card.busy)
            for worker in card.workers:
                if not worker.ready:
                    look = worker.ready_at - self.world.load_s + _LOOK_AT_LOAD_S
                    times += [worker.ready_at, look] if look > self.now + 1e-9 else [worker.ready_at]
                elif worker.task is not None:
                    times.append(self.now + (self._milestone(worker) - worker.progress) * self._item(worker).seconds / speed)
        if any(c.busy for c in self.cards) and not self.cards[0].figures.samples and self.fixed is None:
            times.append(self.now + self.tick)
        coming = min((t for t in times if t >= self.now), default=math.inf)
        if coming == math.inf:
            raise Deadlock(f"seed {self.world.seed}: {len(self.queue)} items wait and nothing is going to happen")
        return coming

    def _item(self, worker: _Worker) -> VirtualItem:
        assert worker.task is not None
        return self.by_key[worker.task.item.key]

    def _will_crash(self, worker: _Worker) -> bool:
        assert worker.task is not None
        return self.attempts[worker.task.item.key] <= self._item(worker).crashes

    def _milestone(self, worker: _Worker) -> float:
        if worker.step < len(_GROWTH):
            return _GROWTH[worker.step]
        return _CRASH_AT if self._will_crash(worker) else 1.0

    def _advance(self, to: float) -> None:
        for card in self.cards:
            busy = card.busy
            speed = self.world.speed(busy)
            if busy and to - self.now >= _BUSY_EVERY_S:
                noise = math.exp(self.rng.gauss(0.0, _BUSY_NOISE_SIGMA))
                card.figures.busied(busy, min(1.0, self.world.busy_share * busy * self.bias * noise))
            for worker in card.workers:
                if worker.task is not None:
                    seconds = self._item(worker).seconds
                    worker.progress += (to - self.now) * speed / seconds
                    worker.company += (to - self.now) * busy
                    card.work_by_count[busy] = card.work_by_count.get(busy, 0.0) + (to - self.now) * speed
        self.now = to

    # What happens

    def _happen(self) -> None:
        for tenant in self.world.tenants:
            card = self.cards[tenant.card]
            here = tenant.begin_s <= self.now < tenant.end_s
            card.tenant = max(card.tenant, min(tenant.bytes, card.bytes - card.own)) if here else 0.0
        for card in self.cards:
            for worker in list(card.workers):
                if not worker.ready and worker.ready_at <= self.now + 1e-9:
                    self._on_loaded(card, worker)
                elif worker.task is not None and worker.progress >= self._milestone(worker) - 1e-9:
                    self._on_milestone(card, worker)

    def _fits(self, card: _Card) -> bool:
        if self.world.on_cpu:
            return card.own + card.tenant <= card.bytes
        host = sum(len(c.workers) for c in self.cards) * self.world.host_loaded_bytes
        return card.own + card.tenant <= card.bytes and host <= self.world.host_bytes

    def _on_loaded(self, card: _Card, worker: _Worker) -> None:
        worker.ready, worker.held = True, float(self.world.loaded_bytes)
        if not self._fits(card):
            self.oom += 1
            card.workers.remove(worker)
            card.settled, card.done_since = max(1, len(card.workers)), 0
            return
        card.figures.loaded(self.world.load_s, self.world.loaded_bytes, self.world.host_loaded_bytes)

    def _on_milestone(self, card: _Card, worker: _Worker) -> None:
        if worker.step < len(_GROWTH):
            worker.step += 1
            worker.held = self.world.loaded_bytes + worker.leaked + self._item(worker).peak_bytes * worker.step / len(_GROWTH)
            if not self._fits(card):
                self._on_out_of_memory(card, worker)
        elif worker.progress < 1.0 - 1e-9:
            self._end(card, worker, Death("crash", "died"))
        else:
            self._on_done(card, worker)

    def _on_done(self, card: _Card, worker: _Worker) -> None:
        assert worker.task is not None
        item, seconds = self._item(worker), self.now - worker.began
        peak = int(worker.held)
        card.figures.peaked(Peak(item.frames, peak, peak if self.world.on_cpu else self.world.host_loaded_bytes))
        company = worker.company / seconds if seconds > 0 else 1.0
        card.figures.worked(item.frames, seconds, company)
        self.done += 1
        worker.task, worker.items_done = None, worker.items_done + 1
        worker.leaked += self.world.leak_share * item.peak_bytes
        worker.held = self.world.loaded_bytes + worker.leaked
        card.done_since += 1
        if worker.first_rest is None:
            worker.first_rest = worker.held
        elif leaks(int(worker.first_rest), int(worker.held)):
            card.workers.remove(worker)

    def _on_out_of_memory(self, card: _Card, worker: _Worker) -> None:
        self.oom += 1
        if not worker.alone:
            card.settled, card.done_since = max(1, card.busy - 1), 0
        card.figures.peaked(Peak(self._item(worker).frames, int(worker.held), int(worker.held) if self.world.on_cpu else 0))
        self._end(card, worker, Failed("oom", "OutOfMemory", "out of memory"))

    def _end(self, card: _Card, worker: _Worker, failure: Failed | Death) -> None:
        """The worker is replaced, its task judged by the same policy as in the real pool."""
        task = worker.task
        assert task is not None
        card.workers.remove(worker)
        seen = Circumstances(
            worker.serial,
            shrinks=(1.0, 0.5, 0.25),
            alone=worker.alone and not card.workers,
            fresh=worker.items_done == 0,
            total_bytes=card.bytes,
            foreign_bytes=int(card.tenant),
            now=self.now,
        )
        verdict: Verdict = judge(task, failure, seen, RULES)
        if isinstance(verdict, Again):
            self.queue.put(verdict.task)
        elif isinstance(verdict, Pending):
            self.queue.put(task)  # in the real pool the run stops here; the world leaves room for one worker, so it can go on
        else:
            self.lost += 1

    # What the pool does, as `supervisor` does it

    def _staff(self, card: _Card) -> None:
        card.settled = regrown(card.settled, card.done_since)
        decision = self._decide(card)
        card.decision = decision
        idle = [w for w in card.workers if w.ready and w.task is None]
        for worker in sorted(idle, key=lambda w: -w.serial)[: max(0, len(card.workers) - decision.keep)]:
            card.workers.remove(worker)
        self._feed(card, decision)
        self._hire(card, decision)

    def _decide(self, card: _Card) -> Decision:
        if self.fixed is not None:
            count = min(self.fixed, self.fits[card.index])
            return Decision(count, count, count, "fixed", False, {})
        decision = decide(self._snapshot(card), SIZING)
        if card.decision is None or decision.busy != card.decision.busy:
            self._check_promise(card, decision)
        return decision

    def _check_promise(self, card: _Card, decision: Decision) -> None:
        promised = decision.busy * decision.figures["peak_gib"] * GIB
        if decision.busy > 1 and promised + SIZING.reserve_bytes > (card.bytes - card.tenant) * 1.001:
            self.broken += 1

    def _snapshot(self, card: _Card) -> Snapshot:
        world, figures = self.world, card.figures
        own_host = sum(w.held if world.on_cpu else world.host_loaded_bytes for c in self.cards for w in c.workers if w.ready)
        per_size = figures.seconds_per_size
        running = [w for w in card.workers if w.task is not None]
        return Snapshot(
            free_bytes=int(card.bytes - card.own - card.tenant),
            own_bytes=int(card.own),
            host_free_bytes=int(world.host_bytes - own_host),
            host_own_bytes=int(own_host) if world.on_cpu else sum(w.ready for w in card.workers) * world.host_loaded_bytes,
            slots=card.slots,
            workers=len(card.workers),
            waiting=self.queue.shared,
            largest=self.queue.largest,
            waiting_size=self.queue.shared_size,
            waiting_s=None if per_size is None else per_size * self.queue.shared_size,
            load_s=figures.load_s,
            loaded_bytes=figures.loaded_bytes,
            peaks=figures.peaks,
            running=tuple(self._running(w) for w in running),
            samples=figures.samples,
            busy_share=figures.busy_share,
            rates=figures.rates,
            settled=card.settled,
            loading=tuple(self._loading(w) for w in card.workers if not w.ready),
        )

    def _running(self, worker: _Worker) -> Running:
        host = int(worker.held) if self.world.on_cpu else self.world.host_loaded_bytes
        return Running(self._item(worker).frames, int(worker.held), host, self.now - worker.began, worker.progress)

    def _loading(self, worker: _Worker) -> tuple[int, int, float]:
        seconds = self.now - (worker.ready_at - self.world.load_s)
        share = seconds / self.world.load_s
        return int(share * self.world.loaded_bytes), int(share * self.world.host_loaded_bytes), seconds

    def _feed(self, card: _Card, decision: Decision) -> None:
        others = sum(len(c.workers) for c in self.cards) > 1
        for worker in card.workers:
            if worker.ready and worker.task is None and card.busy < decision.busy:
                task = self.queue.take(worker.serial, self.now, others=others)
                if task is not None:
                    self._give(card, worker, task)
        if not self.queue.shared and self.queue.alone and not card.busy and all(w.ready for w in card.workers):
            card.workers = sorted(card.workers, key=lambda w: w.items_done)[:1]
            if card.workers:
                task = self.queue.take_alone(card.workers[0].serial, self.now)
                if task is not None:
                    self._give(card, card.workers[0], task)

    def _give(self, card: _Card, worker: _Worker, task: Task) -> None:
        worker.task, worker.began, worker.progress, worker.step, worker.company = task, self.now, 0.0, 0, 0.0
        worker.alone = len(card.workers) == 1
        worker.held = self.world.loaded_bytes + worker.leaked
        self.attempts[task.item.key] = self.attempts.get(task.item.key, 0) + 1

    def _hire(self, card: _Card, decision: Decision) -> None:
        while True:
            loading = sum(not w.ready for w in card.workers)
            free_hands = sum(w.task is None for w in card.workers)
            others_hands = sum(w.task is None for c in self.cards if c is not card for w in c.workers)
            alone = min(1, self.queue.alone) if not card.workers else 0
            work = max(0, self.queue.shared - others_hands) if self.queue.shared else alone
            may = self.fixed is not None or may_load(
                loading, len(card.workers) - loading, self.world.cores, known=card.figures.samples > 0
            )
            if not (len(card.workers) < decision.start and may and free_hands < work):
                return
            self.serial += 1
            card.workers.append(_Worker(self.serial, self.now + self.world.load_s))


def true_fit(world: World, card: int) -> int:
    """How many workers a device really holds at the largest item, tenants aside."""
    most = world.loaded_bytes + max(item.peak_bytes for item in world.items)
    fit = int((world.card_bytes[card] - SIZING.reserve_bytes) // most)
    host = int(
        (world.host_bytes - SIZING.reserve_bytes) // (most if world.on_cpu else world.host_loaded_bytes * len(world.card_bytes))
    )
    return max(1, min(fit, host, world.cores if world.on_cpu else fit))


def simulate(world: World, fixed: int | None = None) -> Played:
    """Plays ``world`` under the sizing rules, or with ``fixed`` workers per device.

    Raises:
        Deadlock: the pool stood still with work left.
    """
    return _Run(world, fixed).play()
