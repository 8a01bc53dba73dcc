"""Windows: what a trainer reads of the tracks, the camera and the hands from one frame on, for ``window_length`` frames.

Pure functions of arrays. Everything is expressed in the window's first camera and, for positions, as (u, v, d): image position in
units of the image size, and depth. Formulas and the rule of which points are kept: docs/format.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.geometry import Float, Float32, T_cam0_camk, invert_pose, pose_9d, rotation_6d
from videolift.shot_ranges import shots_of

Bools = NDArray[np.bool_]

ImageSize = int | tuple[int, int]
"""Pixels of an image: the side of a square, or (width, height)."""


def window_starts(frames: int, window_length: int, stride: int, shot: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
    """First frames (W) of the windows of a clip, every ``stride`` frames from where a shot begins; none reaches across a cut.

    Args:
        frames: T of the clip.
        window_length: frames per window.
        stride: frames from one window to the next; what is left at a shot's end is not a window.
        shot: (T) the shot of each frame, -1 for none; None: all of it is one.
    """
    runs = [(0, frames)] if shot is None else [(one.first, one.end) for one in shots_of(shot)]
    starts = [np.arange(first, end - window_length + 1, stride, dtype=np.int64) for first, end in runs]
    return np.concatenate([np.zeros(0, np.int64), *starts])


def to_uvd(xyz_camera: ArrayLike, K: ArrayLike, size: ImageSize) -> Float32:
    """(u, v, d) f32 of camera-frame points (..., 3) in an image of ``size`` pixels with ``K`` (3, 3).

    u = (x + 0.5) / width for pixel x, v alike with the height, d = z. u and v are NaN where z is not positive.
    """
    xyz, K = np.asarray(xyz_camera, np.float64), np.asarray(K, np.float64)
    out = np.empty(xyz.shape, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / np.where(xyz[..., 2] > 0, xyz[..., 2], np.nan)
    for axis, pixels in enumerate(_both(size)):
        out[..., axis] = xyz[..., axis] * inverse * (K[axis, axis] / pixels) + (K[axis, 2] + 0.5) / pixels
    out[..., 2] = xyz[..., 2]
    return out


def kept_points(
    uvd: Float32,
    uv_px: ArrayLike,
    valid3d: ArrayLike,
    visible: ArrayLike,
    size: ImageSize,
    depth_range_m: tuple[float, float] | None,
) -> Bools:
    """Which points (N) of a window are packaged; one decision for all its steps, so that identities never mix.

    Args:
        uvd: (L, N, 3) from `to_uvd`, in the window's first camera.
        uv_px: (L, N, 2) packaged pixels of frame k's own image.
        valid3d, visible: (L, N).
        size: pixels of the packaged image.
        depth_range_m: limits of d at the first step; None where lengths are not metres.
    """
    uv_px = np.asarray(uv_px)
    with np.errstate(invalid="ignore"):
        good = uvd[..., 2] > 0
        good &= np.asarray(valid3d)
        for axis, pixels in enumerate(_both(size)):  # column by column: reducing over an axis of 2 costs several times as much
            u, x = uvd[..., axis], uv_px[..., axis]
            good &= (u >= 0) & (u < 1) & (x >= -0.5) & (x < pixels - 0.5)
        kept: Bools = good.all(0) & np.asarray(visible)[0]
        if depth_range_m is not None:
            kept &= (uvd[0, :, 2] >= depth_range_m[0]) & (uvd[0, :, 2] <= depth_range_m[1])
    return kept


def displacements(uvd: Float32) -> Float32:
    """uvd_k - uvd_0 for (L, ..., 3); step 0 is 0."""
    return uvd - uvd[:1]


def window_poses(T_camera_world: ArrayLike) -> tuple[Float, Float32]:
    """``T_cam0_camk`` f64 (L, ..., 4, 4), and as 9 numbers f32 (..., L, 9), for windows' ``T_camera_world`` (L, ..., 4, 4).

    NaN at steps whose pose, or whose first pose, is not known.
    """
    T = T_cam0_camk(T_camera_world)
    # The whole matrix: a product with an unknown one may still hold some numbers.
    T[~np.isfinite(T).all((-2, -1))] = np.nan
    return T, np.moveaxis(pose_9d(T), 0, -2).astype(np.float32)


def point_order(seed: int, start: int, points: int) -> NDArray[np.int64]:
    """The stored order of a window's points: random, so that any run of them is a fair sample, and always the same."""
    # The start is part of the seed: windows share most of their points, and one order would make their runs alike.
    return np.random.default_rng([seed, start]).permutation(points)


@dataclass(frozen=True)
class HandWindows:
    """Both hands over windows, in each window's first camera; NaN where not known. Side axis (left, right)."""

    query_uvd: Float32
    """(..., 2, 3)"""
    displacement_uvd: Float32
    """(..., 2, L, 3)"""
    query_rot6d: Float32
    """(..., 2, 6)"""
    displacement_rot6d: Float32
    """(..., 2, L, 6) of R_k R_0^T"""


def hand_windows(T_camera_wrist: ArrayLike, valid: ArrayLike, T_cam0_camk: Float, K: ArrayLike, size: ImageSize) -> HandWindows:
    """Hands seen from their window's first camera, so that a still hand stays still when the camera moves.

    Args:
        T_camera_wrist: (L, ..., 2, 4, 4) in each frame's own camera.
        valid: (L, ..., 2); a hand that is not valid at step 0 is NaN throughout.
        T_cam0_camk: (L, ..., 4, 4).
        K: (3, 3) of the packaged image of ``size`` pixels.
    """
    T = T_cam0_camk[..., None, :, :] @ np.asarray(T_camera_wrist, np.float64)
    valid = np.asarray(valid, bool)
    # Without a first step there is nothing that the others are relative to.
    T[~(valid & valid[:1])] = np.nan
    R, uvd = T[..., :3, :3], to_uvd(T[..., :3, 3], K, size)
    # All or nothing: a hand behind the camera has a depth and no place in the image.
    uvd[~np.isfinite(uvd).all(-1)] = np.nan
    turned = rotation_6d(R @ np.swapaxes(R[:1], -1, -2)).astype(np.float32)
    moved = displacements(uvd)
    return HandWindows(uvd[0], np.moveaxis(moved, 0, -2), rotation_6d(R[0]).astype(np.float32), np.moveaxis(turned, 0, -2))


def world_wrists(T_camera_wrist: ArrayLike, valid: ArrayLike, T_camera_world: ArrayLike) -> Float32:
    """``T_world_wrist`` f32 (T, 2, 4, 4): wrists with the camera's motion taken out; NaN where wrist or camera is not known.

    Args:
        T_camera_wrist: (T, 2, 4, 4) in each frame's own camera.
        valid: (T, 2).
        T_camera_world: (T, 4, 4), NaN where not known.
    """
    T = invert_pose(np.asarray(T_camera_world, np.float64))[:, None] @ np.asarray(T_camera_wrist, np.float64)
    T[~(np.asarray(valid, bool) & np.isfinite(T).all((-2, -1)))] = np.nan
    return T.astype(np.float32)


def _both(size: ImageSize) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
