"""Writing a clip's depth in segments: what a kill cannot undo, and the share of pixels with depth over all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.segments import Arrays, even_segments, resumable
from videolift.artifacts import DepthWriter

_CHUNK = 8
_MIN_FLOAT16 = 6e-8
"""Smaller depth is 0 in the file."""


def write_frames(
    out: DepthWriter,
    depth: Callable[[int], NDArray[np.float32]],
    T_camera_world: NDArray[np.float64],
    valid: NDArray[np.bool_],
    *,
    segment: float,
    report: Callable[[int], None],
) -> float:
    """Appends every frame that is not committed yet and commits after each segment.

    Args:
        out: takes the frames.
        depth: z-depth (H, W) of a frame, 0 invalid; asked for in ascending order.
        T_camera_world: (T, 4, 4).
        valid: (T), which poses are known.
        segment: frames saved together.
        report: told how many frames are written.

    Returns:
        Share of all pixels that have depth, also of those that a killed attempt wrote.
    """

    def write_segment(start: int, end: int) -> Arrays:
        counts = np.zeros(2, np.int64)
        for first in range(start, end, _CHUNK):
            part = slice(first, min(first + _CHUNK, end))
            images = np.stack([depth(k) for k in range(part.start, part.stop)])
            counts += (int((images > _MIN_FLOAT16).sum()), images.size)
            out.append_frames(images, T_camera_world[part], valid[part])
            report(part.stop)
        return {"counts": counts}

    parts = resumable(out, "frames", even_segments(len(valid), segment), write_segment, commits=True)
    known, pixels = np.sum([part["counts"] for part in parts], axis=0)
    out.commit()  # of the last segment too: how rows were committed decides their order in the file, hence its hash
    return float(known / pixels)
