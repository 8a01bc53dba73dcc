"""What happens when a worker ends: its tree is reaped, its item is charged or not, and it is forgotten once it is gone.

Blame is exact: only the claimed item, and not when it was already recorded, when we ended the worker ourselves for another
reason, or when all workers were killed within one moment. What a charge means for the item, `policy` says.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from videolift.pool.books import Books
from videolift.pool.crew import Crew
from videolift.pool.events import EventSink
from videolift.pool.handle import State, WorkerHandle
from videolift.pool.memory import Gauge, oom_kills
from videolift.pool.policy import Circumstances, Death, judge
from videolift.pool.queue import Task
from videolift.pool.staffing import Plan, Staffing
from videolift.pool.stopping import Halt
from videolift.pool.types import Outcome
from videolift.pool.watch import Watch

MAX_DEATHS_IN_A_ROW = 30
"""Workers that may die, each on an item new to it, without one item done in between; then something is wrong with all of them."""


@dataclass(frozen=True)
class Fallen:
    """A worker that was killed with a claim and is not judged yet: whether all were killed at once shows only a moment later."""

    task: Task
    death: Death
    seen: Circumstances
    at: float


class Deaths:
    """Sees workers off, for all crews of a run."""

    def __init__(
        self,
        plan: Plan,
        crews: Sequence[Crew],
        books: Books,
        staffing: Staffing,
        watch: Watch,
        events: EventSink,
        gauge: Gauge,
        halt: Halt,
    ) -> None:
        self._plan, self._crews, self._books, self._staffing, self._watch = plan, crews, books, staffing, watch
        self._events, self._gauge, self._halt = events, gauge, halt
        self._limbo: list[Fallen] = []
        self._kill_times: list[float] = []
        self._in_a_row = 0
        self._oom_kills = oom_kills()

    @property
    def undecided(self) -> int:
        """Items whose worker's death is not judged yet."""
        return len(self._limbo)

    def an_item_was_done(self) -> None:
        """So not everything is wrong."""
        self._in_a_row = 0

    def circumstances(self, worker: WorkerHandle, crew: Crew, peak_bytes: int | None) -> Circumstances:
        """How the worker's attempt ran."""
        memory = crew.measured(self._gauge)
        others = [w for w in crew.living if w is not worker]
        cuda = crew.device.kind == "cuda"
        return Circumstances(
            serial=worker.serial,
            shrinks=worker.shrinks,
            alone=worker.alone and not others,
            fresh=worker.items_done == 0,
            seconds=worker.busy_seconds,
            peak_bytes=peak_bytes,
            device=crew.device.name,
            total_bytes=memory.total,
            foreign_bytes=crew.foreign_bytes if cuda else 0,
            usual_foreign_bytes=(crew.usual_foreign_bytes or 0) if cuda else 0,
            now=time.monotonic(),
        )

    def bury(self, worker: WorkerHandle, crew: Crew) -> None:
        """A worker's process has ended: reap its tree, and say whose fault it was."""
        before, task = worker.state, worker.take_task()
        how = worker.reap()
        self._watch.drop(worker)
        if task is not None:
            self._after_death(worker, crew, task, before, how)
        elif before == "loading" or (before == "killed" and worker.hung):
            self._in_a_row += 1
            self._staffing.load_failed(crew, f"the worker {worker.hung or how}\n{worker.tail()}")
        elif before == "idle":
            self._in_a_row += 1
            self._events.emit("died", worker=worker.serial, device=crew.device.id, item=None, text=how)
        self._stop_if_hopeless()
        self.see_it_gone(worker, crew)

    def a_model_died(self, task: Task) -> None:
        """A process of the worker's own ended with an item, and the worker lived to say so."""
        self._in_a_row += task.crashes == 0
        self._stop_if_hopeless()

    def _stop_if_hopeless(self) -> None:
        if self._in_a_row >= MAX_DEATHS_IN_A_ROW:
            logs = self._plan.log_folder
            text = f"{self._in_a_row} workers died one after another without finishing an item; the logs are in {logs}"
            self._halt.begin("backend", text, at_once=True)

    def _after_death(self, worker: WorkerHandle, crew: Crew, task: Task, before: State, how: str) -> None:
        recorded = self._books.recorded(task)
        if recorded is not None:
            self._books.finish(task, recorded, worker)
            return
        stop = self._halt.stop
        if stop is not None and before == "killed" and not worker.hung:
            self._books.leave_pending(task, Outcome("transient", "interrupted", stop.text, attempts=task.crashes))
            return
        death = self._death(worker, how)
        if not worker.taken_back:
            self._events.emit(
                "died", worker=worker.serial, device=crew.device.id, item=task.item.key, text=death.text, cause=death.cause
            )
        seen, now = self.circumstances(worker, crew, worker.peak_bytes), time.monotonic()
        if death.cause == "crash":
            self._in_a_row += task.crashes == 0  # a second death on one item says more of the item than of the workers
            if worker.popen.returncode == -signal.SIGKILL:
                self._kill_times.append(now)
                self._limbo.append(Fallen(task, death, seen, now))
                return
        if death.cause == "oom_kill" and not seen.alone:
            crew.settle(len(crew.living))
        self._books.carry_out(judge(task, death, seen, self._plan.rules), task)

    def _death(self, worker: WorkerHandle, how: str) -> Death:
        kills_before, self._oom_kills = self._oom_kills, oom_kills()
        if worker.hung:
            return Death("hang", worker.hung, worker.tail())
        if worker.taken_back:
            return Death("taken_back", how)
        killed = worker.popen.returncode == -signal.SIGKILL
        return Death("oom_kill" if killed and self._oom_kills > kills_before else "crash", how, worker.tail())

    def judge_fallen(self, now: float) -> None:
        """Once the moment has passed: if all workers were killed within it, it was the machine's doing and nobody is charged."""
        window = self._plan.timing.hiccup
        stopping = self._halt.stop is not None
        due = [f for f in self._limbo if now - f.at >= window or stopping]
        self._limbo = [f for f in self._limbo if f not in due]
        for fallen in due:
            together = sum(abs(t - fallen.at) <= window for t in self._kill_times)
            survivors = any(w.living and w.spawned < fallen.at for c in self._crews for w in c.workers)
            everybody = together >= 2 and not survivors
            death = replace(fallen.death, cause="excused") if everybody else fallen.death
            self._books.carry_out(judge(fallen.task, death, fallen.seen, self._plan.rules), fallen.task)
        self._kill_times = [t for t in self._kill_times if now - t < 4 * window]

    def see_it_gone(self, worker: WorkerHandle, crew: Crew) -> None:
        """Forgets a killed worker once its tree has ended and its memory is free, or gives it up when that takes too long."""
        left = [who.pid for who in worker.leftovers()]
        waited = time.monotonic() - worker.since
        if left and waited < self._plan.timing.kill:
            return
        if not left and waited < self._plan.timing.settle and self._still_holds(worker, crew):
            return
        if left:
            self._give_up(worker, crew, left)
        elif self._still_holds(worker, crew):
            text = f"the driver still lists memory of worker {worker.serial}, whose processes have ended"
            self._events.emit("leftover", worker=worker.serial, device=crew.device.id, text=text)
        self._watch.drop(worker)
        crew.workers.remove(worker)
        worker.forget()
        self._events.emit("gone", worker=worker.serial, device=crew.device.id)

    def _still_holds(self, worker: WorkerHandle, crew: Crew) -> bool:
        holders = self._gauge.holders(crew.device) or {}
        return any(who.pid in holders for who in worker.members)

    def _give_up(self, worker: WorkerHandle, crew: Crew, left: list[int]) -> None:
        """Processes that survive SIGKILL are blocked in the kernel: their card is no longer used."""
        text = f"processes {left} cannot be killed (blocked in the kernel?)"
        self._events.emit("leftover", worker=worker.serial, device=crew.device.id, text=text)
        task = worker.take_task()
        if task is not None:
            death = Death("hang", worker.hung or text, worker.tail())
            self._books.carry_out(judge(task, death, self.circumstances(worker, crew, worker.peak_bytes), self._plan.rules), task)
        if crew.device.kind == "cuda":
            self._staffing.fence(crew, text)
