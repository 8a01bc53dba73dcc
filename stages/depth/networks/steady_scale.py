"""Metric depth whose scale flickers from frame to frame, made steady: one factor per frame, estimated over the whole video.

Single-image models give metres per frame, each frame off by a few percent of its own. Corners followed through the clip tell by how
much: what should be equal in all frames (distance of a corner from a camera that does not move, or depth over triangulated
depth) is compared, by medians, so that what moves by itself counts little. Knows no model and no file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.depth.motion.features import FeatureTracks
from videolift.geometry import Float, invert_pose, project, transform, unproject

_ROUNDS = 6
_MIN_PER_FRAME = 20
_MIN_VIEWS, _MIN_SPREAD, _MAX_ERROR_PX = 4, 0.01, 2.0


def log_factors(frame: ArrayLike, corner: ArrayLike, log_value: ArrayLike, frames: int) -> Float:
    """What to add to the logarithm of each frame's depth (T), median 0; 0 for frames with fewer than 20 corners.

    Fits ``log_value = level[corner] - factor[frame]`` by alternating medians.

    Args:
        frame, corner: (n) of each observation.
        log_value: (n) logarithm of what should be the same for one corner in all frames.
        frames: T.
    """
    frame, value = np.asarray(frame, np.int64), np.asarray(log_value, np.float64)
    _, corner = np.unique(np.asarray(corner), return_inverse=True)
    factor = np.zeros(frames)
    told = np.bincount(frame, minlength=frames) >= _MIN_PER_FRAME
    if not told.any():
        return factor
    # Medians, since corners on what moves by itself disagree with all others.
    for _ in range(_ROUNDS):
        level = _group_median(corner, value + factor[frame], int(corner.max()) + 1)
        factor = np.where(told, _group_median(frame, level[corner] - value, frames), 0.0)
        # Only ratios are observed: the video's own scale is left as it is.
        factor[told] -= np.median(factor[told])
    return factor


def _group_median(group: NDArray[np.int64], value: Float, groups: int) -> Float:
    """Median of each group's values (groups); 0 for empty ones."""
    order = np.lexsort((value, group))
    count = np.bincount(group, minlength=groups)
    start = np.cumsum(count) - count
    ranked = value[order]
    low, high = (np.minimum(start + np.maximum(rank, 0), max(len(ranked) - 1, 0)) for rank in ((count - 1) // 2, count // 2))
    return np.where(count > 0, 0.5 * (ranked[low] + ranked[high]), 0.0)


def depth_at_corners(depth_m: NDArray[np.floating], uv_px: NDArray[np.floating]) -> Float:
    """Depth (n) of one frame (H, W) at pixels (n, 2) inside it; NaN where invalid."""
    column, row = np.rint(uv_px).astype(int).T
    z = depth_m[row, column].astype(np.float64)
    return np.where(z > 0, z, np.nan)


def corner_ranges(uv_px: NDArray[np.floating], z: Float, K: ArrayLike) -> Float:
    """Distance from the camera (n); turning the camera leaves it as it is, unlike z."""
    return np.asarray(np.linalg.norm(unproject(uv_px, z, K), axis=-1))


def triangulate_corners(tracks: FeatureTracks, T_camera_world: Float, valid: NDArray[np.bool_], K: ArrayLike) -> dict[int, Float]:
    """World points (3) of corners that known cameras see from different sides, by the corner's id.

    The point nearest to all its rays (least squares). Kept with at least 4 views, rays spread by more than 0.01 rad and a
    reprojection error below 2 px; what moves by itself mostly fails that.

    Args:
        tracks: corners of the clip.
        T_camera_world: (T, 4, 4).
        valid: (T) where the camera is known.
        K: (3, 3).
    """
    frame = np.repeat(np.arange(len(tracks)), np.diff(tracks.offsets))
    use = valid[frame]
    frame, ids, uv = frame[use], tracks.ids[use], tracks.uv_px[use].astype(np.float64)
    names, corner = np.unique(ids, return_inverse=True)
    T_world_camera = invert_pose(T_camera_world)
    rays = np.einsum("nij,nj->ni", T_world_camera[frame, :3, :3], unproject(uv, np.ones(len(uv)), K))
    # Each ray gives the plane across it; the point is where these sums have their least squares.
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    A, b = np.zeros((len(names), 3, 3)), np.zeros((len(names), 3))
    np.add.at(A, corner, across)
    np.add.at(b, corner, np.einsum("nij,nj->ni", across, T_world_camera[frame, :3, 3]))
    views = np.bincount(corner, minlength=len(names))
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(A)[:, 0], 0) / np.maximum(views, 1))
    good = (views >= _MIN_VIEWS) & (spread > _MIN_SPREAD)
    points = np.zeros((len(names), 3))
    points[good] = np.linalg.solve(A[good], b[good][..., None])[..., 0]
    seen = project(transform(T_camera_world[frame], points[corner][:, None])[:, 0], K)
    error = np.linalg.norm(seen - uv, axis=1)
    # A corner that moves by itself has no point that all its rays meet.
    good &= _group_median(corner, np.where(np.isfinite(error), error, np.inf), len(names)) < _MAX_ERROR_PX
    return dict(zip(names[good].tolist(), points[good], strict=True))
