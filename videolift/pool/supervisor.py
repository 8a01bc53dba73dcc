"""The pool's one loop: looks around, acts, waits, hears what workers say; and leaves nothing behind.

Everything that decides is elsewhere and pure (`sizing`, `policy`). The loop runs on the caller's main thread, never blocks on a
worker, and holds an item in exactly one place at any time: the queue, one worker, limbo (a death still being judged), or the
outcomes.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict

from videolift.pool.books import Books
from videolift.pool.crew import Crew
from videolift.pool.deaths import Deaths
from videolift.pool.events import EventSink
from videolift.pool.handle import WorkerHandle
from videolift.pool.memory import Gauge
from videolift.pool.messages import Done, Failed, Message, Progress, Ready
from videolift.pool.policy import judge
from videolift.pool.queue import Task
from videolift.pool.signals import StopRequests
from videolift.pool.staffing import Plan, Staffing
from videolift.pool.stopping import Halt
from videolift.pool.types import Ledger, Outcome, PoolReport
from videolift.pool.watch import Watch
from videolift.processes import this_process

_END_WITHIN_S = 2.0
_COST_OF_LOOKING = 0.02
"""Share of one core that may go into measuring memory."""


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
        self._plan, self._crews, self._events, self._gauge = plan, list(crews), events, gauge
        self._halt = Halt(signals, events, plan.grace_s)
        self._watch = Watch(signals)
        self._books = Books(tasks, ledger, events, self._halt, plan.rules)
        self._staffing = Staffing(plan, self._crews, self._books, self._watch, events, self._halt)
        self._deaths = Deaths(plan, self._crews, self._books, self._staffing, self._watch, events, gauge, self._halt)
        self._began = time.monotonic()
        self._first_ready: float | None = None
        self._next_sample = 0.0

    def run(self) -> PoolReport:
        """Works until every item has an outcome or the pool is stopped; no process of ours is left when it returns or raises."""
        devices = [crew.device.id for crew in self._crews]
        self._events.emit("started", items=self._books.total, devices=devices, supervisor=asdict(this_process()))
        try:
            self._books.settle_hopeless(self._plan.rules.attempts)
            while not self._is_over():
                self._step()
        finally:
            self._end_everything()
        return self._report()

    def _is_over(self) -> bool:
        if any(crew.workers for crew in self._crews) or self._deaths.undecided:
            return False
        return self._halt.stop is not None or len(self._books.queue) == 0

    def _step(self) -> None:
        now = time.monotonic()
        self._halt.obey_signals(now)
        self._keep_deadlines(now)
        self._measure(now)
        self._deaths.judge_fallen(now)
        for crew in self._crews:
            if self._halt.stop is not None or self._nothing_left():
                self._send_home(crew)
            else:
                self._staffing.staff(crew, now)
        begun = sum(worker.progress for crew in self._crews for worker in crew.workers if worker.task is not None)
        self._events.line(self._books.done, self._books.total, self._state_text, begun=begun)
        self._wait(now)
        for crew in self._crews:
            for worker in list(crew.workers):
                self._hear(worker, crew)

    def _wait(self, now: float) -> None:
        plan, workers = self._plan, [w for crew in self._crews for w in crew.workers]
        times = [now + plan.timing.tick, self._next_sample]
        times += [w.deadline(plan.load_timeout_s, plan.item_timeout_s) for w in workers]
        if self._halt.stop is not None and self._halt.stop.deadline > now:
            times.append(self._halt.stop.deadline)
        for worker in workers:
            self._watch.watch_writing(worker)
        self._watch.wait(min(times) - now)

    def _keep_deadlines(self, now: float) -> None:
        plan = self._plan
        for crew in self._crews:
            for worker in crew.workers:
                if worker.state == "killed":
                    continue
                reason = worker.overdue(plan.load_timeout_s, plan.item_timeout_s, now)
                if reason is not None and worker.state != "closing":
                    worker.hung = reason
                    self._events.emit("hung", worker=worker.serial, device=crew.device.id, item=worker.key, text=reason)
                if reason is not None or self._halt.is_due(now):
                    worker.kill()

    def _measure(self, now: float) -> None:
        if now < self._next_sample:
            return
        cpu_before = time.thread_time()
        for crew in self._crews:
            crew.sample(self._gauge)
            for worker in crew.workers:
                worker.bound_log()
        cost_s = time.thread_time() - cpu_before
        self._next_sample = now + max(self._plan.timing.sample, cost_s / _COST_OF_LOOKING)

    def _nothing_left(self) -> bool:
        return len(self._books.queue) == 0 and not self._deaths.undecided and not any(c.busy for c in self._crews)

    def _send_home(self, crew: Crew) -> None:
        """Nothing more is claimed: idle workers close, loading ones end, busy ones go on."""
        for worker in crew.workers:
            if worker.state == "idle":
                worker.close()
            elif worker.state == "loading":
                worker.kill()

    # What workers say

    def _hear(self, worker: WorkerHandle, crew: Crew) -> None:
        ended = worker.popen.returncode is None and worker.has_ended()
        if worker.channel.open:
            for message in worker.channel.receive():
                self._on(message, worker, crew)
            if not worker.channel.open:
                self._watch.drop_channel(worker)
        if ended:
            self._staffing.decide_anew()
            self._deaths.bury(worker, crew)
        elif worker.state == "killed":
            self._deaths.see_it_gone(worker, crew)
        if worker.state == "gone":
            self._next_sample = 0.0  # memory has come free: the next decision must know
            self._staffing.decide_anew()

    def _on(self, message: Message, worker: WorkerHandle, crew: Crew) -> None:
        worker.last_sign = time.monotonic()
        if isinstance(message, Progress):
            worker.progress = min(1.0, message.done / message.total) if message.total > 0 else 0.0
            self._events.emit("progress", worker=worker.serial, item=worker.key, done=message.done, of=message.total)
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
        crew.loaded(worker, self._gauge)
        self._first_ready = self._first_ready or time.monotonic()
        self._staffing.decide_anew()
        seconds = round(time.monotonic() - worker.spawned, 3)
        self._events.emit("ready", worker=worker.serial, device=crew.device.id, seconds=seconds)

    def _on_done(self, message: Done, worker: WorkerHandle, crew: Crew) -> None:
        shrink, task = worker.shrink, worker.task
        if task is None:
            return
        crew.count()
        seconds = worker.busy_seconds
        peak = crew.ended(worker, task.size, self._gauge, message.peak_rss_bytes)
        worker.take_task()
        worker.items_done += 1
        crew.worked(worker, task.size)
        if worker.state == "busy":
            worker.enter("idle")
            if crew.leaks(worker, message.rest_rss_bytes):
                worker.close()
        self._deaths.an_item_was_done()
        try:
            value = pickle.loads(message.value)
        except Exception as error:  # noqa: BLE001  unpickling a user's class may raise anything; it concerns this item alone
            outcome = Outcome(
                "error", type(error).__name__, f"its result cannot be read in the supervisor: {error}", seconds=seconds
            )
        else:
            outcome = Outcome("done", value=value, seconds=seconds, peak_bytes=peak, attempts=task.crashes + 1, shrink=shrink)
        self._books.finish(task, outcome, worker)

    def _on_failed(self, message: Failed, worker: WorkerHandle, crew: Crew) -> None:
        task = worker.task
        if task is None:
            return
        crew.count()
        peak = crew.ended(worker, task.size, self._gauge, message.peak_rss_bytes)
        seen = self._deaths.circumstances(worker, crew, peak)
        worker.take_task()
        worker.items_done += 1
        out_of_memory = message.kind == "oom"
        fields = {"worker": worker.serial, "device": crew.device.id, "item": task.item.key, "peak_bytes": seen.peak_bytes}
        self._events.emit("oom" if out_of_memory else "failed", code=message.code, text=message.text, **fields)
        if out_of_memory and not seen.alone:
            crew.settle(crew.busy)
        if message.poisoned or out_of_memory or message.kind == "backend":
            worker.kill()
        elif worker.state == "busy":
            worker.enter("idle")
        if message.kind == "crash":
            self._deaths.a_model_died(task)
        if message.device_lost:
            self._staffing.fence(crew, message.text)
        self._staffing.decide_anew()
        self._books.carry_out(judge(task, message, seen, self._plan.rules), task)

    def _on_load_failed(self, message: Failed, worker: WorkerHandle, crew: Crew) -> None:
        worker.kill()
        text = message.text + (f"\n{message.traceback}" if message.kind == "error" else "")
        hopeless = message.device_lost or message.kind == "backend"
        self._staffing.load_failed(crew, text, hopeless=hopeless, out_of_memory=message.kind == "oom")

    # The end

    def _state_text(self) -> str:
        parts = []
        for crew in self._crews:
            reason = "fenced" if crew.fenced else crew.decision.reason if crew.decision else "starting"
            parts.append(f"{crew.device.id}: {len(crew.living)} workers ({reason})")
        return ", ".join(parts) + (f", {self._books.lost} quarantined" if self._books.lost else "")

    def _report(self) -> PoolReport:
        stop, now = self._halt.stop, time.monotonic()
        if stop is not None and self._books.done == self._books.total and stop.why != "signal":
            stop = None
        report = PoolReport(
            outcomes=self._books.outcomes,
            stopped=stop.why if stop else None,
            signal=stop.signal if stop else None,
            text=stop.text if stop else "",
            ready_seconds=(self._first_ready or now) - self._began,
            seconds=now - self._began,
            workers={crew.device.id: crew.most for crew in self._crews},
        )
        self._events.line(self._books.done, self._books.total, self._state_text, final=True)
        self._events.emit(
            "finished", stopped=report.stopped, text=report.text, done=self._books.done, seconds=round(report.seconds, 3)
        )
        return report

    def _end_everything(self) -> None:
        """Whatever happened, no process of ours outlives the run."""
        left = [w for crew in self._crews for w in crew.workers]
        for worker in left:
            worker.kill()
        give_up = time.monotonic() + _END_WITHIN_S
        while left and time.monotonic() < give_up:
            left = [worker for worker in left if not self._is_gone(worker)]
            if left:
                time.sleep(0.01)
        for crew in self._crews:
            for worker in crew.workers:
                self._watch.drop(worker)
                worker.forget()
            crew.workers.clear()
        self._watch.close()

    @staticmethod
    def _is_gone(worker: WorkerHandle) -> bool:
        if worker.popen.returncode is None and worker.has_ended():
            worker.reap()
        return worker.popen.returncode is not None and not worker.leftovers()
