"""One worker as its supervisor sees it: a process, a channel, a log file, a claimed task, deadlines, and its end.

States go one way: ``loading`` until it says that it is ready, ``idle`` and ``busy`` in turn, ``closing`` when told to end,
``killed`` when made to, ``gone`` when no process of its tree is left. It decides neither what is claimed nor what a death means.
"""

from __future__ import annotations

import pickle
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videolift.pool import process
from videolift.pool.channel import Channel, encode
from videolift.pool.messages import Close, Start, Work
from videolift.pool.process import Identity
from videolift.pool.queue import Task
from videolift.pool.types import Device, Worker

State = Literal["loading", "idle", "busy", "closing", "killed", "gone"]
_LOG_LIMIT_BYTES = 32 << 20
_TAIL_BYTES, _TAIL_LINES = 16 << 10, 40


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


def pickled_factory(factory: Callable[[], Worker]) -> tuple[bytes, dict[str, Any]]:
    """The factory as bytes, and what a child needs to find it.

    Raises:
        TypeError: the factory cannot be pickled: a lambda, a nested function, or an object that holds one.
    """
    try:
        body = pickle.dumps(factory, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"the worker factory {factory!r} cannot be sent to a new process ({error}): use a function or class at the top of "
            "a module, or functools.partial of one"
        ) from error
    return body, process.preparation(needs_main=b"__main__" in body)


class WorkerHandle:
    """See the module. Created by starting the process; must run on the thread that outlives the worker."""

    def __init__(
        self,
        serial: int,
        device: Device,
        *,
        factory: bytes,
        preparation: dict[str, Any],
        environment: Mapping[str, str],
        folder: Path,
        timing: Timing,
    ) -> None:
        self.serial, self.device, self._timing = serial, device, timing
        self._nonce = secrets.token_hex(8)
        self.log_path = folder / f"worker-{serial:04d}.log"
        with self.log_path.open("ab") as log:
            self.popen, ours = process.start(process.environment_for(device, environment, self._nonce), log)
        self.channel = Channel(ours)
        self.channel.send(encode(Start(factory, preparation, device, timing.progress)))
        self.members: set[Identity] = set(process.descendants(self.popen))
        self.start_time = process.start_time(self.popen)
        self.state: State = "loading"
        self.since = self.last_sign = self.spawned = time.monotonic()
        self.task: Task | None = None
        self.shrinks: tuple[float, ...] = (1.0,)
        self.items_done = 0
        self.busy_since = 0.0
        self.first_rest_bytes: int | None = None
        self.alone = False
        self.progress = 0.0
        self.peak_bytes: int | None = None
        self.hung = ""
        self.taken_back = False
        self._log_offset, self._tail_before = 0, ""

    @property
    def pid(self) -> int:
        """The worker's own process."""
        return self.popen.pid

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
        return time.monotonic() - self.busy_since

    @property
    def shrink(self) -> float:
        """The share that the claimed task runs with."""
        level = self.task.level if self.task is not None else 0
        return self.shrinks[min(level, len(self.shrinks) - 1)]

    def enter(self, state: State) -> None:
        """Changes state and starts its clock."""
        self.state = state
        self.since = self.last_sign = time.monotonic()

    def frame(self, task: Task) -> bytes:
        """The message that gives ``task`` to this worker; raises what pickling its payload raises."""
        return encode(Work(task.item, self.shrinks[min(task.level, len(self.shrinks) - 1)]))

    def give(self, task: Task, frame: bytes, *, alone: bool) -> None:
        """Sends the claimed ``task``."""
        self.task, self.alone, self.peak_bytes, self.progress = task, alone, None, 0.0
        self._log_offset, self._tail_before = self.log_path.stat().st_size, ""
        self.enter("busy")
        self.busy_since = self.since
        self.channel.send(frame)

    def take_task(self) -> Task | None:
        """The claimed task, which is then no longer this worker's."""
        task, self.task = self.task, None
        return task

    def close(self) -> None:
        """Tells an idle worker to end."""
        self.channel.send(encode(Close()))
        self.enter("closing")

    def kill(self) -> None:
        """SIGKILL to the worker's whole tree, as far as it is known; `is_gone` goes on with it."""
        if self.state not in ("killed", "gone"):
            self.members.update(process.descendants(self.popen))
            self.enter("killed")
        process.kill_group(self.popen)
        for who in self.members:
            if who.pid != self.pid:
                process.kill(who)

    def refresh_members(self) -> None:
        """Takes note of what the worker has started since the last look; what outlives its parent is kept."""
        self.members = set(process.still_alive(self.members)) | set(process.descendants(self.popen))

    def overdue(self, load_timeout_s: float, item_timeout_s: float, now: float) -> str | None:
        """Why the worker must be killed, None while it is in time."""
        if self.state == "loading" and now - self.since > load_timeout_s:
            return f"did not finish loading within {load_timeout_s:g} s (pool.load_timeout_s)"
        if self.state == "busy" and now - self.last_sign > item_timeout_s:
            return f"gave no sign of progress for {item_timeout_s:g} s (pool.item_timeout_s)"
        if self.state == "closing" and now - self.since > self._timing.close:
            return f"did not end within {self._timing.close:g} s"
        return None

    def deadline(self, load_timeout_s: float, item_timeout_s: float) -> float:
        """When `overdue` may next say something, monotonic seconds."""
        if self.state == "loading":
            return self.since + load_timeout_s
        if self.state == "busy":
            return self.last_sign + item_timeout_s
        return self.since + self._timing.close if self.state == "closing" else float("inf")

    def has_ended(self) -> bool:
        """The worker's own process is over (what it started may live on)."""
        return process.has_ended(self.popen)

    def reap(self) -> str:
        """After `has_ended`: ends what is left of the tree, and says how the worker ended."""
        self.members.update(process.marked(self._nonce))
        self.kill()
        self.popen.wait()
        return process.exit_text(self.popen.returncode)

    def leftovers(self) -> list[Identity]:
        """Processes of the tree that still run, and the worker until it is reaped; killed again each time they are asked for."""
        left = [who for who in self.members if who.pid == self.pid and self.popen.returncode is None]
        left += [who for who in process.still_alive(self.members) if who.pid != self.pid]
        for who in left:
            process.kill(who)
        return left

    def forget(self) -> None:
        """Closes what the supervisor holds of a worker that is gone."""
        self.channel.close()
        self.enter("gone")

    def tail(self) -> str:
        """The last lines that the worker printed since its item began."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, 2)
                log.seek(max(min(self._log_offset, end), end - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([*self._tail_before.splitlines(), *text.splitlines()][-_TAIL_LINES:])

    def bound_log(self) -> None:
        """Empties a log that grows without end, but for its last lines; the worker goes on writing at its new end."""
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT_BYTES:
            self._tail_before = self.tail()
            with self.log_path.open("r+b") as log:
                log.truncate(0)
            self._log_offset = 0
