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
_START_TIME_TOLERANCE_S = 0.05


@dataclass(frozen=True)
class Identity:
    """A process that is the same one as before: its pid and when it began (seconds since the epoch)."""

    pid: int
    start_time: float


def identity(process: psutil.Process) -> Identity:
    """Names ``process`` for good."""
    return Identity(process.pid, process.create_time())


def alive(who: Identity) -> bool:
    """True while the process itself runs; a zombie holds no memory and counts as gone."""
    try:
        process = psutil.Process(who.pid)
        same = abs(process.create_time() - who.start_time) < _START_TIME_TOLERANCE_S
        return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


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
