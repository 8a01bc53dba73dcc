"""Whether the pool is to stop before everything has an outcome, why, and how long running items may still take.

SIGINT and SIGTERM ask for a stop, as do SIGUSR1 (``sbatch --signal=USR1@120``) and SIGHUP (the terminal is gone); a second one asks
for an end at once. Those that are ignored on entry stay ignored (nohup). SIGCONT, which SLURM sends before SIGTERM, has no
effect on a running process and is left alone. Storage that fails and the lack of any device that works ask for a stop as well.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from videolift.pool.events import EventSink

StopReason = Literal["signal", "transient", "backend"]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


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
        # Python runs handlers between two bytecodes only: without this a signal would wait for the selector's timeout.
        self._previous_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            # nohup and shells' background jobs ignore some of them on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, lambda received, frame: self.received.append(received))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_wakeup)
        self.wakeup.close()
        self._write.close()

    def drain(self) -> None:
        """Empties `wakeup`."""
        try:
            while self.wakeup.recv(4096):
                pass
        except BlockingIOError:
            return


@dataclass(frozen=True)
class Stop:
    """Why the pool stops; running items may go on until ``deadline`` (monotonic seconds)."""

    why: StopReason
    text: str
    deadline: float
    signal: int | None = None


class StopState:
    """The pool's one answer to "do we stop?": `stop`, None while everything goes on.

    The first reason stays, except that a signal overrides it.
    """

    def __init__(self, signals: StopRequests, events: EventSink, grace_s: float, now: Callable[[], float]) -> None:
        self._signals, self._events, self._grace_s, self._now = signals, events, grace_s, now
        self.stop: Stop | None = None

    def request(self, why: StopReason, text: str, *, at_once: bool = False, number: int | None = None) -> None:
        """Asks for a stop; only a signal changes the reason of one that is under way."""
        # The first reason is the one that people must read, unless they have pressed Ctrl-C themselves.
        if self.stop is not None and (why != "signal" or self.stop.why == "signal"):
            return
        grace_s = 0.0 if at_once else self._grace_s
        self.stop = Stop(why, text, self._now() + grace_s, number)
        self._events.emit("stopping", why=why, text=text, grace_s=grace_s)

    def obey_signals(self) -> None:
        """The first signal begins a stop, the second ends its grace."""
        received, now = self._signals.received, self._now()
        if not received:
            return
        self.request("signal", f"stopped by {signal.Signals(received[0]).name}", number=received[0])
        if len(received) > 1 and self.stop is not None and self.stop.deadline > now:
            self.stop = replace(self.stop, deadline=now)
            self._events.emit("stopping", why="signal", text="second signal: everything ends now", grace_s=0.0)

    @property
    def is_due(self) -> bool:
        """The grace is over."""
        return self.stop is not None and self._now() >= self.stop.deadline
