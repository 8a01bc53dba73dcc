"""The child process: builds the user's `Worker`, loads it, does one item at a time, and dies with its supervisor.

Started as ``python -c`` with a socket, never by fork, and never by running the user's script again (unless the factory lives in
it). Signals meant for the run are ignored here: the supervisor alone decides how much time an item gets. Nothing here decides what
a failure means, and no exception or array is ever sent, only messages of `videolift.pool.workers.messages`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing.spawn
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from videolift.pool.interface import Worker
from videolift.pool.workers.faults import describe
from videolift.pool.workers.messages import (
    AttemptFailed,
    DoItem,
    EndWorker,
    ItemDone,
    ItemProgress,
    StartWorker,
    WorkerMessage,
    WorkerReady,
    encode,
    receive_blocking,
)

IN_WORKER = "VIDEOLIFT_POOL_WORKER"
"""Environment variable that marks a worker and all it starts; after the last ``/`` its value is unique per worker."""

importing_the_users_script = False
"""True in a worker while it runs the user's script again; `run_pool`, reached without a ``__main__`` guard, then refuses."""

_PR_SET_PDEATHSIG = 1
_PREFERRED_BY_THE_OOM_KILLER = "500"
_MAX_PROGRESS = 1 << 53
"""Up to here every whole number is a float too, so that the supervisor can divide."""


def worker_main() -> None:
    """Entry of the child: ``argv`` is the socket's descriptor and the supervisor's pid."""
    descriptor, supervisor = int(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have died before the kernel was told to kill us with it.
    if os.getppid() != supervisor:
        os._exit(1)
    # A segfault then leaves its Python stack in the log, which goes into the outcome.
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # What user code starts must not keep the socket open after our end.
    os.set_inheritable(descriptor, False)
    # When the machine runs out of memory, a worker goes rather than the supervisor, which knows what to do about it.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_PREFERRED_BY_THE_OOM_KILLER)
    try:
        with socket.socket(fileno=descriptor) as connection:
            serve(connection)
    except OSError:  # user code has closed our socket: nothing more can be said, and its other threads must not keep us
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def serve(connection: socket.socket) -> None:
    """Answers messages until `EndWorker` or until the supervisor is gone."""
    global importing_the_users_script
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                commands.put(receive_blocking(connection))
        # The supervisor is gone. Everything that has stayed in our group goes as well; the reaper finds the rest.
        except (EOFError, OSError):
            os.killpg(os.getpgid(0), signal.SIGKILL)

    # A thread reads: the main thread belongs to user code, which may not come back for hours, and the end of the supervisor must
    # be noticed in the middle of an item.
    threading.Thread(target=listen, daemon=True, name="pool-commands").start()
    start: StartWorker = commands.get()
    outbox = _Outbox(connection, start.progress_every_s)
    try:
        importing_the_users_script = True
        multiprocessing.spawn.prepare(start.preparation)
        importing_the_users_script = False
        # Unpickled after `prepare`, which makes the user's modules importable.
        worker: Worker = pickle.loads(start.factory)()
        worker.load(start.device)
        ready = WorkerReady(tuple(float(s) for s in worker.shrinks), peak_rss_bytes())
    except BaseException as error:  # noqa: BLE001  the border to user code: whatever it raises is reported
        outbox.send(describe(error))
        return
    outbox.send(ready)
    while isinstance(command := commands.get(), DoItem):
        outbox.claim = command.claim
        outbox.send(_attempt(worker, command, outbox))
    assert isinstance(command, EndWorker)
    worker.close()


class _Outbox:
    """Sends messages; progress at most every ``progress_every_s``, and from any thread of the user's."""

    def __init__(self, connection: socket.socket, progress_every_s: float) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._every_s = progress_every_s
        self._last = float("-inf")
        self._pid = os.getpid()
        self.claim = 0

    def send(self, message: WorkerMessage) -> None:
        # A fork inside user code comes back here as well, with a copy of the item and of the socket. It is not a worker.
        if os.getpid() != self._pid:
            os._exit(1)
        frame = encode(message)
        with self._lock:
            self._connection.sendall(frame)

    def progress(self, done: int, total: int) -> None:
        """Handed to user code.

        Raises:
            ValueError: a number beyond 2**53, or none.
        """
        steps, of = int(done), int(total)
        if max(abs(steps), abs(of)) > _MAX_PROGRESS:
            raise ValueError("progress(done, total) takes numbers up to 2**53: count in larger steps")
        now = time.monotonic()
        if now - self._last >= self._every_s and os.getpid() == self._pid:
            self._last = now
            self.send(ItemProgress(self.claim, steps, of))


def _attempt(worker: Worker, work: DoItem, outbox: _Outbox) -> ItemDone | AttemptFailed:
    # A new high-water mark of resident memory (Linux; elsewhere the peak is that of the process's life).
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    key = work.item.key
    try:
        value = pickle.dumps(worker.process(work.item, shrink=work.shrink, progress=outbox.progress), protocol=5)
        pickle.loads(value)  # a value that kills its reader must kill this process, not the supervisor
        done = ItemDone(key, work.claim, value, peak_rss_bytes(), rest_rss_bytes())
        encode(done)
    except BaseException as error:  # noqa: BLE001  the border to user code, sys.exit and an unpicklable result included
        return replace(describe(error, key=key, claim=work.claim), peak_rss_bytes=peak_rss_bytes())
    return done


def peak_rss_bytes() -> int | None:
    """High-water mark of this process's resident memory since the last reset, None where the kernel does not say."""
    return _status("VmHWM:")


def rest_rss_bytes() -> int | None:
    """Resident memory of this process now, None where the kernel does not say."""
    return _status("VmRSS:")


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
