"""What is still to be done, and in which order: longest first, retries behind, those that must have the device to themselves last.

A `Task` is an item with what has happened to it so far. This module does not decide what a failure means (`policy` does).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from videolift.pool.types import Item


@dataclass(frozen=True)
class Task:
    """An item and its history.

    Attributes:
        item: as given.
        crashes: deaths and hangs charged to it, earlier runs included.
        errors: exceptions of user code so far.
        transients: storage errors so far.
        excused: deaths that were nobody's fault.
        level: which of the worker's ``shrinks`` is next.
        alone: it ran out of memory; it needs the device to itself.
        avoid: serials of workers that it has failed on.
        not_before: monotonic seconds.
    """

    item: Item
    crashes: int = 0
    errors: int = 0
    transients: int = 0
    excused: int = 0
    level: int = 0
    alone: bool = False
    avoid: frozenset[int] = frozenset()
    not_before: float = 0.0

    @property
    def size(self) -> float:
        """The item's size, 1 where it is not known."""
        return 1.0 if self.item.size is None else float(self.item.size)


_LOOKS = 64
"""Tasks looked at in one go for one that may go to a worker; the next call looks at others."""


class _Line:
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
        for _ in range(min(len(self._ready), _LOOKS)):
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
        self._fresh = sorted(tasks, key=lambda task: -task.size)[::-1]
        self._fresh_size = sum(task.size for task in self._fresh)
        self._again, self._alone = _Line(), _Line()

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
