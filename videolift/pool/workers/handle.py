"""One worker as its supervisor sees it: its process, its state, the claimed task, and its deadlines.

States go one way: ``loading`` until it says that it is ready, ``idle`` and ``busy`` in turn, ``closing`` when told to end,
``killed`` when made to, ``gone`` when no process of its tree is left. It decides neither what is claimed nor what a death means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from videolift.pool.decisions.policy import Task
from videolift.pool.interface import Device
from videolift.pool.workers.messages import DoItem, EndWorker, WorkerMessage, encode

WorkerState = Literal["loading", "idle", "busy", "closing", "killed", "gone"]
_SILENT_S = 2.0
"""Between the end of a worker's stream and the end of its process; longer, and user code has closed our socket."""


@dataclass(frozen=True)
class Timing:
    """Delays in seconds that no user needs to set; tests shorten them.

    Attributes:
        sample: between two looks at memory.
        progress: a worker sends progress at most this often.
        close: a worker that was told to end gets this long.
        kill: after SIGKILL a process that lives on is given up (blocked in the kernel).
        hiccup: deaths within this time count as one event.
        tick: the supervisor looks around at least this often.
        settle: a card's memory must be free this long after a worker's end.
    """

    sample: float = 0.5
    progress: float = 0.25
    close: float = 10.0
    kill: float = 10.0
    hiccup: float = 0.5
    tick: float = 0.25
    settle: float = 5.0


class ControlledProcess(Protocol):
    """A worker's process, real (`WorkerProcess`) or simulated; see there."""

    start_time: float

    @property
    def pid(self) -> int: ...  # noqa: D102

    @property
    def pids(self) -> list[int]: ...  # noqa: D102

    @property
    def exit_status(self) -> int | None: ...  # noqa: D102

    @property
    def fault(self) -> str: ...  # noqa: D102

    @property
    def is_open(self) -> bool: ...  # noqa: D102

    def refresh(self) -> None: ...  # noqa: D102

    def send(self, frame: bytes) -> None: ...  # noqa: D102

    def receive(self) -> list[WorkerMessage]: ...  # noqa: D102

    def has_ended(self) -> bool: ...  # noqa: D102

    def kill(self) -> None: ...  # noqa: D102

    def reap(self) -> str: ...  # noqa: D102

    def leftovers(self) -> list[int]: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102

    def begin_tail(self) -> None: ...  # noqa: D102

    def tail(self) -> str: ...  # noqa: D102

    def bound_log(self) -> None: ...  # noqa: D102


class WorkerHandle:
    """See the module.

    Attributes:
        serial: its number in this run, from 1.
        since, last_sign: when its state began, and when it last spoke (monotonic seconds).
        task, claim: what it works on, and the number of that claim; None and 0 without.
        hung: why it was killed for being late, else empty.
        faulty: why it was ended for what it sent or failed to send, else empty.
        stray: why it was ended for an answer that fitted no claim of its own, else empty.
        taken_back: we ended it for a reason that has nothing to do with its item.
    """

    def __init__(self, serial: int, device: Device, process: ControlledProcess, timing: Timing, now: Callable[[], float]) -> None:
        self.serial, self.device, self.process = serial, device, process
        self._timing, self._now = timing, now
        self.state: WorkerState = "loading"
        self.since = self.last_sign = self.spawned = now()
        self.task: Task | None = None
        self.claim = 0
        self.shrinks: tuple[float, ...] = (1.0,)
        self.items_done = 0
        self.busy_since = 0.0
        self.first_rest_bytes: int | None = None
        self.alone = False
        self.progress = 0.0
        self.peak_bytes: int | None = None
        self.hung = ""
        self.faulty = ""
        self.stray = ""
        self.taken_back = False
        self._silent_since: float | None = None

    @property
    def living(self) -> bool:
        """Loading, idle or busy: it counts as a worker of its device."""
        return self.state in ("loading", "idle", "busy")

    @property
    def key(self) -> str | None:
        """Of the claimed item."""
        return None if self.task is None else self.task.item.key

    @property
    def busy_seconds(self) -> float:
        """Since the last item was given."""
        return self._now() - self.busy_since

    @property
    def shrink(self) -> float:
        """The share that the claimed task runs with."""
        level = self.task.level if self.task is not None else 0
        return self.shrinks[min(level, len(self.shrinks) - 1)]

    def enter(self, state: WorkerState) -> None:
        """Changes state and starts its clock."""
        self.state = state
        self.since = self.last_sign = self._now()

    def frame(self, task: Task, claim: int) -> bytes:
        """The message that gives ``task`` to this worker; raises what pickling its payload raises."""
        return encode(DoItem(task.item, self.shrinks[min(task.level, len(self.shrinks) - 1)], claim))

    def give(self, task: Task, claim: int, frame: bytes, *, alone: bool) -> None:
        """Sends the claimed ``task``."""
        self.task, self.claim, self.alone, self.peak_bytes, self.progress = task, claim, alone, None, 0.0
        self.process.begin_tail()
        self.enter("busy")
        self.busy_since = self.since
        self.process.send(frame)

    def take_task(self) -> Task | None:
        """The claimed task, which is then no longer this worker's."""
        task, self.task, self.claim = self.task, None, 0
        return task

    def tell_to_end(self) -> None:
        """Tells an idle worker to end."""
        self.process.send(encode(EndWorker()))
        self.enter("closing")

    def kill(self) -> None:
        """SIGKILL to the worker's whole tree."""
        if self.state not in ("killed", "gone"):
            self.enter("killed")
        self.process.kill()

    def overdue(self, load_timeout_s: float, item_timeout_s: float) -> str | None:
        """Why the worker must be killed, None while it is in time."""
        now = self._now()
        if self.state == "loading" and now - self.since > load_timeout_s:
            return f"did not finish loading within {load_timeout_s:g} s (pool.load_timeout_s)"
        if self.state == "busy" and now - self.last_sign > item_timeout_s:
            return f"gave no sign of progress for {item_timeout_s:g} s (pool.item_timeout_s)"
        if self.state == "closing" and now - self.since > self._timing.close:
            return f"did not end within {self._timing.close:g} s"
        return None

    def speech_fault(self) -> str | None:
        """Why the worker can be believed no longer: it sent no message of ours, or closed its socket and lives on."""
        if self.process.fault:
            return self.process.fault
        if self.process.is_open or not self.living:
            return None
        # At a normal end the stream closes a moment before the process is seen to end.
        if self._silent_since is None:
            self._silent_since = self._now()
        return "closed its socket to the supervisor" if self._now() - self._silent_since > _SILENT_S else None

    def deadline(self, load_timeout_s: float, item_timeout_s: float) -> float:
        """When `overdue` may next say something, monotonic seconds."""
        if self.state == "loading":
            return self.since + load_timeout_s
        if self.state == "busy":
            return self.last_sign + item_timeout_s
        return self.since + self._timing.close if self.state == "closing" else float("inf")

    def forget(self) -> None:
        """Closes what the supervisor holds of a worker that is gone."""
        self.process.close()
        self.enter("gone")
