"""Points that move: each follows its own flow while its neighbours bear it out, and goes with them where they do not.

Neighbours are those that were near in space at the first step. Lengths are shares of the point's depth, so that any unit will do;
at 0.55 m one per cent is 5.5 mm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.tracks.chain import inside_image
from stages.tracks.point_paths import PointPaths, WindowFrames, near_points
from videolift.geometry import Float, project, transform, unproject

_MIN_HEARD = 3
"""Neighbours with trusted flow; fewer are not asked."""
_MAX_JUMP = 0.07
"""A step's depth farther from the expected one is that of something else."""
_FOLLOWS, _FOLLOWS_TRUSTED = 0.007, 0.014
"""A point keeps to its own flow that close to where its neighbours go; twice as far where going there and back returns."""
_FITS = 0.017
"""Depth measured where the neighbours go that is the point's."""
_SURE, _SURE_TRUSTED = 0.009, 0.036
"""Still visible that close to where the neighbours go."""
_MIN_CARRIERS = 6
"""A point that goes with that many neighbours to where its depth is measured is still seen."""
_MAX_STRETCH = 0.0065
"""Distances to the neighbours that change by more, in the median, tell that the point has slid along the surface."""


def follow_moving(frames: WindowFrames, points_cam0: Float, uv_px: NDArray[np.float32]) -> PointPaths:
    """The paths of moving points (N, 3) of the first camera, seen at pixels (N, 2) of its image."""
    neighbours = _Neighbours(points_cam0)
    here, velocity = points_cam0.copy(), np.zeros_like(points_cam0)
    at, seen, sure = uv_px, np.ones(len(uv_px), bool), np.ones(len(uv_px), bool)
    uv, visible, valid, xyz = [uv_px], [sure], [seen], [points_cam0]
    for k in range(1, len(frames)):
        T_k_before = frames.between(k - 1, k)
        unmoved = transform(T_k_before, here)  # as if it stood still since the last step
        # The velocity too turns with the camera.
        velocity = velocity @ T_k_before[:3, :3].T
        z_expected = unmoved[:, 2] + velocity[:, 2]
        flowed, trusted = frames.flow.follow(frames.pairs[k - 1], at)
        z = frames.depth_near(k, flowed, z_expected)
        by_flow = unproject(flowed, z, frames.K)
        with np.errstate(invalid="ignore"):
            measured = seen & (np.abs(z - z_expected) < _MAX_JUMP * z_expected)
        # The median: a few neighbours on another surface do not pull the point along.
        common, heard = neighbours.median_of(by_flow - unmoved, measured & trusted)
        with_others = unmoved + np.where((heard >= _MIN_HEARD)[:, None], common, velocity)
        z_others = with_others[:, 2]
        apart = np.linalg.norm(by_flow - with_others, axis=1) / z_others
        with np.errstate(invalid="ignore"):
            alone = (heard < _MIN_HEARD) & trusted
            own = measured & ((apart < _FOLLOWS) | (trusted & (apart < _FOLLOWS_TRUSTED)) | alone)
            uv_others = project(with_others, frames.K).astype(np.float32)
            z_there = frames.depth_near(k, uv_others, z_others)
            fits = np.abs(z_there - z_others) < _FITS * z_others
        by_others = np.where(fits[:, None], unproject(uv_others, np.where(fits, z_there, z_others), frames.K), with_others)
        here = np.where(own[:, None], by_flow, by_others)
        at = np.where(own[:, None], flowed, np.where(np.isfinite(uv_others), uv_others, at)).astype(np.float32)
        velocity, seen = here - unmoved, own | fits
        with np.errstate(invalid="ignore"):
            follows = own & ((apart < _SURE) | (trusted & (apart < _SURE_TRUSTED)) | alone)
            # Once in doubt a point stays in doubt: it may have slid onto its neighbour.
            sure = sure & (follows | (~own & fits & (heard >= _MIN_CARRIERS)))
            sure = sure & ~(neighbours.stretch(here) > _MAX_STRETCH * z_others)
        uv.append(at)
        visible.append(sure & inside_image(at, frames.flow.clip_size_px))
        valid.append(seen | (heard >= _MIN_HEARD))
        xyz.append(transform(frames.between(k, 0), here))
    known = np.stack(valid)
    return PointPaths(np.stack(uv), np.stack(visible), np.where(known[..., None], np.stack(xyz), np.nan), known)


class _Neighbours:
    """Which points (N, 3) are near each other at the first step, themselves included, and what they say together."""

    def __init__(self, points_cam0: Float) -> None:
        self._index, self._near = near_points(points_cam0, points_cam0)
        self._distance = self._distances(points_cam0)

    def median_of(self, vectors: Float, told: NDArray[np.bool_]) -> tuple[Float, NDArray[np.intp]]:
        """Median (N, 3) over the near ones of those ``told`` (N), NaN where there are none, and over how many (N)."""
        use = self._near & told[self._index]
        return _median(np.where(use[..., None], vectors[self._index], np.nan)), use.sum(1)

    def stretch(self, points: Float) -> Float:
        """By how much the distances to the near ones have changed, in the median (N)."""
        return _median(np.abs(self._distances(points) - self._distance)[..., None])[:, 0]

    def _distances(self, points: Float) -> Float:
        apart = np.linalg.norm(points[:, None] - points[self._index], axis=-1)
        return np.where(self._near, apart, np.nan)


def _median(values: Float) -> Float:
    """Median over the second axis of (N, n, d), NaN left out: what `np.nanmedian` gives, several times faster."""
    ranked, count = np.sort(values, axis=1), np.isfinite(values).sum(1)
    low, high = ((count - 1).clip(0) // 2, count // 2)
    middle = [np.take_along_axis(ranked, rank.clip(0, values.shape[1] - 1)[:, None], axis=1)[:, 0] for rank in (low, high)]
    return np.asarray(0.5 * (middle[0] + middle[1]))
