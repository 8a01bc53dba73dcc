"""Processes: whether one still runs, how it ended, what it printed last.

In memory a process is a `psutil.Process`, which tells it from a later one of the same pid by the clock tick it began at. In files
it is a `ProcessName`: a host, a boot, a pid and a start time, so that another run, perhaps on another machine, can ask about it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_SAME_START_S = 2.0
"""Start times are computed from the boot time, which a step of the clock moves a little."""


@dataclass(frozen=True)
class ProcessName:
    """A process, named so that another one can ask whether it still lives.

    Attributes:
        host: the machine's name.
        boot_id: see `this_boot`.
        pid: its number there.
        start_time: seconds since the epoch, as psutil's ``create_time``.
    """

    host: str
    boot_id: str
    pid: int
    start_time: float

    @property
    def is_local(self) -> bool:
        """It runs, or ran, where this process can see whether it lives."""
        return self.boot_id == this_boot()

    @property
    def died_with_its_machine(self) -> bool:
        """This machine has been booted anew since."""
        return self.host == socket.gethostname() and self.boot_id.split("+")[0] != this_boot().split("+")[0]

    def is_alive(self) -> bool | None:
        """None where it cannot be known: the process is of another machine, container or boot."""
        return is_alive(self.pid, self.start_time) if self.is_local else None


@cache
def this_boot() -> str:
    """Names this boot of this machine and, after a ``+``, the container: pids mean something only within both."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # In a container pids begin anew, so the same pid is somebody else's outside of it.
        return f"{boot}+{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return f"{psutil.boot_time():.0f}+0"


def name_process(pid: int, start_time: float) -> ProcessName:
    """The name of a process on this machine."""
    return ProcessName(socket.gethostname(), this_boot(), pid, start_time)


def this_process() -> ProcessName:
    """The name of the calling process."""
    return name_process(os.getpid(), psutil.Process().create_time())


def is_alive(pid: int, start_time: float) -> bool:
    """True if ``pid`` runs on this machine and is the process that started at ``start_time``; a zombie is dead."""
    try:
        process = psutil.Process(pid)
        # Seconds since the epoch, as files have them: exact ticks would mean nothing after a reboot.
        return abs(float(process.create_time()) - start_time) < _SAME_START_S and still_runs(process)
    except psutil.NoSuchProcess:
        return False
    # It runs as another user, so it is alive.
    except psutil.AccessDenied:
        return True


def still_runs(process: psutil.Process) -> bool:
    """True while this very process runs; a zombie holds no memory and counts as ended."""
    try:
        # `is_running` compares start times: the pid alone may be a later process's.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_process(process: psutil.Process) -> None:
    """SIGKILL to exactly this process, never to a later one that has got its pid."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.kill()


def tree_of(pid: int) -> list[psutil.Process]:
    """Process ``pid`` and everything below it, as far as the parents in between still live; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked_processes(variable: str, mark: str) -> list[psutil.Process]:
    """Living processes whose environment has ``mark`` among the parts, divided by ``/``, of ``variable`` (Linux only).

    Children inherit it, so this finds what has left its group or lost its parent.
    """
    found, name = [], f"{variable}=".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, psutil.Error):  # it ended meanwhile, or belongs to somebody else
            entries = (folder / "environ").read_bytes().split(b"\0")
            values = [entry.removeprefix(name).split(b"/") for entry in entries if entry.startswith(name)]
            if any(mark.encode() in parts for parts in values):
                found.append(psutil.Process(int(folder.name)))
    return found


def cleans_up_alone(process: psutil.Process) -> bool:
    """True for the helper with which Python removes shared memory: it ends by itself, once those it works for have ended."""
    try:
        return any("resource_tracker" in part for part in process.cmdline())
    except psutil.Error:
        return False


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each of them."""
    for process in processes:
        kill_process(process)


def exit_text(status: int | None) -> str:
    """What the exit status of a child (``Popen.returncode``) says: a signal's name, or the number."""
    if status is None:
        return "ended, its exit status is unknown"
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"ended with exit code {status}"


_TAIL_BYTES, _TAIL_LINES = 20_000, 40
"""A Python traceback through a model has about 30 lines."""


def log_tail(descriptor: int, start: int = 0) -> str:
    """The last lines of an open log, none from before byte ``start``."""
    # pread leaves alone the file offset, which the writing process may share
    end = os.fstat(descriptor).st_size
    begin = max(min(start, end), end - _TAIL_BYTES)  # a log that was emptied since is shorter than `start`
    text = os.pread(descriptor, end - begin, begin).decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-_TAIL_LINES:])  # bytes limit what we read, lines what a person must
