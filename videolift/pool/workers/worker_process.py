"""A worker's process: started with its environment set, spoken to over a socket, killed with everything it started.

A worker leads its own session, and everything it starts inherits an environment variable with a value of its own, so that even a
child which left the group, or outlived its parent, is found and killed. This module knows no items and decides nothing.
"""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from videolift.pool.interface import Device, Worker
from videolift.pool.workers.child import IN_WORKER
from videolift.pool.workers.messages import Channel, StartWorker, WorkerMessage, encode
from videolift.processes import cleans_up_alone, exit_text, kill_all, log_tail, marked_processes, still_runs, tree_of

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop()); "
    "from videolift.pool.workers.child import worker_main; worker_main()"
)
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "BLOSC_NTHREADS",
)
_LOG_LIMIT_BYTES = 32 << 20
_CLEAN_UP_S = 2.0
"""For Python's remover of shared memory, once its worker has been killed."""


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
    data: dict[str, Any] = multiprocessing.spawn.get_preparation_data("pool worker")
    # It cannot be pickled outside of multiprocessing's own spawning, and no worker needs it.
    data.pop("authkey", None)
    data["start_method"] = "spawn"
    # The user's script is run again only where the factory lives in it: it may take minutes, or start pools of its own.
    if b"__main__" not in body:
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return body, data


def environment_for(device: Device, extra: Mapping[str, str], mark: str) -> dict[str, str]:
    """The child's whole environment: card mask and thread counts must be there before its interpreter starts."""
    values = dict(os.environ) | dict.fromkeys(_THREAD_VARIABLES, str(device.threads))
    values["CUDA_VISIBLE_DEVICES"] = device.id if device.kind == "cuda" else ""
    values["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    values.setdefault("PYTHONUNBUFFERED", "1")
    outer = os.environ.get(IN_WORKER)  # a pool inside a worker: whoever ends the outer one must find the inner one's workers
    return values | dict(extra) | {IN_WORKER: f"{outer}/{mark}" if outer else mark}


class WorkerProcess:
    """See the module. Created by starting the process; must run on the thread that outlives the worker.

    Args:
        start: its first message.
        environment: variables besides those that every worker gets.
        mark: unique; names the worker in the environment of all that it starts.
        log_path: receives what it prints, both streams; a file never blocks it.
    """

    def __init__(self, start: StartWorker, environment: Mapping[str, str], mark: str, log_path: Path) -> None:
        self._mark, self.log_path = mark, log_path
        ours, theirs = socket.socketpair()
        optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        command = [sys.executable, *optimised, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)]
        with theirs, log_path.open("ab") as log:
            try:
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment_for(start.device, environment, mark),
                    # An inherited descriptor and no name: nothing that others could connect to, nothing to clean up.
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C goes to the terminal's group: only the supervisor is to hear it. And its group can be killed as one.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(ours)
        self.channel.send(encode(start))
        self._members: set[psutil.Process] = set(tree_of(self.pid))
        self.start_time = float(psutil.Process(self.pid).create_time())
        self._log_offset, self._tail_before = 0, ""
        self._killed_at: float | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """As of ``Popen.returncode``; None until it is reaped."""
        return self._popen.returncode

    @property
    def pids(self) -> list[int]:
        """Of the worker and what it has started, as of the last `refresh`."""
        return [process.pid for process in self._members]

    def refresh(self) -> None:
        """Takes note of what the worker has started since the last look; what outlives its parent is kept."""
        if self._killed_at is not None:  # the driver may still list memory of those that have ended
            return
        self._members = {process for process in self._members if still_runs(process)} | set(tree_of(self.pid))

    @property
    def fault(self) -> str:
        """Why what it sent can be no message of a worker; empty while all is well."""
        return self.channel.fault

    @property
    def is_open(self) -> bool:
        """It may still say something."""
        return self.channel.open

    def send(self, frame: bytes) -> None:
        """Sends what `encode` made, now or as soon as the worker reads."""
        self.channel.send(frame)

    def receive(self) -> list[WorkerMessage]:
        """Every whole message that has arrived."""
        return self.channel.receive()

    def has_ended(self) -> bool:
        """True once its own process is over, without reaping it: until `reap` its pid and group cannot belong to anybody else."""
        if self._popen.returncode is not None:
            return True
        # WNOWAIT leaves the zombie, which keeps the pid from being given to somebody else.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """SIGKILL to the whole tree, as far as it is known; `leftovers` goes on with it."""
        if self._killed_at is None:
            self._killed_at = time.monotonic()
            self._members.update(tree_of(self.pid))
        # Python's own remover of shared memory needs a moment after the worker's end, or the memory stays until a reboot.
        early = time.monotonic() - self._killed_at < _CLEAN_UP_S
        spared = [process for process in self._members if early and still_runs(process) and cleans_up_alone(process)]
        if not spared and self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # all at once, before they can start others
        kill_all(process for process in self._members if process not in spared)

    def reap(self) -> str:
        """After `has_ended`: ends what is left of the tree, and says how the worker ended."""
        self._members.update(marked_processes(IN_WORKER, self._mark))
        self.kill()
        self._popen.wait()
        return exit_text(self._popen.returncode)

    def leftovers(self) -> list[int]:
        """Processes of the tree that still run, and the worker until it is reaped; killed again each time they are asked for."""
        left = [process for process in self._members if process.pid != self.pid and still_runs(process)]
        if left or self._popen.returncode is None:
            self.kill()
        return [process.pid for process in left] + ([self.pid] if self._popen.returncode is None else [])

    def close(self) -> None:
        """Closes our end of the socket; the worker, if it lives, sees the end of the stream and ends."""
        self.channel.close()

    def begin_tail(self) -> None:
        """From here on `tail` begins."""
        self._log_offset, self._tail_before = self.log_path.stat().st_size, ""

    def tail(self) -> str:
        """The last lines that the worker printed since `begin_tail`."""
        try:
            with self.log_path.open("rb") as log:
                text = log_tail(log.fileno(), self._log_offset)
        except FileNotFoundError:
            return ""
        return f"{self._tail_before}\n{text}" if self._tail_before else text

    def bound_log(self) -> None:
        """Empties a log that grows without end, but for its last lines; the worker goes on writing at its new end."""
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT_BYTES:
            self._tail_before = self.tail()
            with self.log_path.open("r+b") as log:
                log.truncate(0)
            self._log_offset = 0
