"""Where a hand of known shape and orientation is: metres along the ray, from the clip's own camera and depth.

A hand model gives joints around the wrist in metres, and pixels. With the camera that fixes the distance up to the error of the
assumed hand size; metric depth fixes it better, taken over the whole hand rather than at one pixel, with what belongs to the
background or to the held object left out. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.hands.hand_depth import HAND_REACH_M, SKIN_TO_JOINT_M, depth_under
from videolift.geometry import Float

_MIN_JOINTS = 6


@dataclass(frozen=True)
class WristPlace:
    """One hand's wrist.

    Attributes:
        by_size_m: (3) in the camera, from pixels and the model's hand size.
        depth_z_m: the wrist's distance by depth; NaN where depth does not show the hand.
    """

    by_size_m: Float
    depth_z_m: float


def locate_wrist(
    joints_m: ArrayLike, keypoints_px: ArrayLike, K: ArrayLike, depth_m: NDArray[np.floating] | None
) -> WristPlace | None:
    """Where the wrist is; None where no place in front of the camera fits.

    Args:
        joints_m: (21, 3) relative to the wrist, in the camera's axes.
        keypoints_px: (21, 2).
        K: (3, 3).
        depth_m: (H, W) in metres, 0 invalid, or None.
    """
    joints, uv = np.asarray(joints_m, np.float64), np.asarray(keypoints_px, np.float64)
    by_size = wrist_translation(joints, uv, K)
    # Least squares knows no front and back: a hand may come out behind the camera.
    if not np.isfinite(by_size).all() or (by_size[2] + joints[:, 2]).min() <= 0:
        return None
    if depth_m is None:
        return WristPlace(by_size, float("nan"))
    # Each joint's depth implies one for the wrist; the median of those that agree, since a held object hides some joints.
    implied = depth_under(depth_m, uv) + SKIN_TO_JOINT_M - joints[:, 2]
    implied = implied[np.isfinite(implied)]
    if len(implied) >= _MIN_JOINTS:
        implied = implied[np.abs(implied - np.median(implied)) <= HAND_REACH_M]
    return WristPlace(by_size, float(np.median(implied)) if len(implied) >= _MIN_JOINTS else float("nan"))


def wrist_translation(joints_m: Float, keypoints_px: Float, K: ArrayLike, z_m: float | None = None) -> Float:
    """The translation (3) that best projects ``joints_m`` (n, 3) onto ``keypoints_px`` (n, 2), linear least squares.

    Each pixel gives two equations f (X + t_x) = (u - c) (Z + t_z). With ``z_m`` the third component is kept.
    """
    K = np.asarray(K, np.float64)
    A, b = np.zeros((2 * len(joints_m), 3)), np.zeros(2 * len(joints_m))
    for axis in (0, 1):
        offset, focal = keypoints_px[:, axis] - K[axis, 2], K[axis, axis]
        A[axis::2, axis], A[axis::2, 2] = focal, -offset
        b[axis::2] = offset * joints_m[:, 2] - focal * joints_m[:, axis]
    if z_m is None:
        return np.asarray(np.linalg.lstsq(A, b, rcond=None)[0])
    across = np.linalg.lstsq(A[:, :2], b - A[:, 2] * z_m, rcond=None)[0]
    return np.array([*across, z_m])


def wrists_by_one_method(
    places: list[WristPlace | None], joints_m: list[Float], keypoints_px: list[Float], K: ArrayLike
) -> tuple[list[Float | None], str]:
    """Wrist positions of one hand over a video, by one method, so that the wrist does not jump between two; and the method.

    Where depth shows the hand in at least half of the frames it decides; in the others the distance by size is corrected by the
    video's own median of the ratio. Otherwise size decides everywhere.
    """
    known = [place for place in places if place is not None]
    ratios = [place.depth_z_m / place.by_size_m[2] for place in known if np.isfinite(place.depth_z_m)]
    # Two methods differ by some 10 %: a wrist that switched between them would jump.
    if 2 * len(ratios) < len(known) or not ratios:
        return [None if place is None else place.by_size_m for place in places], "hand_size"
    usual = float(np.median(ratios))
    out: list[Float | None] = []
    for place, joints, uv in zip(places, joints_m, keypoints_px, strict=True):
        if place is None:
            out.append(None)
            continue
        z = place.depth_z_m if np.isfinite(place.depth_z_m) else usual * place.by_size_m[2]
        out.append(wrist_translation(joints, uv, K, z))
    return out, "hand_depth"
