"""Errors of depth, poses and intrinsics against a known truth: arrays in, figures out. Reads no file and judges nothing.

Reconstructions without a known unit are aligned first, poses by one similarity per clip and depth by one factor per clip, as the
benchmarks named below do. Comparing them with metres unaligned says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.geometry import invert_pose, kabsch, rotation_angle, transform, umeyama


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a camera path, in the truth's unit.

    Attributes:
        ate: root mean square distance of camera centres after alignment (Sturm et al. 2012).
        rpe: mean length of the error of the motion between neighbouring frames, in the truth's unit.
        rpe_rad: mean angle of the same.
        scale: factor from the estimate's unit to the truth's.
        frames: how many poses were compared.
    """

    ate: float
    rpe: float
    rpe_rad: float
    scale: float
    frames: int


def pose_errors(T_camera_world: ArrayLike, T_camera_world_true: ArrayLike, *, scale_known: bool = False) -> PoseErrors:
    """`PoseErrors` of poses (T, 4, 4), NaN where unknown, against true ones (T, 4, 4).

    Args:
        T_camera_world: estimate.
        T_camera_world_true: truth.
        scale_known: the estimate is in the truth's unit; it is aligned rigidly and its scale is not forgiven.

    Raises:
        ValueError: fewer than three poses are known.
    """
    estimate, truth = np.asarray(T_camera_world, np.float64), np.asarray(T_camera_world_true, np.float64)
    known = np.flatnonzero(np.isfinite(estimate).all((1, 2)))
    if len(known) < 3:
        raise ValueError(f"{len(known)} poses are known, at least 3 are needed to align them")
    estimate, truth = estimate[known], truth[known]
    centres, centres_true = invert_pose(estimate)[:, :3, 3], invert_pose(truth)[:, :3, 3]
    scale, T_true_estimate = (1.0, kabsch(centres, centres_true)[0]) if scale_known else umeyama(centres, centres_true)
    off = transform(T_true_estimate, scale * centres) - centres_true
    estimate = estimate.copy()
    estimate[:, :3, 3] *= scale
    # Only neighbouring frames: the motion across unknown poses is longer.
    follows = np.diff(known) == 1
    step = (estimate[1:] @ invert_pose(estimate[:-1]))[follows]
    step_true = (truth[1:] @ invert_pose(truth[:-1]))[follows]
    return PoseErrors(
        ate=float(np.sqrt((off**2).sum(1).mean())),
        rpe=float(np.linalg.norm(step[:, :3, 3] - step_true[:, :3, 3], axis=1).mean()) if len(step) else 0.0,
        rpe_rad=float(rotation_angle(step[:, :3, :3], step_true[:, :3, :3]).mean()) if len(step) else 0.0,
        scale=scale,
        frames=len(known),
    )


@dataclass(frozen=True)
class DepthErrors:
    """Errors of depth where it claims to be valid.

    Attributes:
        abs_rel: mean of |z - z_true| / z_true (Eigen et al. 2014).
        median_rel: median of the same.
        within_25_percent: share with max(z / z_true, z_true / z) < 1.25.
        valid_share: share of the pixels with a true depth that claim one.
        scale: factor that was applied to the estimate, 1 where none was.
    """

    abs_rel: float
    median_rel: float
    within_25_percent: float
    valid_share: float
    scale: float


def depth_errors(depth: ArrayLike, depth_true: ArrayLike, *, align: bool) -> DepthErrors:
    """`DepthErrors` of z-depth (...) against the truth of the same shape; 0 is unknown in both.

    Args:
        depth: estimate.
        depth_true: truth.
        align: multiply the estimate by one factor, the median of z_true / z over all that is known in both.

    Raises:
        ValueError: nothing is known in both.
    """
    z, truth = np.asarray(depth, np.float64), np.asarray(depth_true, np.float64)
    known = (z > 0) & (truth > 0)
    if not known.any():
        raise ValueError("no pixel has both an estimated and a true depth")
    # The median of ratios: at edges single pixels are off by metres, and would draw a mean along.
    scale = float(np.median(truth[known] / z[known])) if align else 1.0
    ratio = scale * z[known] / truth[known]
    off = np.abs(ratio - 1)
    return DepthErrors(
        abs_rel=float(off.mean()),
        median_rel=float(np.median(off)),
        within_25_percent=float((np.maximum(ratio, 1 / ratio) < 1.25).mean()),
        valid_share=float(known.sum() / (truth > 0).sum()),
        scale=scale,
    )


def focal_error(K: ArrayLike, K_true: ArrayLike) -> float:
    """Largest relative error of the focal lengths of ``K`` (3, 3), signed: positive where too long."""
    ratio = np.diag(np.asarray(K, np.float64))[:2] / np.diag(np.asarray(K_true, np.float64))[:2] - 1
    # The worse axis, with its sign: one too long and one too short must not cancel.
    return float(ratio[np.abs(ratio).argmax()])


def marked_valid(depth: ArrayLike, pixels: NDArray[np.bool_]) -> float:
    """Share of ``pixels``, a mask of the depth's shape, where ``depth`` claims to be valid; 0 for an empty mask."""
    claimed = np.asarray(depth)[pixels] > 0
    return float(claimed.mean()) if claimed.size else 0.0
