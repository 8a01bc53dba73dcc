"""What of a rendered clip moves at a moment: the held box at rest is not moving, and measuring it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.sample import Truth
from stages.sample.raycast import cast_rays
from videolift.geometry import invert_pose, transform, unproject


def moving_now(truth: Truth, frame: int, *, within: int = 10, more_than_m: float = 3e-3, step_px: int = 4) -> NDArray[np.bool_]:
    """(H / step, W / step): surfaces that move by more than 3 mm in the world within a second before or after ``frame``."""
    height, width = truth.depth_m.shape[1:]
    v, u = np.mgrid[0:height:step_px, 0:width:step_px]
    moves = truth.moving[frame][v, u]
    uv = np.stack([u[moves], v[moves]], axis=-1).astype(np.float64)
    if not len(uv):
        return moves
    z, part = cast_rays(truth.scene, frame, uv, truth.K)
    poses = truth.scene.T_camera_part
    points_part = transform(invert_pose(poses[frame, part]), unproject(uv, z, truth.K)[:, None])[:, 0]
    T_world_camera = invert_pose(truth.scene.T_camera_world)
    frames = range(max(frame - within, 0), min(frame + within + 1, len(truth.rgb)))
    places = np.stack([transform(T_world_camera[j] @ poses[j, part], points_part[:, None])[:, 0] for j in frames])
    here = places[frame - frames.start]
    moves[moves] = np.linalg.norm(places - here, axis=-1).max(0) > more_than_m
    return moves
