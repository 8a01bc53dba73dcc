"""Timing: decoded frames with doubtful timestamps become frames in order of time, then the few that a lower frame rate keeps.

Decoders give frames in the order of presentation even where their timestamps are wrong, so `in_order` keeps the order of frames
and sorts the timestamps. `nearest` picks per output time the frame nearest to it. Frames are opaque here.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

F = TypeVar("F")

WINDOW = 6
"""Frames over which timestamps are sorted: AVI stores them in coding order, at most 4 frames off with ordinary B-pyramids."""


@dataclass(frozen=True)
class Timed(Generic[F]):
    """A frame and when it is shown, in seconds of the source's own clock; None where the container does not say."""

    seconds: float | None
    frame: F


@dataclass
class Cadence:
    """What was seen of a source's timestamps while frames passed through `in_order`.

    Attributes:
        frame_s: the header's frame duration in seconds, for frames without a timestamp.
        tick_s: smallest step of the container's clock.
        seconds: timestamps passed on, increasing.
        guessed: frames whose timestamp was missing and was set to the previous one plus ``frame_s``.
        moved: frames whose timestamp was exchanged with a neighbour's.
        dropped: frames dropped because their timestamp was not after the one before.
    """

    frame_s: float
    tick_s: float
    seconds: array[float] = field(default_factory=lambda: array("d"))
    guessed: int = 0
    moved: int = 0
    dropped: int = 0

    @property
    def fps(self) -> float:
        """Frames per second as measured, (n - 1) / (last - first); 0 with fewer than two frames."""
        n = len(self.seconds)
        return (n - 1) / (self.seconds[-1] - self.seconds[0]) if n > 1 else 0.0

    @property
    def variable(self) -> bool:
        """True if more than 1 % of the intervals differ from the median by more than a quarter of it and two ticks."""
        gaps = np.diff(np.frombuffer(self.seconds)) if len(self.seconds) > 2 else np.zeros(0)
        if not gaps.size:
            return False
        median = float(np.median(gaps))
        return float(np.mean(np.abs(gaps - median) > max(0.25 * median, 2 * self.tick_s))) > 0.01

    @property
    def longest_gap_s(self) -> float:
        """Longest time one frame was shown."""
        return float(np.diff(np.frombuffer(self.seconds)).max()) if len(self.seconds) > 1 else 0.0


def in_order(frames: Iterable[Timed[F]], cadence: Cadence) -> Iterator[tuple[float, F]]:
    """Frames with strictly increasing seconds; what had to be done to them is counted in ``cadence``."""
    waiting: deque[tuple[float, F]] = deque()
    times: list[float] = []
    guess = 0.0
    for timed in frames:
        cadence.guessed += timed.seconds is None
        seconds = guess if timed.seconds is None else timed.seconds
        guess = seconds + cadence.frame_s
        waiting.append((seconds, timed.frame))
        heapq.heappush(times, seconds)
        if len(waiting) > WINDOW:
            yield from _release(waiting, times, cadence)
    while waiting:
        yield from _release(waiting, times, cadence)


def _release(waiting: deque[tuple[float, F]], times: list[float], cadence: Cadence) -> Iterator[tuple[float, F]]:
    own, frame = waiting.popleft()
    seconds = heapq.heappop(times)
    cadence.moved += seconds != own
    # Beyond the window no sorting helps, and a clip's times must increase.
    if cadence.seconds and seconds <= cadence.seconds[-1]:
        cadence.dropped += 1
        return
    cadence.seconds.append(seconds)
    yield seconds, frame


def nearest(
    frames: Iterable[tuple[float, F]], fps: float, *, start_s: float | None, end_s: float | None, tolerance_s: float
) -> Iterator[tuple[float, F]]:
    """Per output time ``t_j = start + j / fps`` the frame nearest in time, the earlier of two equally near; no frame twice.

    Nearest, not "the one on screen": where the source's rate is a multiple of ``fps``, rounded timestamps then lie far from the
    point of decision. Where the source is slower than ``fps`` every frame is kept once.

    Args:
        frames: (seconds, frame), increasing.
        fps: output times per second.
        start_s: first output time; None for the first frame's. Earlier frames are left out.
        end_s: frames from here on are left out; None for all.
        tolerance_s: differences below this are rounding of timestamps.
    """
    previous: tuple[float, F] | None = None
    origin, wanted, half_gap = start_s, 0, 0.0
    for seconds, frame in frames:
        if start_s is not None and seconds < start_s - tolerance_s:
            continue
        if end_s is not None and seconds >= end_s - tolerance_s:
            break
        # Without a start the first frame is at 0, whatever the container's clock says.
        origin = seconds if origin is None else origin
        if previous is not None:
            half_gap = (seconds - previous[0]) / 2
            last = math.floor((previous[0] + half_gap + tolerance_s - origin) * fps)
            if last >= wanted:
                yield previous
                wanted = last + 1
        previous = seconds, frame
    # the last frame is taken to stay as long as the one before it
    if previous is not None and origin is not None and math.floor((previous[0] + half_gap + tolerance_s - origin) * fps) >= wanted:
        yield previous
