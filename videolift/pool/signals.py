"""Requests to stop, as a pool sees them: counted, never raised in the middle of something.

SIGINT and SIGTERM ask for a stop, as do SIGUSR1 (``sbatch --signal=USR1@120``) and SIGHUP (the terminal is gone); a second one asks
for an end at once. Those that are ignored on entry stay ignored (nohup). SIGCONT, which SLURM sends before SIGTERM, has no
effect on a running process and is left alone. This module does not decide what stopping means.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequests:
    """Collects the signals that arrive inside the ``with`` block; previous handlers are restored after it.

    `wakeup` is readable after a signal, so that a selector which waits on it wakes at once.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._previous_wakeup = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run_pool must be called on the main thread: its workers die with the thread that started them")
        self.wakeup, self._write = socket.socketpair()
        self.wakeup.setblocking(False)
        self._write.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_wakeup)
        self.wakeup.close()
        self._write.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    def drain(self) -> None:
        """Empties `wakeup`."""
        try:
            while self.wakeup.recv(4096):
                pass
        except BlockingIOError:
            return
