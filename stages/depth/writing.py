"""Writing a clip's depth: frames in segments that a kill cannot undo, the share of pixels with depth, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Quality
from stages.depth.motion.camera_path import CameraPath
from stages.segments import SavedArrays, even_segments, resumable
from videolift.artifacts import DepthWriter
from videolift.artifacts.depth import Scale

_CHUNK = 8
_MIN_FLOAT16 = 6e-8
"""Smaller depth is 0 in the file."""


def write_frames(
    out: DepthWriter,
    depth: Callable[[int], NDArray[np.float32]],
    path: CameraPath,
    *,
    segment: float,
    report: Callable[[int], None],
) -> float:
    """Appends every frame that is not committed yet and commits after each segment.

    Args:
        out: takes the frames.
        depth: z-depth (H, W) of a frame, 0 invalid; asked for in ascending order.
        path: the camera of every frame.
        segment: frames saved together.
        report: told how many frames are written.

    Returns:
        Share of all pixels that have depth, also of those that a killed attempt wrote.
    """

    def write_segment(start: int, end: int) -> SavedArrays:
        counts = np.zeros(2, np.int64)
        for first in range(start, end, _CHUNK):
            part = slice(first, min(first + _CHUNK, end))
            images = np.stack([depth(k) for k in range(part.start, part.stop)])
            counts += (int((images > _MIN_FLOAT16).sum()), images.size)
            out.append_frames(images, path.T_camera_world[part], path.valid[part])
            report(part.stop)
        return {"counts": counts}

    parts = resumable(out, "frames", even_segments(len(path), segment), write_segment, commits=True)
    known, pixels = np.sum([part["counts"] for part in parts], axis=0)
    out.commit()  # of the last segment too: how rows were committed decides their order in the file, hence its hash
    return float(known / pixels)


def finish_depth(
    out: DepthWriter,
    path: CameraPath,
    notes: tuple[str, ...],
    *,
    backend: str,
    tier: Literal["A", "B", "C", "D"],
    scale: Scale,
    figures: dict[str, float],
    method: str | None = None,
) -> Quality:
    """States what the frames written are worth, in the artifact and to the caller; ``method`` where a backend has several."""
    out.put(K=path.K)
    words = {} if method is None else {"method": method}
    out.declare(backend=backend, tier=tier, scale=scale, pose=path.pose, intrinsics=path.intrinsics, **figures, **words)
    return Quality(len(path), notes, figures)
