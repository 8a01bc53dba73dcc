"""Starts, feeds and ends the workers of a device as sizing decides, and fences a device on which nothing will load.

The one place where workers begin. It judges no item.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videolift.errors import Transient, storage_errors_are_transient
from videolift.pool.books import Books
from videolift.pool.crew import Crew
from videolift.pool.events import EventSink
from videolift.pool.handle import Timing, WorkerHandle
from videolift.pool.policy import Rules
from videolift.pool.sizing import Decision, SizingRules, decide, may_load
from videolift.pool.stopping import Halt
from videolift.pool.watch import Watch

MAX_LOAD_FAILURES = 3
"""Loads that may fail in a row on a device before it is fenced."""
_SIZING_EVERY_S = 0.05


@dataclass(frozen=True)
class Plan:
    """What a run needs besides its items.

    Attributes:
        factory, preparation: from `handle.pickled_factory`.
        environment: set for workers besides device mask and thread counts.
        log_folder: where the workers' output goes.
        rules, sizing: settings for failures and for numbers.
        load_timeout_s, item_timeout_s, grace_s: see `PoolSettings`.
        timing: everything else in seconds.
    """

    factory: bytes
    preparation: dict[str, Any]
    environment: Mapping[str, str]
    log_folder: Path
    rules: Rules
    sizing: SizingRules
    load_timeout_s: float
    item_timeout_s: float
    grace_s: float
    timing: Timing


class Staffing:
    """Acts on all crews of a run."""

    def __init__(self, plan: Plan, crews: Sequence[Crew], books: Books, watch: Watch, events: EventSink, halt: Halt) -> None:
        self._plan, self._crews, self._books, self._watch = plan, crews, books, watch
        self._events, self._halt = events, halt
        self._serial = 0
        self._next_sizing: dict[str, float] = {}

    def staff(self, crew: Crew, now: float) -> None:
        """One round for one device."""
        decision = self._decide(crew, now)
        if decision.give_up:
            self._give_up_youngest()
        idle = sorted((w for w in crew.workers if w.state == "idle"), key=lambda w: -w.serial)
        for worker in idle[: max(0, len(crew.living) - decision.keep)]:
            worker.close()
        self._feed(crew, decision, now)
        self._hire(crew, decision, now)
        crew.most = max(crew.most, len(crew.living))

    def _decide(self, crew: Crew, now: float) -> Decision:
        if crew.decision is not None and now < self._next_sizing.get(crew.device.id, 0.0):
            return crew.decision
        self._next_sizing[crew.device.id] = now + _SIZING_EVERY_S
        decision = decide(crew.snapshot(self._books.queue, sum(len(c.living) for c in self._crews)), self._plan.sizing)
        before, crew.decision = crew.decision, decision
        if before is None or (before.busy, before.start, before.reason) != (decision.busy, decision.start, decision.reason):
            self._events.emit(
                "resized",
                device=crew.device.id,
                workers=decision.start,
                busy=decision.busy,
                reason=decision.reason,
                now=len(crew.living),
                **decision.figures,
            )
        return decision

    def decide_anew(self) -> None:
        """Something has changed; the next round decides afresh."""
        self._next_sizing.clear()

    def _give_up_youngest(self) -> None:
        """The machine is about to run out of memory: the youngest goes, and what it was doing is done again later."""
        living = [(worker, crew) for crew in self._crews for worker in crew.living]
        if len(living) < 2 or any(w.state == "killed" for c in self._crews for w in c.workers):
            return  # one must stay, and whoever goes must be seen gone first
        youngest, crew = max(living, key=lambda pair: pair[0].serial)
        crew.settle(len(crew.living) - 1)
        youngest.taken_back = True
        text = "host memory is about to run out: its youngest worker was ended"
        self._events.emit("failed", worker=youngest.serial, device=crew.device.id, code="host_memory", text=text, item=youngest.key)
        youngest.kill()

    def _feed(self, crew: Crew, decision: Decision, now: float) -> None:
        others = sum(len(c.living) for c in self._crews) > 1
        queue = self._books.queue
        for worker in crew.workers:
            if worker.state == "idle" and crew.busy < decision.busy:
                task = queue.take(worker.serial, now, others=others)
                if task is not None:
                    crew.count()
                    if self._books.claim(task, worker, alone=len(crew.living) == 1):
                        crew.began(worker)
        if queue.shared == 0 and queue.alone and not crew.busy:
            self._feed_alone(crew, now)

    def _feed_alone(self, crew: Crew, now: float) -> None:
        """Makes room for, and gives, a task that needs the device to itself."""
        if any(w.state == "loading" for w in crew.workers):
            return
        idle = sorted((w for w in crew.workers if w.state == "idle"), key=lambda w: w.items_done)
        for worker in idle[1:]:
            worker.close()
        if len(crew.workers) == 1 and idle:
            task = self._books.queue.take_alone(idle[0].serial, now)
            if task is not None and self._books.claim(task, idle[0], alone=True):
                crew.began(idle[0])

    def _hire(self, crew: Crew, decision: Decision, now: float) -> None:
        queue = self._books.queue
        if crew.fenced is not None or now < crew.spawn_not_before or self._halt.stop is not None:
            return
        if any(w.state == "killed" for w in crew.workers):
            return  # its memory is not yet proven free
        while self._halt.stop is None:
            living = crew.living
            loading = sum(w.state == "loading" for w in living)
            free_hands = sum(w.state in ("loading", "idle") for c in self._crews if c.fenced is None for w in c.living)
            own_hands = sum(w.state in ("loading", "idle") for w in living)
            alone = min(1, queue.alone) if not crew.workers else 0
            work = queue.shared - (free_hands - own_hands) if queue.shared else alone
            if (
                len(living) >= decision.start
                or not may_load(loading, len(living) - loading, crew.device.cores, known=crew.figures.samples > 0)
                or own_hands >= work
            ):
                return
            try:
                with storage_errors_are_transient("starting a worker"):
                    self._spawn(crew)
            except Transient as error:
                self._halt.begin("transient", str(error))
            except OSError as error:  # no process, no memory: as if it had not loaded
                self.load_failed(crew, f"no process can be started: {error}")
                return

    def _spawn(self, crew: Crew) -> None:
        self._serial += 1
        plan, device = self._plan, crew.device
        if device.kind == "cpu":
            device = replace(device, threads=max(device.threads, device.cores // self._expected(crew)))
        worker = WorkerHandle(
            self._serial,
            device,
            factory=plan.factory,
            preparation=plan.preparation,
            environment=plan.environment,
            folder=plan.log_folder,
            timing=plan.timing,
        )
        crew.workers.append(worker)
        self._watch.add(worker)
        self._events.emit("spawned", worker=worker.serial, device=device.id, pid=worker.pid, log=worker.log_path.name)

    def _expected(self, crew: Crew) -> int:
        """How many workers the device will probably have, which is what its cores are divided by."""
        measured = crew.decision.start if crew.decision is not None and crew.figures.samples else crew.slots
        return max(1, min(crew.slots, self._books.total, self._plan.sizing.max_workers or crew.slots, measured))

    def load_failed(self, crew: Crew, text: str, *, hopeless: bool = False, out_of_memory: bool = False) -> None:
        """A worker did not get ready: with others at work the crew stays as it is, else the device has few tries."""
        others = [w for w in crew.living if w.state != "loading"]
        self._events.emit("failed", device=crew.device.id, text=f"loading failed: {text}", code="load")
        if others:
            crew.settle(len(others))
            return
        crew.load_failures += 1
        crew.spawn_not_before = time.monotonic() + self._plan.rules.backoff_s * 2 ** (crew.load_failures - 1)
        if hopeless or crew.load_failures >= MAX_LOAD_FAILURES:
            self.fence(crew, ("out of memory while loading: " if out_of_memory else "") + text)

    def fence(self, crew: Crew, text: str) -> None:
        """Nothing more is started on this device; without any device left the pool stops."""
        if crew.fenced is not None:
            return
        crew.fenced = text
        self._events.emit("fenced", device=crew.device.id, name=crew.device.name, text=text)
        for worker in crew.living:
            worker.taken_back = True
            worker.kill()
        if all(c.fenced is not None for c in self._crews):
            reasons = "; ".join(f"{c.device.name} ({c.device.id}): {c.fenced}" for c in self._crews)
            self._halt.begin("backend", reasons, at_once=True)
