"""The fall-back where depth cannot be observed: an assumed table plane, with camera poses only as far as they are known.

Its depth is a prior (tier D, scale assumed) and never a measurement; refused by default when a dataset is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.gates import fit_rotation
from videolift.artifacts.depth import Pose

_FARTHEST = 5.0
"""Depth, over that at the image centre, beyond which the plane is not continued: towards its horizon it says nothing."""
_LEAST_SHARED, _LEAST_SURVIVORS = 60, 0.5


@dataclass(frozen=True)
class Prior:
    """What stands in for a measurement.

    Attributes:
        T_camera_world: float64 (T, 4, 4), world = first camera.
        valid: bool (T), where the pose is known.
        K: float64 (3, 3).
        pose: static, rotation, or sfm where the camera moves but could not be followed (then no pose is valid).
        notes: sentences for people.
    """

    T_camera_world: NDArray[np.float64]
    valid: NDArray[np.bool_]
    K: NDArray[np.float64]
    pose: Pose
    notes: tuple[str, ...]


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
    hit = along > height_m / (_FARTHEST * depth_m)
    return np.where(hit, height_m / np.where(hit, along, 1.0), 0.0).astype(np.float32)


def rotations(tracks: FeatureTracks, K: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``T_camera_world`` (T, 4, 4) of a camera that only turns, world = first camera, and which frames could be reached (T).

    Each frame is compared with a reference frame that moves on when half of its corners are lost, so that errors add up slowly.
    """
    T_camera_world, valid = np.tile(np.eye(4), (len(tracks), 1, 1)), np.zeros(len(tracks), bool)
    valid[0], reference, latest = True, 0, 0
    for k in range(1, len(tracks)):
        uv_reference, uv = tracks.shared(reference, k)
        if len(uv) < max(_LEAST_SHARED, _LEAST_SURVIVORS * len(tracks.frame(reference)[0])):
            reference = latest
            uv_reference, uv = tracks.shared(reference, k)
        if len(uv) < _LEAST_SHARED:
            continue
        R_k_reference, _ = fit_rotation(uv_reference, uv, K)
        T_camera_world[k, :3, :3] = R_k_reference @ T_camera_world[reference, :3, :3]
        valid[k], latest = True, k
    return T_camera_world, valid
