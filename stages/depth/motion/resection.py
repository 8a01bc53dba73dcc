"""Camera poses of single frames from corners whose place in the world is known (perspective-n-point). Knows no depth map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.features import FeatureTracks
from videolift.geometry import Float, project, transform

_INLIER_PX = 2.0
# RANSAC draws five points: of 200 draws one is right in 87 of 100 cases where 40 % of the points are, in 99.8 where half are.
_TRIALS = 200
_TIGHTER_PX = (1.5, 1.0, 0.8)
MIN_INLIERS, MIN_INLIER_SHARE = 20, 0.4


def resect(points_world: Float, uv_px: Float, K: Float, T_guess: Float) -> Float | None:
    """``T_camera_world`` (4, 4) that projects ``points_world`` (n, 3) onto ``uv_px`` (n, 2).

    RANSAC, then `tighten`. None where fewer than 20 points or 40 % of them agree within 2 px.
    """
    if len(points_world) < MIN_INLIERS:
        return None
    # OpenCV writes into the guess that it is given, hence the copy.
    start = (cv2.Rodrigues(T_guess[:3, :3])[0], T_guess[:3, 3:].copy())
    found, rvec, tvec, rows = cv2.solvePnPRansac(points_world, uv_px, K, None, *start, True, _TRIALS, _INLIER_PX)
    if not found or rows is None or len(rows) < max(MIN_INLIERS, MIN_INLIER_SHARE * len(points_world)):
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rvec)[0], tvec.ravel()
    return tighten(points_world, uv_px, K, T)


def tighten(points_world: Float, uv_px: Float, K: Float, T_camera_world: Float) -> Float:
    """``T_camera_world`` (4, 4) refined by Levenberg-Marquardt on the points within 1.5, then 1, then 0.8 px of where it sees them.

    Corners on slow movers and on edges where one thing hides another are off by a pixel or two; left in, they cost a factor of two.
    """
    for limit_px in _TIGHTER_PX:
        off_px = np.linalg.norm(project(transform(T_camera_world, points_world), K) - uv_px, axis=1)
        agree = np.nan_to_num(off_px, nan=np.inf) < limit_px
        if agree.sum() < MIN_INLIERS:
            break
        start = (cv2.Rodrigues(T_camera_world[:3, :3])[0], T_camera_world[:3, 3:].copy())
        rvec, tvec = cv2.solvePnPRefineLM(points_world[agree], uv_px[agree], K, None, *start)
        T_camera_world = np.eye(4)
        T_camera_world[:3, :3], T_camera_world[:3, 3] = cv2.Rodrigues(rvec)[0], tvec.ravel()
    return T_camera_world


def place_frames(
    tracks: FeatureTracks,
    frames: range,
    T_camera_world: Float,
    valid: NDArray[np.bool_],
    point_ids: NDArray[np.int32],
    points_world: Float,
    K: Float,
) -> None:
    """Fills ``T_camera_world`` (T, 4, 4) and ``valid`` (T) in place for those of ``frames`` that have no pose, tightens the others.

    Each starts at the pose of its neighbour, forwards from the first placed frame and then backwards from it. ``point_ids`` (m) is
    ascending and names the corners at ``points_world`` (m, 3). Frames that cannot be placed stay as they are.
    """
    placed = [k for k in frames if valid[k]]
    if not placed:
        return
    # Neighbours in time look alike: each frame starts at the last one placed, in either direction.
    for order in (range(placed[0], frames.stop), range(placed[0], frames.start - 1, -1)):
        T_guess = T_camera_world[placed[0]]
        for k in order:
            ids, uv = tracks.frame(k)
            rows = np.clip(np.searchsorted(point_ids, ids), 0, len(point_ids) - 1)
            known = point_ids[rows] == ids
            seen = (points_world[rows[known]], uv[known].astype(np.float64), K)
            found = tighten(*seen, T_camera_world[k]) if valid[k] else resect(*seen, T_guess)
            if found is not None:
                T_camera_world[k], valid[k] = found, True
                T_guess = found
