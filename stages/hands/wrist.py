"""Wrist: from a palm's keypoints, and measured depth where there is any, to the pose of the hand frame in the camera.

Six points of known shape give the pose by their pixels alone (PnP), up to two tilts that fit a nearly flat palm; `choose_tilts`
takes the path through time. Depth enters the same fit: it decides the distance, and the tilt where it is steady over the palm.

A detector's own depth-less 3D ("world landmarks") is never used: seen from the wrist it has the fingers pointing backwards
(98 to 118 degrees off, measured).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.hands.palm import PALM_WEIGHTS, Palm
from videolift.artifacts import PALM_JOINTS
from videolift.geometry import Float, invert_pose, project, rotation_angle, transform

_FINGERS_BACK_COST = 1.0
_TURN_COST_PER_RAD = 2.0
_MISFIT_COST = 50.0
"""Weights of `choose_tilts`: fingers pointing back weighs as much as a turn of 30 degrees or a misfit of 2 % of the hand."""
_DEPTH_COST_PER_M = 100.0
_MAX_DEPTH_COST = 3.0
"""Likewise: depth that misses the palm by 1 cm. Beyond 3 cm, or where a tilt shows none, it is simply not the palm."""


@dataclass(frozen=True)
class Errors:
    """What a fit expects of its data.

    Attributes:
        keypoint: of a keypoint, as a share of the hand's size.
        depth_m: of the depth of a joint.
        size: spread of the palm's size in a detector's eyes, natural logarithm; only depth can move it.
    """

    keypoint: float = 0.025
    depth_m: float = 0.03
    size: float = 0.15


@dataclass(frozen=True)
class WristFit:
    """One estimate of a wrist's pose.

    Attributes:
        T_camera_wrist: (4, 4), translation in metres.
        palm_size: the palm's size as a multiple of the template's.
        residual_px: rms distance of the projected palm to its keypoints.
        depth_rms_m: likewise of its points to measured depth; NaN where no depth was used.
    """

    T_camera_wrist: Float
    palm_size: float
    residual_px: float
    depth_rms_m: float = float("nan")


def finger_direction(T_camera_wrist: ArrayLike, side: str) -> Float:
    """Unit vector (..., 3) from the wrist along the fingers, in the camera."""
    x_axis = np.asarray(T_camera_wrist)[..., :3, 0]
    return -x_axis if side == "right" else x_axis


def hand_size_px(keypoints_px: ArrayLike) -> Float:
    """Longer side of the box around keypoints (..., 21, 2), pixels; the measure for residuals."""
    return np.asarray(np.ptp(np.asarray(keypoints_px, np.float64), axis=-2).max(-1))


def fit_by_pnp(keypoints_px: ArrayLike, K: ArrayLike, palm: Palm) -> list[WristFit]:
    """Poses from the palm's six pixels and its size, best fit first: a nearly flat palm fits with two tilts.

    Starts from the two solutions for the flattened palm (IPPE), each refined on the true points. Empty for pixels that no
    palm can give (all in one place, behind the camera).

    Args:
        keypoints_px: (21, 2).
        K: (3, 3).
        palm: of the hand's side.
    """
    palm_m = palm.points_m()
    pixels = np.asarray(keypoints_px, np.float64)[list(PALM_JOINTS)]
    # All in one place OpenCV would give any pose.
    if not np.isfinite(pixels).all() or np.ptp(pixels, axis=0).max() < 1.0:
        return []
    # IPPE wants points with z = 0: a frame at their mean whose z axis is the direction in which they spread least
    _, _, axes = np.linalg.svd(palm_m - palm_m.mean(0))
    axes[2] *= np.sign(np.linalg.det(axes))
    T_wrist_flat = np.eye(4)
    T_wrist_flat[:3, :3], T_wrist_flat[:3, 3] = axes.T, palm_m.mean(0)
    T_flat_wrist = invert_pose(T_wrist_flat)
    flat = transform(T_flat_wrist, palm_m) * [1.0, 1.0, 0.0]
    _, rotations, translations, _ = cv2.solvePnPGeneric(
        flat, pixels, np.asarray(K, np.float64), np.zeros(0), flags=cv2.SOLVEPNP_IPPE
    )
    fits = []
    for rotation, translation in zip(rotations, translations, strict=True):
        T_camera_flat = np.eye(4)
        T_camera_flat[:3, :3] = cv2.Rodrigues(np.ravel(np.asarray(rotation, np.float64)))[0]
        T_camera_flat[:3, 3] = np.ravel(translation)
        start = T_camera_flat @ T_flat_wrist
        # IPPE gives both of its solutions, also one behind the camera.
        if (transform(start, palm_m)[:, 2] > 0).all():
            fits.append(refined(WristFit(start, 1.0, 0.0), keypoints_px, K, palm))
    return sorted((fit for fit in fits if np.isfinite(fit.residual_px)), key=lambda fit: fit.residual_px)


def refined(
    fit: WristFit,
    keypoints_px: ArrayLike,
    K: ArrayLike,
    palm: Palm,
    depth_z_m: Float | None = None,
    errors: Errors = Errors(),
) -> WristFit:
    """The pose near ``fit`` that best agrees with the palm's pixels and, where given, with the depth of its points.

    Args:
        fit: where to start; its ``palm_size`` is what the size is expected to be.
        keypoints_px: (21, 2).
        K: (3, 3).
        palm: of the hand's side.
        depth_z_m: (6) distances of the points along the view, NaN where not measured; None for pixels alone.
        errors: of pixels, depth and size, by which they are weighed against each other.
    """
    from scipy.optimize import least_squares  # a second to import
    from scipy.spatial.transform import Rotation

    camera = np.asarray(K, np.float64)
    pixels = np.asarray(keypoints_px, np.float64)[list(PALM_JOINTS)]
    pixel_weights = (PALM_WEIGHTS / (errors.keypoint * hand_size_px(keypoints_px)))[:, None]
    z_m = np.full(len(PALM_JOINTS), np.nan) if depth_z_m is None else np.asarray(depth_z_m, np.float64)
    measured = np.isfinite(z_m)
    start = fit.T_camera_wrist

    def pose(x: Float) -> Float:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.from_rotvec(x[:3]).as_matrix() @ start[:3, :3], x[3:6]
        return T

    def points(x: Float) -> Float:
        return transform(pose(x), palm.points_m(fit.palm_size * float(np.exp(x[6]))))

    def misfit(x: Float) -> Float:
        at = points(x)
        ahead = np.maximum(at[:, 2], 1e-3)  # a step behind the camera is turned back, not divided by zero
        uv = at[:, :2] / ahead[:, None] * camera[[0, 1], [0, 1]] + camera[:2, 2]
        return np.concatenate(
            [((uv - pixels) * pixel_weights).ravel(), (at[measured, 2] - z_m[measured]) / errors.depth_m, [x[6] / errors.size]]
        )

    # Seven unknowns: a turn, a place, and the logarithm of the size, which then cannot become negative.
    x = least_squares(misfit, np.array([0.0, 0, 0, *start[:3, 3], 0]), method="lm", max_nfev=200).x
    at = points(x)
    with np.errstate(invalid="ignore"):
        residual = float(np.sqrt(((project(at, camera) - pixels) ** 2).sum(1).mean()))
    rms = float(np.sqrt(np.mean((at[measured, 2] - z_m[measured]) ** 2))) if measured.any() else float("nan")
    return WristFit(pose(x), float(fit.palm_size * np.exp(x[6])), residual, rms)


def choose_tilts(frames: list[list[WristFit]], sizes_px: ArrayLike, side: str, *, fingers_away: bool) -> list[int]:
    """Index of one pose per frame out of the candidates of each: the cheapest path through time.

    Args:
        frames: candidates per frame of one hand in order of time, none of them empty.
        sizes_px: `hand_size_px` per frame, what a residual is measured by.
        side: left or right.
        fingers_away: prefer fingers pointing away from the camera, as an egocentric camera sees them.
    """
    total = np.zeros(0)
    came_from: list[NDArray[np.intp]] = []
    for i, candidates in enumerate(frames):
        size_px = max(float(np.asarray(sizes_px)[i]), 1.0)
        fingers_back = [fingers_away and finger_direction(fit.T_camera_wrist, side)[2] < 0 for fit in candidates]
        cost = np.array(
            [
                _MISFIT_COST * fit.residual_px / size_px + _FINGERS_BACK_COST * back
                for fit, back in zip(candidates, fingers_back, strict=True)
            ]
        )
        rms_m = np.array([fit.depth_rms_m for fit in candidates])
        if np.isfinite(rms_m).any():  # on one tilt the palm's plane leaves the surface, where pixels fit both alike
            cost += np.minimum(_DEPTH_COST_PER_M * np.nan_to_num(rms_m, nan=np.inf), _MAX_DEPTH_COST)
        if i:
            # A wrist turns little between frames; the wrong tilt would have it flip to and fro.
            turns = np.array([[rotation_angle(_R(a), _R(b)) for a in frames[i - 1]] for b in candidates])
            paths = total[None] + _TURN_COST_PER_RAD * turns
            came_from.append(paths.argmin(1))
            cost = cost + paths.min(1)
        total = cost
    if not frames:
        return []
    # Backwards along the cheapest path (Viterbi).
    chosen = [int(total.argmin())]
    for back in reversed(came_from):
        chosen.append(int(back[chosen[-1]]))
    return chosen[::-1]


def _R(fit: WristFit) -> Float:
    return fit.T_camera_wrist[:3, :3]
