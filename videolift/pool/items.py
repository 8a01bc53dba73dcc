"""Where every item is: waiting, claimed, or with its outcome; and the user's ledger told of each step in the right order.

Longest items first, retries behind, those that must have the device to themselves last. Claims reach the ledger before a worker
may start; an outcome is final once. Storage that fails under the ledger stops the pool, and the item stays pending. What a failure
means is decided in `decisions.policy`.
"""

from __future__ import annotations

import heapq
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from videolift.errors import Transient
from videolift.pool.decisions.policy import (
    Circumstances,
    Final,
    Pending,
    Retry,
    RetryRules,
    Task,
    WorkerDeath,
    judge_failure,
)
from videolift.pool.events import EventSink
from videolift.pool.interface import Ledger, Outcome
from videolift.pool.stopping import StopState
from videolift.pool.workers.handle import WorkerHandle
from videolift.pool.workers.messages import AttemptFailed, MessageTooLarge

_MAX_LOOKS = 64
"""Tasks looked at in one go for one that may go to a worker; the next call looks at others."""


class _RetryLine:
    """Tasks about in the order they were put, those that back off passed over."""

    def __init__(self) -> None:
        self._ready: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._put = 0
        self.size = 0.0
        self.largest = 0.0

    def __len__(self) -> int:
        return len(self._ready) + len(self._later)

    def put(self, task: Task) -> None:
        self._put += 1
        self.size += task.size
        self.largest = max(self.largest, task.size)
        if task.not_before > 0:
            heapq.heappush(self._later, (task.not_before, self._put, task))
        else:
            self._ready.append(task)

    def take(self, serial: int, now: float, *, others: bool) -> Task | None:
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        # Those that this worker must avoid go to the back; with a hundred thousand of them a full scan would be quadratic.
        for _ in range(min(len(self._ready), _MAX_LOOKS)):
            task = self._ready.popleft()
            if not (others and serial in task.avoid):
                self.size -= task.size
                self.largest = self.largest if self else 0.0
                return task
            self._ready.append(task)
        return None

    def next_time(self) -> float | None:
        return self._later[0][0] if self._later else None


class WorkQueue:
    """Tasks that nobody works on. Taking and putting cost no more with a million items than with ten."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        # Longest first: the last item to end is then a short one, and the first peak measured the largest.
        # Reversed, since a list gives its last in constant time; stable, so equal sizes keep the user's order.
        self._fresh = sorted(tasks, key=lambda task: -task.size)[::-1]
        self._fresh_size = sum(task.size for task in self._fresh)
        self._again, self._alone = _RetryLine(), _RetryLine()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again) + len(self._alone)

    @property
    def shared(self) -> int:
        """Tasks that may run beside others."""
        return len(self._fresh) + len(self._again)

    @property
    def shared_size(self) -> float:
        """Their sizes together."""
        return self._fresh_size + self._again.size

    @property
    def alone(self) -> int:
        """Tasks that need the device to themselves."""
        return len(self._alone)

    @property
    def largest(self) -> float:
        """No task left is longer; 0 without any."""
        return max(self._fresh[-1].size if self._fresh else 0.0, self._again.largest, self._alone.largest)

    def remove(self, unwanted: Callable[[Task], bool]) -> list[Task]:
        """Takes out every task that has not been tried and for which ``unwanted`` says so."""
        found = [task for task in self._fresh if unwanted(task)]
        if found:
            self._fresh = [task for task in self._fresh if not unwanted(task)]
            self._fresh_size = sum(task.size for task in self._fresh)
        return found

    def put(self, task: Task) -> None:
        """Puts a task back, behind everything that has not been tried."""
        (self._alone if task.alone else self._again).put(task)

    def put_first(self, task: Task) -> None:
        """Puts a task back that was never started."""
        if task.alone:
            self._alone.put(task)
        else:
            self._fresh.append(task)
            self._fresh_size += task.size

    def take(self, serial: int, now: float, *, others: bool) -> Task | None:
        """The next task for worker ``serial`` among those that may run beside others.

        Args:
            serial: the worker's number.
            now: monotonic seconds; tasks that back off are passed over.
            others: whether other workers live; then a task is not given to a worker that it has failed on.
        """
        if self._fresh:
            task = self._fresh.pop()
            self._fresh_size -= task.size
            return task
        return self._again.take(serial, now, others=others)

    def take_alone(self, serial: int, now: float) -> Task | None:
        """The next task that needs the device to itself."""
        return self._alone.take(serial, now, others=False)

    def next_time(self) -> float | None:
        """When the first task that backs off may run again; None when none does."""
        return min((t for t in (self._again.next_time(), self._alone.next_time()) if t is not None), default=None)


class ItemTracker:
    """See the module."""

    def __init__(
        self,
        tasks: Sequence[Task],
        ledger: Ledger,
        events: EventSink,
        stopping: StopState,
        rules: RetryRules,
        now: Callable[[], float],
    ) -> None:
        self.total = len(tasks)
        self.outcomes: dict[str, Outcome] = {}
        self.quarantined = 0
        self._ledger, self._events, self._stopping, self._rules, self._now = ledger, events, stopping, rules, now
        self._claims = 0
        self._open_claims: dict[str, Task] = {}
        self.queue = WorkQueue(tasks)

    @property
    def done(self) -> int:
        """Items with an outcome."""
        return len(self.outcomes)

    def quarantine_exhausted(self) -> None:
        """Items that earlier runs have charged to the limit get their outcome without another try."""
        for task in self.queue.remove(lambda task: task.crashes >= self._rules.attempts):
            text = f"workers died on it {task.crashes} times in earlier runs"
            self.finish(
                task, Outcome("crash", "crash", text, "See its log; after a change use: videolift retry", attempts=task.crashes)
            )

    def claim(self, task: Task, worker: WorkerHandle, *, alone: bool) -> bool:
        """Claims ``task`` on disk and sends it to the worker; False where that cannot be."""
        if worker.process.has_ended():  # it cannot start, so nothing may be charged to the item
            self.queue.put_first(task)
            return False
        # Pickled before it is claimed: what cannot be sent must not look as if a worker had died on it.
        try:
            self._claims += 1
            frame = worker.frame(task, self._claims)
        except (MessageTooLarge, pickle.PicklingError, TypeError, AttributeError) as error:
            self.finish(task, Outcome("error", type(error).__name__, f"its payload cannot be sent to a worker: {error}"))
            return False
        # On disk before the worker may start: whoever finds the claim later knows that it may have been the reason.
        try:
            self._ledger.claimed(task.item, attempt=task.crashes + 1, pid=worker.process.pid, start_time=worker.process.start_time)
        except Transient as error:
            seen = Circumstances(worker.serial, now=self._now())
            self.judge(task, AttemptFailed("transient", "claim", str(error)), seen)
            return False
        self._open_claims[task.item.key] = task
        worker.give(task, self._claims, frame, alone=alone)
        self._events.emit(
            "claimed", worker=worker.serial, device=worker.device.id, item=task.item.key, attempt=task.crashes + 1, alone=alone
        )
        return True

    def recorded(self, task: Task) -> Outcome | None:
        """What the dead worker had already recorded."""
        return self._ledger.recorded(task.item)

    def judge(self, task: Task, failure: AttemptFailed | WorkerDeath, seen: Circumstances) -> None:
        """Puts ``task``, which has failed, where the policy says."""
        verdict = judge_failure(task, failure, seen, self._rules)
        if isinstance(verdict, Final):
            self.finish(task, verdict.outcome)
        elif isinstance(verdict, Retry):
            # The claim stays open: a kill while the item waits must not lose what it is charged with.
            self._open_claims[task.item.key] = verdict.task
            self.queue.put(verdict.task)
        elif isinstance(verdict, Pending):
            self.leave_pending(task, verdict.outcome)
            self._stopping.request(verdict.why, verdict.outcome.text)

    def leave_pending(self, task: Task, outcome: Outcome) -> None:
        """Nobody's fault: the claim goes, the item stays to be done by a later run."""
        self._open_claims.pop(task.item.key, None)
        try:
            self._ledger.finished(task.item, outcome)
        except Transient as error:
            self._stopping.request("transient", str(error))

    def release_claims(self, text: str) -> None:
        """The pool has stopped: items that wait for another try must not be charged as if a worker had died on them."""
        for task in list(self._open_claims.values()):
            self.leave_pending(task, Outcome("transient", "interrupted", text, attempts=task.crashes))

    def finish(self, task: Task, outcome: Outcome, worker: WorkerHandle | None = None) -> None:
        """Records the item's outcome; a second one for the same item changes nothing."""
        # A worker that was given up may still answer, and its item may have been done again by then.
        if task.item.key in self.outcomes:
            return
        try:
            self._ledger.finished(task.item, outcome)
        except Transient as error:
            self._stopping.request("transient", str(error))
            return
        self._open_claims.pop(task.item.key, None)
        self.outcomes[task.item.key] = outcome
        fields = {"item": task.item.key, "worker": None if worker is None else worker.serial, "seconds": round(outcome.seconds, 3)}
        fields |= {"attempts": outcome.attempts, "peak_bytes": outcome.peak_bytes, "shrink": outcome.shrink}
        if outcome.kind == "done":
            self._events.emit("done", **fields)
        else:
            self.quarantined += 1
            self._events.emit("quarantined", outcome=outcome.kind, code=outcome.code, text=outcome.text, **fields)
