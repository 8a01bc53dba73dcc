"""What the supervisor waits on: every worker's socket and its end, and the signals. Nothing is read here but the wake-up bytes."""

from __future__ import annotations

import os
import selectors

from videolift.pool.handle import WorkerHandle
from videolift.pool.signals import StopRequests


class Watch:
    """One selector for everything."""

    def __init__(self, signals: StopRequests) -> None:
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals.wakeup, selectors.EVENT_READ, None)
        self._pidfds: dict[int, int] = {}
        self._channels: dict[int, int] = {}

    def add(self, worker: WorkerHandle) -> None:
        """Watches a new worker."""
        self._channels[worker.serial] = worker.channel.fileno()
        self._selector.register(worker.channel.fileno(), selectors.EVENT_READ, worker)
        if hasattr(os, "pidfd_open"):
            self._pidfds[worker.serial] = os.pidfd_open(worker.pid)
            self._selector.register(self._pidfds[worker.serial], selectors.EVENT_READ, worker)

    def drop_channel(self, worker: WorkerHandle) -> None:
        """The worker has nothing more to say."""
        descriptor = self._channels.pop(worker.serial, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)

    def drop(self, worker: WorkerHandle) -> None:
        """The worker has ended."""
        self.drop_channel(worker)
        pidfd = self._pidfds.pop(worker.serial, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)

    def wait(self, seconds: float) -> None:
        """Returns when a worker speaks or ends, a signal arrives, or the time is over; sends on what workers could not take yet."""
        for key, mask in self._selector.select(max(0.0, seconds)):
            if key.data is None:
                self._signals.drain()
            elif mask & selectors.EVENT_WRITE:
                key.data.channel.flush()

    def watch_writing(self, worker: WorkerHandle) -> None:
        """Waits for room in the worker's socket while something is left to send."""
        descriptor = self._channels.get(worker.serial)
        if descriptor is not None:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.wants_to_write else 0)
            if self._selector.get_key(descriptor).events != wanted:
                self._selector.modify(descriptor, wanted, worker)

    def close(self) -> None:
        """Closes what it holds itself."""
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()
        self._selector.close()
