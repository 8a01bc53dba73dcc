"""Whether the pool is to stop before everything has an outcome, why, and how long running items may still take.

A signal, storage that fails, or no device that works ask for it; the first reason stays, except that a signal overrides. Nothing is
stopped here.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace
from typing import Literal

from videolift.pool.events import EventSink
from videolift.pool.signals import StopRequests

Why = Literal["signal", "transient", "backend"]


@dataclass(frozen=True)
class Stop:
    """Why the pool stops; running items may go on until ``deadline`` (monotonic seconds)."""

    why: Why
    text: str
    deadline: float
    signal: int | None = None


class Halt:
    """The pool's one answer to "do we stop?": `stop`, None while everything goes on."""

    def __init__(self, signals: StopRequests, events: EventSink, grace_s: float) -> None:
        self._signals, self._events, self._grace_s = signals, events, grace_s
        self.stop: Stop | None = None

    def begin(self, why: Why, text: str, *, at_once: bool = False, number: int | None = None) -> None:
        """Asks for a stop; only a signal changes the reason of one that is under way."""
        if self.stop is not None and (why != "signal" or self.stop.why == "signal"):
            return
        grace_s = 0.0 if at_once else self._grace_s
        self.stop = Stop(why, text, time.monotonic() + grace_s, number)
        self._events.emit("stopping", why=why, text=text, grace_s=grace_s)

    def obey_signals(self, now: float) -> None:
        """The first signal begins a stop, the second ends its grace."""
        received = self._signals.received
        if not received:
            return
        self.begin("signal", f"stopped by {signal.Signals(received[0]).name}", number=received[0])
        if len(received) > 1 and self.stop is not None and self.stop.deadline > now:
            self.stop = replace(self.stop, deadline=now)
            self._events.emit("stopping", why="signal", text="second signal: everything ends now", grace_s=0.0)

    def is_due(self, now: float) -> bool:
        """The grace is over."""
        return self.stop is not None and now >= self.stop.deadline
