"""Shots: stretches of a video between cuts, as numbers per frame. Nothing measured over time reaches across one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_SHOT = -1
"""Frames within a fade or a dissolve; they show two scenes, or none."""
_GAP_FRAMES = 1.5  # between one frame, which jitters a little, and two, of which one is missing
"""Frames of the clip's rate; a longer step in time is a gap."""
FrameRange = tuple[int, int]
"""First frame and end."""


@dataclass(frozen=True)
class Shot:
    """Frames ``first`` to ``end`` - 1 of a clip, all of shot ``number``."""

    number: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


def shots_of(shot: NDArray[np.integer]) -> list[Shot]:
    """The shots of a clip by the number (T) of each frame's, in order of time."""
    edges = [0, *(np.flatnonzero(np.diff(shot)) + 1).tolist(), len(shot)] if len(shot) else []
    runs = zip(edges[:-1], edges[1:], strict=True)
    return [Shot(int(shot[first]), first, end) for first, end in runs if shot[first] != NO_SHOT]


def unbroken_ranges(seconds: NDArray[np.float64], fps: float, shot: NDArray[np.int32] | None = None) -> list[FrameRange]:
    """Stretches of ``seconds`` (T) without a gap, within the shots ``shot`` (T); None for one shot.

    What lies on both sides of a gap was not filmed in one go, or frames between were left out.
    """
    number = np.zeros(len(seconds), np.int32) if shot is None else shot
    cuts = np.flatnonzero((np.diff(seconds) > _GAP_FRAMES / fps) | (np.diff(number) != 0)) + 1
    bounds = [0, *cuts.tolist(), len(seconds)]
    return [(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b > a and number[a] != NO_SHOT]


def true_ranges(flags: NDArray[np.bool_]) -> list[FrameRange]:
    """Every stretch of True in ``flags`` (T)."""
    # A 0 at either end: a run that touches it has both its edges all the same.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
