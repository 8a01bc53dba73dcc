"""Frames to a model a few at a time: what each call returns about its frames, joined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from videolift.isolation import Arrays

CALL_FRAMES = 16
"""Frames sent at once; a model's process and the pipe to it hold no more."""


def in_calls(start: int, end: int, call_frames: int, look: Callable[[int, int], Arrays]) -> dict[str, np.ndarray]:
    """What ``look(first, last)`` returns for the frames from ``start`` to before ``end``, ``call_frames`` of them at a time.

    Arrays of the same name are joined along their first axis; ``frame``, counted from the call's first, counts from the clip's.
    """
    parts = []
    for first in range(start, end, call_frames):
        part = look(first, min(first + call_frames, end))
        parts.append({**part, "frame": part["frame"] + first})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
