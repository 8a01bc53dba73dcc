"""Scores of a hand's motion that need no truth: how far a wrist's keypoint and rotation stray from their own neighbourhood.

A hand moves smoothly over a second; what is left after the middle of 11 frames is taken away is mostly noise of the measurement.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.geometry import Float, rotation_angle

_HALF = 5
"""Frames to either side."""
_MIN_FRAMES = 5
"""Measured frames that a neighbourhood must have."""


def jitter_px(keypoints_px: ArrayLike, measured: ArrayLike) -> Float:
    """Distance (T, 2) in pixels of the wrist's keypoint from a straight motion through its 11 frames; NaN where too few.

    Args:
        keypoints_px: (T, 2, 21, 2).
        measured: (T, 2), frames that count.
    """
    uv, known = np.asarray(keypoints_px, np.float64)[:, :, 0], np.asarray(measured, bool)
    out = np.full(known.shape, np.nan)
    for k, side, near in _neighbourhoods(known & np.isfinite(uv).all(-1)):
        slope = np.polynomial.polynomial.polyfit(near - k, uv[near, side], 1)
        out[k, side] = np.linalg.norm(uv[k, side] - slope[0])
    return out


def jitter_deg(T_camera_wrist: ArrayLike, measured: ArrayLike) -> Float:
    """Angle (T, 2) in degrees of a wrist's rotation (T, 2, 4, 4) from a steady turn through its 11 frames; NaN where too few."""
    from scipy.spatial.transform import Rotation  # half a second to import

    R, known = np.asarray(T_camera_wrist, np.float64)[..., :3, :3], np.asarray(measured, bool)
    out = np.full(known.shape, np.nan)
    for k, side, near in _neighbourhoods(known):
        middle = Rotation.from_matrix(R[near, side]).mean()
        turns = (middle.inv() * Rotation.from_matrix(R[near, side])).as_rotvec()
        steady = np.polynomial.polynomial.polyfit(near - k, turns, 1)[0]
        out[k, side] = np.degrees(rotation_angle((middle * Rotation.from_rotvec(steady)).as_matrix(), R[k, side]))
    return out


def side_changes(keypoints_px: ArrayLike, valid: ArrayLike) -> NDArray[np.bool_]:
    """True (T) where a hand is far from where it was a frame ago and near where the other one was: sides that swap.

    Args:
        keypoints_px: (T, 2, 21, 2).
        valid: (T, 2).
    """
    uv, known = np.asarray(keypoints_px, np.float64), np.asarray(valid, bool)
    centre, size = uv.mean(2), np.ptp(uv, axis=2).max(-1)
    out = np.zeros(len(uv), bool)
    for side in (0, 1):
        comparable = known[1:, side] & known[:-1, side] & known[:-1, 1 - side]
        own = np.linalg.norm(centre[1:, side] - centre[:-1, side], axis=-1)
        other = np.linalg.norm(centre[1:, side] - centre[:-1, 1 - side], axis=-1)
        # Farther than the hand is large: between two frames no hand moves so, hurrying or not.
        with np.errstate(invalid="ignore"):
            out[1:] |= comparable & (own > size[:-1, side]) & (other < 0.5 * own)
    return out


def _neighbourhoods(known: NDArray[np.bool_]) -> list[tuple[int, int, NDArray[np.intp]]]:
    """(frame, side, known frames around it, itself included) wherever there are enough on both sides."""
    found = []
    for side in range(known.shape[1]):
        frames = np.flatnonzero(known[:, side])
        for k in frames:
            near = frames[np.abs(frames - k) <= _HALF]
            if len(near) >= _MIN_FRAMES and near[0] < k < near[-1]:
                found.append((int(k), side, near))
    return found
