"""The outside world of a pool as one object: time, processes to start, and something to wait on.

`LocalMachine` is the real one; the simulator of the tests brings another, and everything above it is the same code.
"""

from __future__ import annotations

import os
import secrets
import selectors
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from videolift.pool.interface import Device
from videolift.pool.stopping import StopRequests
from videolift.pool.workers.handle import ControlledProcess
from videolift.pool.workers.messages import StartWorker
from videolift.pool.workers.worker_process import WorkerProcess

_PAUSE_S = 1.0
"""The supervisor looks at the clock more often than that; a longer gap is a suspended SLURM job or a frozen container."""


class RunningClock:
    """Monotonic seconds for which the supervisor ran: time in which it was suspended, workers and all, counts for nobody."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looked = monotonic()
        self._paused_s = 0.0

    def now(self, *, waited_s: float = 0.0) -> float:
        """The time; ``waited_s``, asked right after a wait, is how long that could last at most."""
        time_s = self._monotonic()
        paused_s = time_s - self._looked - max(0.0, waited_s)
        if paused_s > _PAUSE_S:
            self._paused_s += paused_s
        self._looked = time_s
        return time_s - self._paused_s


class PoolMachine(Protocol):
    """What a pool needs of the world besides the figures of a `Gauge`."""

    def now(self) -> float:
        """Monotonic seconds, less those for which the pool was suspended."""

    def cpu_seconds(self) -> float:
        """CPU time of the calling thread so far."""

    def start_worker(self, serial: int, device: Device) -> ControlledProcess:
        """Starts a worker on ``device`` and watches it.

        Raises:
            OSError: no process can be started.
        """

    def wait(self, seconds: float) -> None:
        """Returns when a worker speaks or ends, a signal arrives, or the time is over."""

    def forget(self, serial: int) -> None:
        """The worker's end is dealt with: it is watched no longer."""


class LocalMachine:
    """This machine; a context manager.

    Args:
        factory, preparation: from `pickled_factory`.
        environment: set for workers besides device mask and thread counts.
        log_folder: where the workers' output goes.
        progress_every_s: workers send progress at most this often.
        signals: what wakes us besides workers.
    """

    def __init__(
        self,
        factory: bytes,
        preparation: dict[str, Any],
        environment: Mapping[str, str],
        log_folder: Path,
        progress_every_s: float,
        signals: StopRequests,
    ) -> None:
        self._factory, self._preparation, self._environment = factory, preparation, environment
        self._log_folder, self._progress_every_s, self._signals = log_folder, progress_every_s, signals
        self.mark = secrets.token_hex(8)
        self._clock = RunningClock()
        self._workers: dict[int, WorkerProcess] = {}
        self._channels: dict[int, int] = {}
        self._pidfds: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.wakeup, selectors.EVENT_READ, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for serial in list(self._workers):
            self.forget(serial)
        self._selector.close()

    def now(self) -> float:
        """See `PoolMachine.now`."""
        return self._clock.now()

    def cpu_seconds(self) -> float:
        """See `PoolMachine.cpu_seconds`."""
        return time.thread_time()

    def start_worker(self, serial: int, device: Device) -> WorkerProcess:
        """See `PoolMachine.start_worker`."""
        start = StartWorker(self._factory, self._preparation, device, self._progress_every_s)
        log_path = self._log_folder / f"worker-{serial:04d}.log"
        worker = WorkerProcess(start, self._environment, f"{self.mark}-{serial}", log_path)
        self._workers[serial] = worker
        self._channels[serial] = worker.channel.fileno()
        self._selector.register(worker.channel.fileno(), selectors.EVENT_READ, worker)
        # Wakes the selector at the worker's end. The end of its stream does not: what it has started may hold the socket.
        if hasattr(os, "pidfd_open"):
            self._pidfds[serial] = os.pidfd_open(worker.pid)
            self._selector.register(self._pidfds[serial], selectors.EVENT_READ, worker)
        return worker

    def wait(self, seconds: float) -> None:
        """See `PoolMachine.wait`; sends on what workers could not take yet."""
        for serial, descriptor in list(self._channels.items()):
            channel = self._workers[serial].channel
            if not channel.open:  # it has nothing more to say, and the end of a stream would wake us for ever
                self._selector.unregister(self._channels.pop(serial))
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.wants_to_write else 0)
            if self._selector.get_key(descriptor).events != wanted:
                self._selector.modify(descriptor, wanted, self._workers[serial])
        # Nothing is read here: `inbox.hear` looks at every worker after each wait, so no order of events matters.
        events = self._selector.select(max(0.0, seconds))
        self._clock.now(waited_s=seconds)
        for key, mask in events:
            if key.data is None:
                self._signals.drain()
            elif mask & selectors.EVENT_WRITE:
                key.data.channel.flush()

    def forget(self, serial: int) -> None:
        """See `PoolMachine.forget`."""
        descriptor, pidfd = self._channels.pop(serial, None), self._pidfds.pop(serial, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)
        self._workers.pop(serial, None)
