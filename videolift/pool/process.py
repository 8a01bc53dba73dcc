"""Worker processes as the operating system sees them: started with their environment set, killed with everything they started.

A process is named by (pid, start time), since pids are reused. A worker leads its own session, and everything it starts inherits an
environment variable with a value of its own, so that even a child which left the group, or outlived its parent, is found and
killed. This module knows no items and no messages.
"""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from videolift.pool.types import Device
from videolift.pool.worker import IN_WORKER

_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv.pop()); from videolift.pool.worker import main; main()"
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "BLOSC_NTHREADS",
)


@dataclass(frozen=True)
class Identity:
    """A process that is the same one as before.

    Attributes:
        pid: its number.
        start: when it began, in clock ticks since the machine's boot (Linux: a step of the clock does not change it), else in
            seconds since the epoch.
    """

    pid: int
    start: float


def identity(process: psutil.Process) -> Identity:
    """Names ``process`` for good.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    found = _start_and_state(process.pid)
    return Identity(process.pid, process.create_time() if found is None else found[0])


def alive(who: Identity) -> bool:
    """True while the process itself runs; a zombie holds no memory and counts as gone."""
    try:
        found = _start_and_state(who.pid) or (psutil.Process(who.pid).create_time(), "")
    except psutil.NoSuchProcess:
        return False
    return found[0] == who.start and found[1] not in ("Z", "X")


def _start_and_state(pid: int) -> tuple[float, str] | None:
    """Fields 22 and 3 of /proc/PID/stat, None where there is no such folder."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return float(fields[19]), fields[0]


def kill(who: Identity) -> None:
    """SIGKILL to exactly this process, never to another one that has got its pid."""
    if alive(who):
        try:
            os.kill(who.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def environment_for(device: Device, extra: Mapping[str, str], nonce: str) -> dict[str, str]:
    """The child's whole environment: card mask and thread counts must be there before its interpreter starts."""
    values = dict(os.environ) | dict.fromkeys(_THREAD_VARIABLES, str(device.threads))
    values["CUDA_VISIBLE_DEVICES"] = device.id if device.kind == "cuda" else ""
    values["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    values.setdefault("PYTHONUNBUFFERED", "1")
    return values | dict(extra) | {IN_WORKER: nonce}


def preparation(needs_main: bool) -> dict[str, Any]:
    """Where the child finds the user's modules; the user's script is run again only where the factory lives in it."""
    data: dict[str, Any] = multiprocessing.spawn.get_preparation_data("pool worker")
    data.pop("authkey", None)
    data["start_method"] = "spawn"
    if not needs_main:
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


def start(environment: Mapping[str, str], log: IO[bytes]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a worker; returns it and our end of its socket. Both of its output streams go to ``log``, which never blocks."""
    ours, theirs = socket.socketpair()
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    command = [sys.executable, *optimised, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)]
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return process, ours


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """True once the process has ended, without reaping it: until `reap` its pid and group cannot belong to anybody else."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to an unreaped worker and its process group."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def descendants(process: subprocess.Popen[bytes]) -> list[Identity]:
    """The worker and everything below it, as far as parents still live."""
    try:
        root = psutil.Process(process.pid)
        return [identity(p) for p in (root, *root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def start_time(process: subprocess.Popen[bytes]) -> float:
    """When an unreaped process began, seconds since the epoch."""
    return float(psutil.Process(process.pid).create_time())


def marked(nonce: str) -> list[Identity]:
    """Every living process that carries the worker's mark, wherever it hangs in the process tree (Linux only)."""
    needle = f"{IN_WORKER}={nonce}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes():
                found.append(identity(psutil.Process(int(folder.name))))
        except (OSError, psutil.Error):
            continue
    return found


def still_alive(members: Iterable[Identity]) -> list[Identity]:
    """Those that run."""
    return [who for who in members if alive(who)]


def exit_text(returncode: int) -> str:
    """What an exit code says: the signal's name, or the number; 0 is a death too when the worker was not told to end."""
    if returncode < 0:
        try:
            return f"killed by {signal.Signals(-returncode).name}"
        except ValueError:
            return f"killed by signal {-returncode}"
    return f"ended with exit code {returncode}"
