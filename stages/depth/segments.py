"""Writing a clip's depth in segments: what a kill cannot undo, and the share of pixels with depth over all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import DepthWriter

_CHUNK = 8
_FLOAT16_LEAST = 6e-8
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
    frames, step = len(valid), max(1, round(segment))
    known = pixels = 0
    for start in range(0, frames, step):
        end, name = min(start + step, frames), f"segment-{start:09d}"
        kept = out.load_part(name) if end <= out.committed else None
        counts = _append(out, depth, T_camera_world, valid, start, end, report) if kept is None else kept["counts"]
        known, pixels = known + int(counts[0]), pixels + int(counts[1])
        if kept is None:
            out.save_part(name, counts=counts)
            out.commit()
    return known / max(pixels, 1)


def _append(
    out: DepthWriter,
    depth: Callable[[int], NDArray[np.float32]],
    T_camera_world: NDArray[np.float64],
    valid: NDArray[np.bool_],
    start: int,
    end: int,
    report: Callable[[int], None],
) -> NDArray[np.int64]:
    counts = np.zeros(2, np.int64)
    for first in range(start, end, _CHUNK):
        part = slice(first, min(first + _CHUNK, end))
        images = np.stack([depth(k) for k in range(part.start, part.stop)])
        counts += (int((images > _FLOAT16_LEAST).sum()), images.size)
        out.append_frames(images, T_camera_world[part], valid[part])
        report(part.stop)
    return counts
