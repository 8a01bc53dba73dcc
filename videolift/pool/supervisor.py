"""The pool's one loop: starts workers, gives them claimed items, hears what becomes of them, and leaves nothing behind.

Everything that decides is elsewhere and pure (`sizing`, `policy`); here it is carried out. The loop runs on the caller's main
thread, never blocks on a worker, and holds an item in exactly one place at any time: the queue, one worker, limbo (a death that is
still being judged), or the outcomes.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from videolift.errors import Transient
from videolift.pool.channel import MessageTooLarge
from videolift.pool.crew import Crew
from videolift.pool.events import EventSink
from videolift.pool.handle import Timing, WorkerHandle
from videolift.pool.memory import Gauge, oom_kills
from videolift.pool.messages import Done, Failed, Message, Progress, Ready
from videolift.pool.policy import Again, Circumstances, Death, Final, Pending, Rules, Verdict, judge
from videolift.pool.queue import Task, WorkQueue
from videolift.pool.signals import StopRequests
from videolift.pool.sizing import SizingRules, decide
from videolift.pool.types import Ledger, Outcome, PoolReport

MAX_LOAD_FAILURES = 3
"""Loads that may fail in a row on a device before it is fenced."""
MAX_DEATHS_IN_A_ROW = 30
"""Workers that may die without one item done in between; then something is wrong with all of them."""


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


@dataclass(frozen=True)
class Stop:
    """Why the pool stops before everything has an outcome; running items may go on until ``deadline`` (monotonic seconds)."""

    why: Literal["signal", "transient", "backend"]
    text: str
    deadline: float
    signal: int | None = None


@dataclass(frozen=True)
class Fallen:
    """A worker that died with a claim and is not judged yet: whether all died at once shows only a moment later."""

    worker: WorkerHandle
    crew: Crew
    task: Task
    death: Death
    at: float


class Supervisor:
    """One run of a pool; `run` once."""

    def __init__(
        self,
        plan: Plan,
        tasks: Sequence[Task],
        crews: Sequence[Crew],
        ledger: Ledger,
        events: EventSink,
        gauge: Gauge,
        signals: StopRequests,
    ) -> None:
        self._plan, self._crews, self._ledger, self._events, self._gauge, self._signals = (
            plan,
            list(crews),
            ledger,
            events,
            gauge,
            signals,
        )
        self._queue = WorkQueue(tasks)
        self._total = len(tasks)
        self._outcomes: dict[str, Outcome] = {}
        self._limbo: list[Fallen] = []
        self._stop: Stop | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.wakeup, selectors.EVENT_READ, None)
        self._pidfds: dict[int, int] = {}
        self._serial = self._deaths_in_a_row = 0
        self._began = time.monotonic()
        self._first_ready: float | None = None
        self._next_sample = self._next_sizing = 0.0
        self._oom_kills = oom_kills()
        self._kill_times: list[float] = []

    # The loop

    def run(self) -> PoolReport:
        """Works until every item has an outcome or the pool is stopped; no process of ours is left when it returns or raises."""
        self._events.emit("started", items=self._total, devices=[crew.device.id for crew in self._crews])
        try:
            self._settle_hopeless()
            while not self._is_over():
                self._step()
            return self._report()
        finally:
            self._end_everything()

    def _settle_hopeless(self) -> None:
        """Items that earlier runs have already charged to the limit get their outcome without another try."""
        attempts = self._plan.rules.attempts
        keep = []
        while (task := self._queue.take(-1, float("inf"), others=False)) is not None:
            if task.crashes >= attempts:
                text = f"workers died on it {task.crashes} times in earlier runs"
                remedy = "See its log; after a change use: videolift retry"
                self._finish(task, Outcome("crash", "crash", text, remedy, attempts=task.crashes))
            else:
                keep.append(task)
        for task in reversed(keep):
            self._queue.put_first(task)

    def _is_over(self) -> bool:
        if any(crew.workers for crew in self._crews) or self._limbo:
            return False
        return self._stop is not None or len(self._queue) == 0

    def _step(self) -> None:
        now = time.monotonic()
        self._obey_signals(now)
        self._keep_deadlines(now)
        self._measure(now)
        self._judge_fallen(now)
        for crew in self._crews:
            self._staff(crew, now)
        self._events.line(len(self._outcomes), self._total, self._state_text)
        self._wait(now)
        for worker, crew in [(w, c) for c in self._crews for w in c.workers]:
            self._hear(worker, crew)

    def _wait(self, now: float) -> None:
        plan = self._plan
        times = [now + plan.timing.tick, self._next_sample]
        times += [w.deadline(plan.load_timeout_s, plan.item_timeout_s) for c in self._crews for w in c.workers]
        if self._stop is not None:
            times.append(self._stop.deadline)
        for key, mask in self._selector.select(max(0.0, min(times) - now)):
            if key.data is None:
                self._signals.drain()
            elif mask & selectors.EVENT_WRITE:
                key.data.channel.flush()
        for crew in self._crews:
            for worker in crew.workers:
                self._watch_writing(worker)

    def _watch_writing(self, worker: WorkerHandle) -> None:
        if worker.channel.open:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.wants_to_write else 0)
            if self._selector.get_key(worker.channel).events != wanted:
                self._selector.modify(worker.channel, wanted, worker)

    # Stopping

    def _obey_signals(self, now: float) -> None:
        received = self._signals.received
        if not received:
            return
        if self._stop is None or self._stop.why != "signal":
            self._begin_stop("signal", f"stopped by {signal.Signals(received[0]).name}", self._plan.grace_s, received[0])
        if len(received) > 1 and self._stop is not None and self._stop.deadline > now:
            self._stop = replace(self._stop, deadline=now)
            self._events.emit("stopping", why="signal", text="second signal: everything ends now")

    def _begin_stop(
        self, why: Literal["signal", "transient", "backend"], text: str, grace_s: float, number: int | None = None
    ) -> None:
        self._stop = Stop(why, text, time.monotonic() + grace_s, number)
        self._events.emit(
            "stopping", why=why, text=text, grace_s=grace_s, running=sum(w.state == "busy" for c in self._crews for w in c.workers)
        )

    def _keep_deadlines(self, now: float) -> None:
        plan = self._plan
        for crew in self._crews:
            for worker in crew.workers:
                if self._stop is not None and now >= self._stop.deadline and worker.state != "killed":
                    worker.kill()
                reason = worker.overdue(plan.load_timeout_s, plan.item_timeout_s, now)
                if reason is not None:
                    if worker.state != "closing":
                        worker.hung = reason
                        self._events.emit("hung", worker=worker.serial, device=crew.device.id, item=_key(worker), text=reason)
                    worker.kill()

    # Numbers

    def _measure(self, now: float) -> None:
        if now < self._next_sample:
            return
        for crew in self._crews:
            crew.sample(self._gauge)
            for worker in crew.workers:
                worker.bound_log()
        cost = time.monotonic() - now
        self._next_sample = now + max(self._plan.timing.sample, 50 * cost)
        self._next_sizing = 0.0

    def _resize(self, crew: Crew, now: float) -> int:
        """The number of workers that the crew should have now."""
        if crew.decision is None or now >= self._next_sizing or len(crew.peaks) <= 3:
            decision = decide(crew.snapshot(self._gauge, self._queue), self._plan.sizing)
            before, crew.decision = crew.decision, decision
            if before is None or before.workers != decision.workers:
                self._events.emit(
                    "resized",
                    device=crew.device.id,
                    workers=decision.workers,
                    reason=decision.reason,
                    alive=len(crew.living),
                    **decision.figures,
                )
        return crew.decision.workers

    # Workers

    def _staff(self, crew: Crew, now: float) -> None:
        """Starts, feeds and closes the workers of one device."""
        idle = [w for w in crew.workers if w.state == "idle"]
        if self._stop is not None:
            for worker in crew.workers:
                if worker.state == "idle":
                    worker.close()
                elif worker.state == "loading":
                    worker.kill()
            return
        if self._nothing_left():
            for worker in crew.living:
                worker.close() if worker.state == "idle" else worker.kill()
            return
        wanted = self._resize(crew, now)
        for worker in sorted(idle, key=lambda w: -w.serial)[: max(0, len(crew.living) - wanted)]:
            worker.close()
        self._feed(crew, now)
        self._hire(crew, wanted, now)
        crew.most = max(crew.most, len(crew.living))

    def _nothing_left(self) -> bool:
        return len(self._queue) == 0 and not self._limbo and not any(w.state == "busy" for c in self._crews for w in c.workers)

    def _feed(self, crew: Crew, now: float) -> None:
        others = sum(len(c.living) for c in self._crews) > 1
        for worker in crew.workers:
            if worker.state == "idle":
                task = self._queue.take(worker.serial, now, others=others)
                if task is not None:
                    self._give(worker, crew, task, alone=len(crew.living) == 1)
        if self._queue.shared == 0 and self._queue.alone and not any(w.state == "busy" for w in crew.workers):
            self._feed_alone(crew, now)

    def _feed_alone(self, crew: Crew, now: float) -> None:
        """Makes room for, and gives, a task that needs the device to itself."""
        if any(w.state == "loading" for w in crew.workers):
            return
        idle = sorted((w for w in crew.workers if w.state == "idle"), key=lambda w: w.items_done)
        for worker in idle[1:]:
            worker.close()
        if len(crew.workers) == 1 and idle:
            task = self._queue.take_alone(idle[0].serial, now)
            if task is not None:
                self._give(idle[0], crew, task, alone=True)

    def _hire(self, crew: Crew, wanted: int, now: float) -> None:
        living = crew.living
        loading = sum(w.state == "loading" for w in living)
        free_hands = sum(w.state in ("loading", "idle") for w in living)
        work = self._queue.shared if self._queue.shared else min(1, self._queue.alone) if not crew.workers else 0
        room = len(living) < wanted and loading < max(1, len(living) - loading)
        if crew.fenced is None and now >= crew.spawn_not_before and room and free_hands < work:
            self._spawn(crew)

    def _spawn(self, crew: Crew) -> None:
        self._serial += 1
        plan = self._plan
        threads = (
            max(crew.device.threads, crew.device.cores // max(1, min(crew.slots, self._total))) if crew.device.kind == "cpu" else 0
        )
        device = replace(crew.device, threads=threads) if threads else crew.device
        worker = WorkerHandle(
            self._serial, device, factory=plan.factory, preparation=plan.preparation, environment=plan.environment,
            folder=plan.log_folder, timing=plan.timing,
        )  # fmt: skip
        crew.workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        if hasattr(os, "pidfd_open"):
            self._pidfds[worker.serial] = os.pidfd_open(worker.pid)
            self._selector.register(self._pidfds[worker.serial], selectors.EVENT_READ, worker)
        self._events.emit("spawned", worker=worker.serial, device=crew.device.id, pid=worker.pid, log=str(worker.log_path))

    def _give(self, worker: WorkerHandle, crew: Crew, task: Task, *, alone: bool) -> None:
        """Claims on disk first, then the worker may start."""
        try:
            frame = worker.frame(task)
        except (MessageTooLarge, pickle.PicklingError, TypeError, AttributeError) as error:
            self._finish(task, Outcome("error", type(error).__name__, f"its payload cannot be sent to a worker: {error}"))
            return
        try:
            self._ledger.claimed(task.item, attempt=task.crashes + 1, pid=worker.pid, start_time=worker.start_time)
        except Transient as error:
            self._queue.put_first(task)
            self._begin_stop("transient", str(error), self._plan.grace_s)
            return
        crew.began(worker)
        worker.give(task, frame, alone=alone)
        self._events.emit(
            "claimed", worker=worker.serial, device=crew.device.id, item=task.item.key, attempt=task.crashes + 1, alone=alone
        )

    # What workers say

    def _hear(self, worker: WorkerHandle, crew: Crew) -> None:
        ended = worker.state != "gone" and worker.popen.returncode is None and worker.has_ended()
        if worker.channel.open:
            for message in worker.channel.receive():
                self._on(message, worker, crew)
            if not worker.channel.open:
                self._selector.unregister(worker.channel)
        if ended:
            self._bury(worker, crew)
        elif worker.state == "killed":
            self._see_it_gone(worker, crew)

    def _on(self, message: Message, worker: WorkerHandle, crew: Crew) -> None:
        worker.last_sign = time.monotonic()
        if isinstance(message, Progress):
            self._events.emit("progress", worker=worker.serial, item=_key(worker), done=message.done, of=message.total)
        elif isinstance(message, Ready):
            self._on_ready(message, worker, crew)
        elif isinstance(message, Done):
            self._on_done(message, worker, crew)
        elif message.loading:
            self._on_load_failed(message, worker, crew)
        else:
            self._on_failed(message, worker, crew)

    def _on_ready(self, message: Ready, worker: WorkerHandle, crew: Crew) -> None:
        if worker.state != "loading":
            return
        worker.shrinks = message.shrinks
        worker.enter("idle")
        crew.loaded(worker)
        if self._first_ready is None:
            self._first_ready = time.monotonic()
        self._events.emit("ready", worker=worker.serial, device=crew.device.id, seconds=round(time.monotonic() - worker.spawned, 3))

    def _on_done(self, message: Done, worker: WorkerHandle, crew: Crew) -> None:
        task = worker.take_task()
        if task is None:
            return
        seconds = time.monotonic() - worker.since
        peak = crew.ended(worker, task.size, self._gauge, message.peak_rss_bytes)
        crew.worked(task.size, seconds)
        worker.items_done += 1
        if worker.state == "busy":
            worker.enter("idle")
        self._deaths_in_a_row = 0
        shrink = worker.shrinks[min(task.level, len(worker.shrinks) - 1)]
        try:
            value = pickle.loads(message.value)
        except Exception as error:  # noqa: BLE001  unpickling a user's class may raise anything; it concerns this item alone
            outcome = Outcome(
                "error", type(error).__name__, f"its result cannot be read in the supervisor: {error}", seconds=seconds
            )
        else:
            outcome = Outcome("done", value=value, seconds=seconds, peak_bytes=peak, attempts=task.crashes + 1, shrink=shrink)
        self._finish(task, outcome, worker)

    def _on_failed(self, message: Failed, worker: WorkerHandle, crew: Crew) -> None:
        task = worker.take_task()
        if task is None:
            return
        seen = self._circumstances(worker, crew, crew.ended(worker, task.size, self._gauge, message.peak_rss_bytes))
        worker.items_done += 1
        kind = "oom" if message.kind == "oom" else "failed"
        self._events.emit(
            kind,
            worker=worker.serial,
            device=crew.device.id,
            item=task.item.key,
            code=message.code,
            text=message.text,
            peak_bytes=seen.peak_bytes,
        )
        if message.kind == "oom" and not seen.alone:
            crew.settled = max(1, len(crew.living) - 1)
        if message.device_lost:
            self._fence(crew, message.text)
        if message.poisoned or message.kind in ("oom", "backend"):
            worker.kill()
        elif worker.state == "busy":
            worker.enter("idle")
        self._carry_out(judge(task, message, seen, self._plan.rules), task)

    def _on_load_failed(self, message: Failed, worker: WorkerHandle, crew: Crew) -> None:
        worker.kill()
        text = message.text + (f"\n{message.traceback}" if message.kind == "error" else "")
        self._load_failed(
            crew, text, hopeless=message.device_lost or message.kind == "backend", out_of_memory=message.kind == "oom"
        )

    def _load_failed(self, crew: Crew, text: str, *, hopeless: bool = False, out_of_memory: bool = False) -> None:
        """A worker did not get ready: with others at work the crew stays as it is, else the device has few tries."""
        others = [w for w in crew.living if w.state != "loading"]
        self._events.emit("failed", device=crew.device.id, text=f"loading failed: {text}", code="load")
        if others:
            crew.settled = len(others)
            return
        crew.load_failures += 1
        crew.spawn_not_before = time.monotonic() + self._plan.rules.backoff_s * 2 ** (crew.load_failures - 1)
        if hopeless or crew.load_failures >= MAX_LOAD_FAILURES:
            self._fence(crew, ("out of memory while loading: " if out_of_memory else "") + text)

    def _fence(self, crew: Crew, text: str) -> None:
        if crew.fenced is not None:
            return
        crew.fenced = text
        self._events.emit("fenced", device=crew.device.id, name=crew.device.name, text=text)
        for worker in crew.living:
            worker.taken_back = True
            worker.kill()
        if all(c.fenced is not None for c in self._crews) and self._stop is None:
            reasons = "; ".join(f"{c.device.name} ({c.device.id}): {c.fenced}" for c in self._crews)
            self._begin_stop("backend", reasons, 0.0)

    # Deaths

    def _bury(self, worker: WorkerHandle, crew: Crew) -> None:
        """A worker's process has ended: reap its tree, and say whose fault it was."""
        before, task = worker.state, worker.take_task()
        how = worker.reap()
        self._unwatch(worker)
        if task is not None:
            self._after_death(worker, crew, task, before, how)
        elif before == "loading":
            self._deaths_in_a_row += 1
            self._load_failed(crew, f"the worker {how}\n{worker.tail()}")
        elif before == "killed" and worker.hung and crew.load_failures < MAX_LOAD_FAILURES:
            self._load_failed(crew, f"the worker {worker.hung}\n{worker.tail()}")
        elif before == "idle":
            self._deaths_in_a_row += 1
            self._events.emit("died", worker=worker.serial, device=crew.device.id, item=None, text=how)
        self._cap_deaths()
        self._see_it_gone(worker, crew)

    def _after_death(self, worker: WorkerHandle, crew: Crew, task: Task, before: str, how: str) -> None:
        recorded = self._ledger.recorded(task.item)
        if recorded is not None:
            self._finish(task, recorded, worker)
            return
        if self._stop is not None and before == "killed" and not worker.hung:
            self._leave_pending(task)
            return
        tail = worker.tail()
        kills, self._oom_kills = self._oom_kills, oom_kills()
        killed = worker.popen.returncode == -signal.SIGKILL
        if worker.hung:
            death = Death("hang", worker.hung, tail)
        elif worker.taken_back:
            death = Death("excused", how, tail)
        elif killed and self._oom_kills > kills:
            death = Death("oom_kill", how, tail)
        else:
            death = Death("crash", how, tail)
            self._deaths_in_a_row += 1
        if not worker.taken_back:
            self._events.emit(
                "died", worker=worker.serial, device=crew.device.id, item=task.item.key, text=death.text, cause=death.cause
            )
        now = time.monotonic()
        if killed and death.cause == "crash":
            self._kill_times.append(now)
            self._limbo.append(Fallen(worker, crew, task, death, now))
        else:
            self._carry_out(judge(task, death, self._circumstances(worker, crew, worker.peak_bytes), self._plan.rules), task)

    def _judge_fallen(self, now: float) -> None:
        """Once the moment has passed: if all workers were killed within it, it was the machine's doing and nobody is charged."""
        window = self._plan.timing.hiccup
        due = [f for f in self._limbo if now - f.at >= window]
        self._limbo = [f for f in self._limbo if now - f.at < window]
        for fallen in due:
            together = sum(abs(t - fallen.at) <= window for t in self._kill_times)
            survivors = any(w.living and w.spawned < time.monotonic() - window for c in self._crews for w in c.workers)
            everybody = together >= 2 and not survivors
            death = replace(fallen.death, cause="excused") if everybody else fallen.death
            seen = self._circumstances(fallen.worker, fallen.crew, fallen.worker.peak_bytes)
            self._carry_out(judge(fallen.task, death, seen, self._plan.rules), fallen.task)
        self._kill_times = [t for t in self._kill_times if now - t < 4 * window]

    def _cap_deaths(self) -> None:
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW and self._stop is None:
            logs = self._plan.log_folder
            text = f"{self._deaths_in_a_row} workers died one after another without finishing an item; the logs are in {logs}"
            self._begin_stop("backend", text, 0.0)

    def _see_it_gone(self, worker: WorkerHandle, crew: Crew) -> None:
        """Forgets a killed worker once its tree has ended and its memory is free, or gives it up when that takes too long."""
        left = [who.pid for who in worker.leftovers()]
        waited = time.monotonic() - worker.since
        if not left and waited < self._plan.timing.settle:
            holders = self._gauge.holders(crew.device) or {}
            if any(who.pid in holders for who in worker.members):
                return
        if left and waited < self._plan.timing.kill:
            return
        if left:
            text = f"processes {left} cannot be killed (blocked in the kernel?)"
            self._events.emit("leftover", worker=worker.serial, device=crew.device.id, text=text)
            task = worker.take_task()
            if task is not None:
                death = Death("hang", worker.hung or text, worker.tail())
                self._carry_out(judge(task, death, self._circumstances(worker, crew, worker.peak_bytes), self._plan.rules), task)
            if crew.device.kind == "cuda":
                self._fence(crew, text)
        self._unwatch(worker)
        crew.workers.remove(worker)
        worker.forget()
        self._events.emit("gone", worker=worker.serial, device=crew.device.id)

    def _unwatch(self, worker: WorkerHandle) -> None:
        pidfd = self._pidfds.pop(worker.serial, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        if worker.channel.open:
            self._selector.unregister(worker.channel)
            worker.channel.close()

    # Outcomes

    def _circumstances(self, worker: WorkerHandle, crew: Crew, peak_bytes: int | None) -> Circumstances:
        memory = self._gauge.device(crew.device)
        return Circumstances(
            serial=worker.serial,
            shrinks=worker.shrinks,
            alone=worker.alone and len(crew.living) <= 1,
            fresh=worker.items_done == 0,
            seconds=time.monotonic() - worker.since,
            peak_bytes=peak_bytes,
            device=crew.device.name,
            total_bytes=memory.total,
            foreign_bytes=max(0, memory.total - memory.free - crew.own_bytes) if crew.device.kind == "cuda" else 0,
            now=time.monotonic(),
        )

    def _carry_out(self, verdict: Verdict, task: Task) -> None:
        if isinstance(verdict, Final):
            self._finish(task, verdict.outcome)
        elif isinstance(verdict, Again):
            self._queue.put(verdict.task)
        elif isinstance(verdict, Pending):
            self._ledger.finished(task.item, verdict.outcome)
            if self._stop is None:
                self._begin_stop("transient", verdict.outcome.text, self._plan.grace_s)

    def _leave_pending(self, task: Task) -> None:
        text = self._stop.text if self._stop is not None else ""
        self._ledger.finished(task.item, Outcome("transient", "interrupted", text, attempts=task.crashes))

    def _finish(self, task: Task, outcome: Outcome, worker: WorkerHandle | None = None) -> None:
        if task.item.key in self._outcomes:
            return
        try:
            self._ledger.finished(task.item, outcome)
        except Transient as error:
            if self._stop is None:
                self._begin_stop("transient", str(error), self._plan.grace_s)
            return
        self._outcomes[task.item.key] = outcome
        fields = {"item": task.item.key, "worker": None if worker is None else worker.serial, "seconds": round(outcome.seconds, 3)}
        fields |= {"attempts": outcome.attempts, "peak_bytes": outcome.peak_bytes, "shrink": outcome.shrink}
        if outcome.kind == "done":
            self._events.emit("done", **fields)
        else:
            self._events.emit("quarantined", outcome=outcome.kind, code=outcome.code, text=outcome.text, **fields)

    def _state_text(self) -> str:
        parts = []
        for crew in self._crews:
            reason = crew.fenced and "fenced" or (crew.decision.reason if crew.decision else "starting")
            parts.append(f"{crew.device.id}: {len(crew.living)} workers ({reason})")
        lost = sum(o.kind != "done" for o in self._outcomes.values())
        return ", ".join(parts) + (f", {lost} quarantined" if lost else "")

    def _report(self) -> PoolReport:
        stop, now = self._stop, time.monotonic()
        if stop is not None and len(self._outcomes) == self._total and stop.why != "signal":
            stop = None
        report = PoolReport(
            outcomes=self._outcomes,
            stopped=stop.why if stop else None,
            signal=stop.signal if stop else None,
            text=stop.text if stop else "",
            ready_seconds=(self._first_ready or now) - self._began,
            seconds=now - self._began,
            workers={crew.device.id: crew.most for crew in self._crews},
        )
        self._events.line(len(self._outcomes), self._total, self._state_text, final=True)
        self._events.emit(
            "finished", stopped=report.stopped, text=report.text, done=len(self._outcomes), seconds=round(report.seconds, 3)
        )
        return report

    def _end_everything(self) -> None:
        """Whatever happened, no process of ours outlives the run."""
        workers = [w for crew in self._crews for w in crew.workers]
        for worker in workers:
            worker.kill()
        give_up = time.monotonic() + 2.0
        while workers and time.monotonic() < give_up:
            for worker in list(workers):
                if worker.has_ended():
                    worker.reap()
                    if not worker.leftovers():
                        workers.remove(worker)
            time.sleep(0.01)
        for crew in self._crews:
            for worker in crew.workers:
                self._unwatch(worker)
                worker.forget()
            crew.workers.clear()
        self._selector.close()


def _key(worker: WorkerHandle) -> str | None:
    return None if worker.task is None else worker.task.item.key
