"""What work on a video takes: the one table that forecasts begin from, and how measured work compares with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PIXELS = 512 * 384
"""Of the frames that the table speaks of."""
_KNOWN_S = 1.0
"""Seconds for which the table stands against measured work: what a clip of half a second takes is mostly its start."""


@dataclass(frozen=True)
class TypicalWork:
    """CPU seconds of a backend, on one core.

    Attributes:
        video_s: per video, whatever its length.
        frame_s: per frame, whatever its size.
        picture_s: per frame of `PIXELS`, in proportion to its pixels.
    """

    video_s: float = 0.0
    frame_s: float = 0.0
    picture_s: float = 0.0

    def seconds(self, frames: float, pixels: float = PIXELS) -> float:
        """Of a video."""
        return self.video_s + frames * (self.frame_s + self.picture_s * pixels / PIXELS)


_OTHER = TypicalWork(frame_s=0.15)
TYPICAL_WORK = {
    "pyav": TypicalWork(frame_s=0.035),  # of 1080p at 30 fps; a small source takes a fifth
    "sfm": TypicalWork(picture_s=0.4),
    # Of clips that MoGe looks at: at five frames for the field of view, then at every fifth, 12 s each. Others take what sfm does.
    "laptop": TypicalWork(video_s=60.0, frame_s=2.5),
    "rgbd": TypicalWork(video_s=0.25, picture_s=0.014),
    "flow": TypicalWork(picture_s=0.15),
    "mediapipe": TypicalWork(frame_s=0.31),  # with four looks at each hand
    "hdf5": TypicalWork(frame_s=0.022),
}
"""By backend, the middle of what benchmarks/RESULTS.md has of clips of six seconds and of ten minutes; of laptop, what
docs/backends.md has. Backends that need a card have no row: none was ever measured on one."""


def typical_work(backend: str) -> TypicalWork:
    """Of a backend that the table does not name, the middle of those that it does."""
    return TYPICAL_WORK.get(backend, _OTHER)


@dataclass
class MeasuredWork:
    """Seconds that work took, and those that the table gives for the same work."""

    took_s: float = 0.0
    typical_s: float = 0.0

    def add(self, took_s: float, typical_s: float) -> None:
        """Counts a video, or a part of one."""
        self.took_s += took_s
        self.typical_s += typical_s

    @property
    def ratio(self) -> float:
        """Times the table's seconds."""
        return self.took_s / self.typical_s


def usual_ratio(measured: Iterable[MeasuredWork]) -> float:
    """How this machine compares with the table, by all that was measured on it; 1 where hardly anything was."""
    found = list(measured)
    # Sums, so that long work says most.
    return (_KNOWN_S + sum(one.took_s for one in found)) / (_KNOWN_S + sum(one.typical_s for one in found))
