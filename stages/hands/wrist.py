"""Wrist: from 21 keypoints, and depth where it is in metres, to the pose of the hand frame in the camera.

The palm is taken as rigid: wrist, thumb root and four knuckles, in the hand frame of `videolift.artifacts.hands` (origin wrist,
right hand fingers -x, back +y, thumb side +z, left hand the mirror in x). Metric depth gives the pose by Kabsch; without it
the palm's size gives it by PnP, which fits with two tilts, told apart by `choose_tilts`. Time otherwise belongs to `temporal`.

A detector's own depth-less 3D ("world landmarks") is never used: seen from the wrist it has the fingers pointing backwards
(98 to 118 degrees off, measured).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts import PALM_JOINTS
from videolift.geometry import invert_pose, kabsch, mirror_points, project, rotation_angle, transform, unproject

PALM_RIGHT_M = np.array(
    [
        [0.000, 0.000, 0.000],
        [-0.025, -0.014, 0.027],
        [-0.090, -0.006, 0.021],
        [-0.094, -0.002, -0.002],
        [-0.086, -0.005, -0.023],
        [-0.073, -0.010, -0.040],
    ]
)
"""A grown-up's right palm in metres (an 18 to 19 cm hand), rounded; our own numbers."""

SKIN_TO_JOINT_M = 0.010
"""A camera sees the skin; joints lie about this far behind it."""
PALM_DEPTH_SPREAD_M = 0.10
"""Depth this far from the palm's median belongs to something else: the table, the held object."""
PATCH_PX = 2
"""Depth under a keypoint is the median of valid pixels this far around it."""
MIN_PALM_POINTS = 4
_FINGERS_BACK_COST = 2.0
_TURN_COST_PER_RAD = 2.0
_MISFIT_COST = 50.0
"""Weights of `choose_tilts`: fingers pointing back weighs as much as a turn of 60 degrees or a misfit of 4 % of the hand."""


@dataclass(frozen=True)
class WristFit:
    """One estimate of a wrist's pose.

    Attributes:
        T_camera_wrist: (4, 4), translation in metres.
        residual_px: rms distance of the projected palm to its keypoints.
        method: ``depth_kabsch`` or ``palm_pnp``.
    """

    T_camera_wrist: NDArray[np.floating]
    residual_px: float
    method: str


def palm_template(side: str) -> NDArray[np.floating]:
    """The six palm points (6, 3) in metres in the hand frame; ``side`` is left or right."""
    return PALM_RIGHT_M.copy() if side == "right" else mirror_points(PALM_RIGHT_M)


def finger_direction(T_camera_wrist: ArrayLike, side: str) -> NDArray[np.floating]:
    """Unit vector (..., 3) from the wrist along the fingers, in the camera."""
    x_axis = np.asarray(T_camera_wrist)[..., :3, 0]
    return -x_axis if side == "right" else x_axis


def hand_size_px(keypoints_px: ArrayLike) -> NDArray[np.floating]:
    """Longer side of the box around keypoints (..., 21, 2), pixels; the measure for residuals."""
    return np.asarray(np.ptp(np.asarray(keypoints_px, np.float64), axis=-2).max(-1))


def palm_residual_px(T_camera_wrist: ArrayLike, keypoints_px: ArrayLike, K: ArrayLike, side: str) -> float:
    """Rms distance in pixels of the projected palm template to the palm's keypoints; infinite behind the camera."""
    seen = project(transform(T_camera_wrist, palm_template(side)), K)
    error = np.sqrt(((seen - np.asarray(keypoints_px, np.float64)[list(PALM_JOINTS)]) ** 2).sum(1).mean())
    return float(error) if np.isfinite(error) else float("inf")


def depth_under(depth_m: NDArray[np.floating], uv_px: ArrayLike) -> NDArray[np.floating]:
    """Median valid depth (n) around pixels (n, 2) of one frame (H, W); NaN outside the image or without valid depth."""
    height, width = depth_m.shape
    out = np.full(len(np.asarray(uv_px)), np.nan)
    for i, (u, v) in enumerate(np.asarray(uv_px, np.float64)):
        if not (-0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5):
            continue  # a keypoint outside has no pixel; clamping it would move the hand by centimetres
        column, row = int(np.rint(u)), int(np.rint(v))
        patch = depth_m[max(row - PATCH_PX, 0) : row + PATCH_PX + 1, max(column - PATCH_PX, 0) : column + PATCH_PX + 1]
        valid = patch[np.isfinite(patch) & (patch > 0)]
        if valid.size:
            out[i] = np.median(valid.astype(np.float64))
    return out


def joints_on_depth(keypoints_px: ArrayLike, depth_m: NDArray[np.floating], K: ArrayLike) -> NDArray[np.floating]:
    """Joints (21, 3) in the camera, in metres, where the depth under them is the hand's; NaN elsewhere.

    All are NaN when fewer than `MIN_PALM_POINTS` palm points have valid depth within 10 cm of their median.
    """
    uv = np.asarray(keypoints_px, np.float64)
    z = depth_under(depth_m, uv)
    palm = z[list(PALM_JOINTS)]
    if np.isfinite(palm).sum() < MIN_PALM_POINTS:
        return np.full((21, 3), np.nan)
    near = np.abs(z - np.nanmedian(palm)) <= PALM_DEPTH_SPREAD_M
    if near[list(PALM_JOINTS)].sum() < MIN_PALM_POINTS:
        return np.full((21, 3), np.nan)
    return unproject(uv, np.where(near, z + SKIN_TO_JOINT_M, np.nan), K)


def fit_on_depth(joints_camera: ArrayLike, keypoints_px: ArrayLike, K: ArrayLike, side: str) -> WristFit | None:
    """The pose by Kabsch from `joints_on_depth`; None without enough palm points."""
    palm = np.asarray(joints_camera, np.float64)[list(PALM_JOINTS)]
    found = np.isfinite(palm).all(1)
    if found.sum() < MIN_PALM_POINTS:
        return None
    T, _ = kabsch(palm_template(side)[found], palm[found])
    return WristFit(T, palm_residual_px(T, keypoints_px, K, side), "depth_kabsch")


def fit_by_pnp(keypoints_px: ArrayLike, K: ArrayLike, side: str) -> list[WristFit]:
    """Poses from the palm's six pixels and its known size, best fit first: a nearly flat palm fits with two tilts.

    Starts from the two solutions for the flattened palm (IPPE), each refined on the true template. Empty for pixels that no
    palm can give (all in one place, behind the camera).
    """
    points = palm_template(side)
    pixels = np.asarray(keypoints_px, np.float64)[list(PALM_JOINTS)]
    camera = np.asarray(K, np.float64)
    if not np.isfinite(pixels).all() or np.ptp(pixels, axis=0).max() < 1.0:
        return []
    T_flat_wrist = _flattening(points)
    flat = transform(T_flat_wrist, points) * [1.0, 1.0, 0.0]
    _, rotations, translations, _ = cv2.solvePnPGeneric(flat, pixels, camera, None, flags=cv2.SOLVEPNP_IPPE)
    fits = []
    for rotation, translation in zip(rotations, translations, strict=True):
        start = _pose(rotation, translation) @ T_flat_wrist
        turn, _ = cv2.Rodrigues(start[:3, :3])
        refined = cv2.solvePnPRefineLM(points, pixels, camera, None, turn, start[:3, 3:].copy())
        T = _pose(*refined)
        residual = palm_residual_px(T, keypoints_px, camera, side)
        if np.isfinite(T).all() and np.isfinite(residual):
            fits.append(WristFit(T, residual, "palm_pnp"))
    return sorted(fits, key=lambda fit: fit.residual_px)


def choose_tilts(frames: list[list[WristFit]], sizes_px: ArrayLike, side: str, *, fingers_away: bool) -> list[WristFit]:
    """One pose per frame out of the candidates of each: the cheapest path through time.

    Args:
        frames: candidates per frame of one hand in order of time, none of them empty.
        sizes_px: `hand_size_px` per frame, what a residual is measured by.
        side: left or right.
        fingers_away: prefer fingers pointing away from the camera, as an egocentric camera sees them.
    """
    total = np.zeros(0)
    came_from: list[NDArray[np.intp]] = []
    for i, candidates in enumerate(frames):
        cost = np.array([_tilt_cost(fit, float(np.asarray(sizes_px)[i]), side, fingers_away) for fit in candidates])
        if i:
            turns = np.array([[rotation_angle(_R(a), _R(b)) for a in frames[i - 1]] for b in candidates])
            paths = total[None] + _TURN_COST_PER_RAD * turns
            came_from.append(paths.argmin(1))
            cost = cost + paths.min(1)
        total = cost
    if not frames:
        return []
    index = int(total.argmin())
    chosen = [frames[-1][index]]
    for candidates, back in zip(reversed(frames[:-1]), reversed(came_from), strict=True):
        index = int(back[index])
        chosen.append(candidates[index])
    return chosen[::-1]


def _tilt_cost(fit: WristFit, size_px: float, side: str, fingers_away: bool) -> float:
    back = fingers_away and finger_direction(fit.T_camera_wrist, side)[2] < 0
    return _MISFIT_COST * fit.residual_px / max(size_px, 1.0) + _FINGERS_BACK_COST * back


def _flattening(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """``T_flat_wrist`` (4, 4): the frame at the points' mean whose z axis is their direction of least spread."""
    centre = points.mean(0)
    _, _, axes = np.linalg.svd(points - centre)
    axes[2] *= np.sign(np.linalg.det(axes))
    T_wrist_flat = np.eye(4)
    T_wrist_flat[:3, :3], T_wrist_flat[:3, 3] = axes.T, centre
    return invert_pose(T_wrist_flat)


def _pose(rotation_vector: ArrayLike, translation: ArrayLike) -> NDArray[np.floating]:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(np.ravel(np.asarray(rotation_vector, np.float64)))[0], np.ravel(translation)
    return T


def _R(fit: WristFit) -> NDArray[np.floating]:
    return fit.T_camera_wrist[:3, :3]
