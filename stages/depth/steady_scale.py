"""Metric depth whose scale flickers from frame to frame, made steady: factors per frame, estimated once over the video.

Single-image models give metres per frame, each frame with an error of its own (a few percent). Here depth maps go in and one
factor per frame comes out. Knows no model and no file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]
_LEAST_PIXELS = 50
_TRIM = 0.25
"""Share of the ratios cut off on either side: what moves, and silhouettes."""


class StaticReference:
    """The depth that most of a few frames of an unmoving camera agree on; gives the factor of any frame.

    Args:
        depth_m: z (n, H, W) of frames spread over the video, 0 invalid.
    """

    def __init__(self, depth_m: ArrayLike) -> None:
        log_depth = _log(np.asarray(depth_m))
        with np.errstate(all="ignore"):
            for _ in range(3):  # frames to their common median, then the median of the frames
                middle = _nanmedian(log_depth, 0)
                shift = np.array([_trimmed_mean(frame - middle) for frame in log_depth])
                log_depth = log_depth - np.nan_to_num(shift - np.median(shift))[:, None, None]
        self._log_depth = _nanmedian(log_depth, 0)

    def factor(self, depth_m: ArrayLike) -> float:
        """What one frame's depth (H, W) is multiplied with; 1 where too few pixels tell."""
        return float(np.exp(np.nan_to_num(_trimmed_mean(self._log_depth - _log(np.asarray(depth_m))))))


def agree_with_points(depth_m: ArrayLike, uv_px: ArrayLike, z: ArrayLike) -> float:
    """Median of depth over ``z`` at points of known depth in another unit: metres per that unit; NaN where fewer than 50 tell.

    Args:
        depth_m: (H, W), 0 invalid.
        uv_px: (n, 2).
        z: (n) of the points in the frame's camera.
    """
    depth, uv, known = np.asarray(depth_m, np.float64), np.rint(np.asarray(uv_px, np.float64)), np.asarray(z, np.float64)
    height, width = depth.shape
    inside = (known > 0) & (uv >= 0).all(1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    columns, rows = uv[inside].astype(int).T
    found = depth[rows, columns]
    ratios = found[found > 0] / known[inside][found > 0]
    return float(np.median(ratios)) if len(ratios) >= _LEAST_PIXELS else float("nan")


def smooth_log_factors(metres_per_unit: ArrayLike) -> tuple[float, Float]:
    """One unit for the video, and a factor per frame that brings each frame's metric depth to it.

    Args:
        metres_per_unit: (T) from `agree_with_points`, NaN where unknown.

    Returns:
        metres per unit (median), and factors (T); 1 where unknown.

    Raises:
        ValueError: unknown in every frame.
    """
    ratios = np.asarray(metres_per_unit, np.float64)
    if not np.isfinite(ratios).any():
        raise ValueError("no frame has enough points to compare depth with")
    unit = float(np.nanmedian(ratios))
    return unit, np.where(np.isfinite(ratios), unit / ratios, 1.0)


def _log(depth: NDArray[np.floating]) -> Float:
    out = np.full(depth.shape, np.nan, np.float32)
    np.log(depth, out=out, where=depth > 0)
    return out


def _nanmedian(stack: Float, axis: int) -> Float:
    known = np.isfinite(stack).any(axis)
    out = np.full(known.shape, np.nan, stack.dtype)
    out[known] = np.nanmedian(stack[:, known], axis=axis)
    return out


def _trimmed_mean(values: Float) -> float:
    """Mean of the middle half; NaN of too few values."""
    known = values[np.isfinite(values)]
    if len(known) < _LEAST_PIXELS:
        return float("nan")
    low, high = np.quantile(known, [_TRIM, 1 - _TRIM])
    return float(known[(known >= low) & (known <= high)].mean())
