"""Shots: stretches of a video between cuts, as numbers per frame. Nothing measured over time reaches across one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_SHOT = -1
"""Frames within a fade or a dissolve; they show two scenes, or none."""


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
