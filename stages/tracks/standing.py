"""Points that stand still, predicted by the camera alone: no drift, right while something hides them, right again afterwards.

A point is taken to stand unless something speaks against it in any step of its window: deciding step by step would let slow motion
pass for standing. Of points that are hardly seen where they would stand nothing speaks at all; they do what their neighbours do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.tracks.chain import inside_image
from stages.tracks.point_paths import PointPaths, WindowFrames, near_points
from videolift.geometry import Float, project, transform

AGREES = 0.0155
"""Measured depth may differ from the predicted one by this share of it: 1 % and the steepness of a surface within a pixel."""
_AWAY_PX, _AWAY_PX_PER_STEP = 1.5, 0.05
"""A point that flow carries farther than this from where it would stand has moved, if the image says so too."""
_PATCH_FAVOUR = 2.5
"""The image shows a point where it would stand unless it differs there by this much more than where flow has carried it."""
_DOUBTFUL = 0.8
"""A point that is seen in a smaller share of its steps if it stands, and not in the last, may also have moved: a hand that moves on
covers with its other parts the places where its points were, and flow too fast to be trusted says nothing."""
_MIN_MOVED, _MOVED_PER_STANDING = 3, 2.0
"""Neighbours that must have moved, in all and for each that is seen to stand."""


def stand_still(
    frames: WindowFrames, points_cam0: Float, uv_flow: NDArray[np.float32], trusted: NDArray[np.bool_]
) -> tuple[PointPaths, NDArray[np.bool_]]:
    """Where points (N, 3) of the first camera are seen if they stand, and which of them do (N).

    Args:
        frames: of the window, with depth and every pose.
        points_cam0: (N, 3).
        uv_flow: (L, N, 2) where flow carries them.
        trusted: (L, N), where that can be trusted.
    """
    steps, points = len(frames), len(points_cam0)
    uv, visible = np.empty((steps, points, 2), np.float32), np.ones((steps, points), bool)
    uv[0] = uv_flow[0]
    gone, moved_last = np.zeros(points, bool), np.zeros(points, np.intp)
    for k in range(1, steps):
        here = transform(frames.between(0, k), points_cam0)
        z = here[:, 2]
        uv[k] = project(here, frames.K)
        measured = frames.depth_near(k, uv[k], z)
        with np.errstate(invalid="ignore"):
            apart_px = np.linalg.norm(uv_flow[k] - uv[k], axis=1)
            stays = trusted[k] & (apart_px <= _AWAY_PX + _AWAY_PX_PER_STEP * k)
            leaves = trusted[k] & ~stays
            # Measured depth that jumps where the image stands still is the sensor's flicker: not seen now, but not gone either.
            gone |= (measured - z > AGREES * z) & ~stays
            visible[k] = np.abs(measured - z) <= AGREES * z
        moved_last[leaves] = k
    stands = ~gone
    for k in range(1, steps):
        # At the edge of what moves, flow drags along what stands behind it: there the image decides.
        asked = np.flatnonzero(stands & (moved_last == k))
        if len(asked):
            first = frames.flow.patches(frames.grey[0], uv[0, asked])
            standing, flowing = (frames.flow.patches(frames.grey[k], at[k, asked]) for at in (uv, uv_flow))
            favoured = ((standing - first) ** 2).sum(1) < _PATCH_FAVOUR * ((flowing - first) ** 2).sum(1)
            stands[asked] = favoured & visible[k, asked]
    inside = np.stack([inside_image(at, frames.flow.clip_size_px) for at in uv])
    visible &= inside
    doubtful = stands & ~visible[-1] & (visible[1:].sum(0) < _DOUBTFUL * inside[1:].sum(0))
    asked = np.flatnonzero(doubtful)
    if len(asked) and not stands.all():
        # Points among others that have moved went with them, unless enough neighbours stand without doubt.
        index, near = near_points(points_cam0, points_cam0[asked])
        moved, stood = ((near & kind[index]).sum(1) for kind in (~stands, stands & ~doubtful))
        stands[asked] = (moved < _MIN_MOVED) | (moved <= _MOVED_PER_STANDING * stood)
    xyz = np.broadcast_to(points_cam0, (steps, points, 3)).copy()
    return PointPaths(uv, visible, xyz, np.ones((steps, points), bool)), stands
