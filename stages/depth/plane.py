"""The fall-back where depth cannot be observed: an assumed table plane.

Its depth is a prior (tier D, scale assumed) and never a measurement; refused by default when a dataset is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAX_RELATIVE_DEPTH = 5.0
"""Depth, over that at the image centre, beyond which the plane is not continued: towards its horizon it says nothing."""


def plane_depth(
    K: ArrayLike, size_px: tuple[int, int], R_camera_world: ArrayLike, *, pitch_deg: float, depth_m: float
) -> NDArray[np.float32]:
    """z-depth (H, W) of the assumed table, 0 where a ray misses it.

    Args:
        K: (3, 3).
        size_px: (W, H).
        R_camera_world: (3, 3), the camera's rotation since the first frame, in which the table lies ``pitch_deg`` below the view.
        pitch_deg: angle by which that first camera looks down on the table.
        depth_m: depth of the table at that camera's principal point, assumed.
    """
    K = np.asarray(K, np.float64)
    pitch = np.radians(pitch_deg)
    normal_camera = np.asarray(R_camera_world, np.float64) @ np.array([0.0, np.cos(pitch), np.sin(pitch)])
    height_m = depth_m * np.sin(pitch)
    v, u = np.mgrid[: size_px[1], : size_px[0]].astype(np.float64)
    along = (u - K[0, 2]) / K[0, 0] * normal_camera[0] + (v - K[1, 2]) / K[1, 1] * normal_camera[1] + normal_camera[2]
    # Rays near the table's horizon would hit it metres away, where nothing of it is seen.
    hit = along > height_m / (_MAX_RELATIVE_DEPTH * depth_m)
    return np.where(hit, height_m / np.where(hit, along, 1.0), 0.0).astype(np.float32)
