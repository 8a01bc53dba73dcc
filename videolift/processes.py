"""Processes as files can name them: a host, a boot, a pid, and the start time that tells a process from a later one of that pid.

Turns such a name into alive, dead, or cannot be known from here. Starts and ends nothing.
"""

from __future__ import annotations

import os
import socket
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
        same = abs(process.create_time() - start_time) < _SAME_START_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
