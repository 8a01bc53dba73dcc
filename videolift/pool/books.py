"""Where every item is: waiting, claimed, or with its outcome; and the user's ledger told of each step in the right order.

Claims reach the ledger before a worker may start; an outcome is final once. Storage that fails under the ledger stops the pool, and
the item stays pending. This module does not decide what a failure means.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

from videolift.errors import Transient
from videolift.pool.channel import MessageTooLarge
from videolift.pool.events import EventSink
from videolift.pool.handle import WorkerHandle
from videolift.pool.messages import Failed
from videolift.pool.policy import Again, Circumstances, Final, Pending, Rules, Verdict, judge
from videolift.pool.queue import Task, WorkQueue
from videolift.pool.stopping import Halt
from videolift.pool.types import Ledger, Outcome


class Books:
    """See the module."""

    def __init__(self, tasks: Sequence[Task], ledger: Ledger, events: EventSink, halt: Halt, rules: Rules) -> None:
        self.total = len(tasks)
        self.outcomes: dict[str, Outcome] = {}
        self.lost = 0
        self._ledger, self._events, self._halt, self._rules = ledger, events, halt, rules
        self.queue = WorkQueue(tasks)

    @property
    def done(self) -> int:
        """Items with an outcome."""
        return len(self.outcomes)

    def settle_hopeless(self, attempts: int) -> None:
        """Items that earlier runs have charged to the limit get their outcome without another try."""
        for task in self.queue.remove(lambda task: task.crashes >= attempts):
            text = f"workers died on it {task.crashes} times in earlier runs"
            self.finish(
                task, Outcome("crash", "crash", text, "See its log; after a change use: videolift retry", attempts=task.crashes)
            )

    def claim(self, task: Task, worker: WorkerHandle, *, alone: bool) -> bool:
        """Claims ``task`` on disk and sends it to the worker; False where that cannot be."""
        if worker.has_ended():  # it cannot start, so nothing may be charged to the item
            self.queue.put_first(task)
            return False
        try:
            frame = worker.frame(task)
        except (MessageTooLarge, pickle.PicklingError, TypeError, AttributeError) as error:
            self.finish(task, Outcome("error", type(error).__name__, f"its payload cannot be sent to a worker: {error}"))
            return False
        try:
            self._ledger.claimed(task.item, attempt=task.crashes + 1, pid=worker.pid, start_time=worker.start_time)
        except Transient as error:
            seen = Circumstances(worker.serial, now=time.monotonic())
            self.carry_out(judge(task, Failed("transient", "claim", str(error)), seen, self._rules), task)
            return False
        worker.give(task, frame, alone=alone)
        self._events.emit(
            "claimed", worker=worker.serial, device=worker.device.id, item=task.item.key, attempt=task.crashes + 1, alone=alone
        )
        return True

    def recorded(self, task: Task) -> Outcome | None:
        """What the dead worker had already recorded."""
        return self._ledger.recorded(task.item)

    def carry_out(self, verdict: Verdict, task: Task) -> None:
        """Puts ``task`` where the verdict says."""
        if isinstance(verdict, Final):
            self.finish(task, verdict.outcome)
        elif isinstance(verdict, Again):
            self.queue.put(verdict.task)
        elif isinstance(verdict, Pending):
            self.leave_pending(task, verdict.outcome)
            self._halt.begin("transient", verdict.outcome.text)

    def leave_pending(self, task: Task, outcome: Outcome) -> None:
        """Nobody's fault: the claim goes, the item stays to be done by a later run."""
        try:
            self._ledger.finished(task.item, outcome)
        except Transient as error:
            self._halt.begin("transient", str(error))

    def finish(self, task: Task, outcome: Outcome, worker: WorkerHandle | None = None) -> None:
        """Records the item's outcome; a second one for the same item changes nothing."""
        if task.item.key in self.outcomes:
            return
        try:
            self._ledger.finished(task.item, outcome)
        except Transient as error:
            self._halt.begin("transient", str(error))
            return
        self.outcomes[task.item.key] = outcome
        fields = {"item": task.item.key, "worker": None if worker is None else worker.serial, "seconds": round(outcome.seconds, 3)}
        fields |= {"attempts": outcome.attempts, "peak_bytes": outcome.peak_bytes, "shrink": outcome.shrink}
        if outcome.kind == "done":
            self._events.emit("done", **fields)
        else:
            self.lost += 1
            self._events.emit("quarantined", outcome=outcome.kind, code=outcome.code, text=outcome.text, **fields)
