"""The camera that hands are measured with, and depth only where it is in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import Clip, Depth
from videolift.artifacts.depth import Intrinsics
from videolift.errors import CorruptFile
from videolift.geometry import Float, pinhole

FOCAL_GUESS = 0.85
"""Focal length as a share of the long side where nothing is known of the camera."""


@dataclass(frozen=True)
class ClipCamera:
    """What hands are measured with.

    Attributes:
        K: (3, 3).
        intrinsics: how K is known.
        depth_m: depth in metres by frame; None where depth is missing or is not metric.
    """

    K: Float
    intrinsics: Intrinsics
    depth_m: Depth | NDArray[np.floating] | None


def clip_camera(clip: Clip, depth: Depth | None) -> ClipCamera:
    """The camera of a clip, with depth only where it is in measured metres.

    Raises:
        CorruptFile: clip and depth differ in length.
    """
    if depth is not None:
        if len(depth) != len(clip):
            raise CorruptFile(f"{depth.path}: depth has {len(depth)} frames, the clip {len(clip)}")
        # Depth and hands must share one camera, or a hand would lie beside its depth.
        return ClipCamera(depth.K.astype(np.float64), depth.attrs["intrinsics"], depth if depth.scale == "metric" else None)
    if (known := clip.known_camera()) is not None:
        return ClipCamera(*known, None)
    size_px = clip.width, clip.height
    return ClipCamera(pinhole(FOCAL_GUESS * max(size_px), *size_px), "assumed", None)
