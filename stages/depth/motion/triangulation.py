"""Depth of one frame from flow to other frames whose poses are known; what cannot be triangulated is 0, invalid.

Inverse depth is linear in the equations that flow and poses give, so each pixel is a small robust least-squares problem with a
closed solution. A pixel is valid where several views agree and its depth is certain enough; nothing is filled in. What moves by
itself breaks the agreement, so hands and held objects stay invalid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.depth.motion.dense_flow import FlowMatch
from videolift.geometry import Float, invert_pose

DepthImage = NDArray[np.float32]
BASELINES = (0.04, 0.08, 0.14)
"""Distances between cameras, over the scene's depth, that are wanted on either side of a frame."""
_ROUNDS = 3
_MIN_VIEWS, _MIN_INLIERS, _MIN_SHARE = 2, 0.8, 0.5
_AGREES = 0.5
"""Least weight of a view that counts as agreeing: a residual of 1 px."""
_FLOW_SIGMA_PX = 0.5
_TINY = np.float32(1e-12)
_MIN_VALID = 100
"""Pixels; fewer are taken for chance."""


def choose_partners(frame: int, centres_world: ArrayLike, valid: ArrayLike, depth: float, reach: int) -> list[int]:
    """Frames to triangulate ``frame`` with: on either side the nearest ones in time that are far enough apart in space.

    Args:
        frame: index.
        centres_world: camera centres (T, 3).
        valid: bool (T), where they are known.
        depth: typical depth of the scene, same unit.
        reach: most frames between partners.
    """
    centres, known = np.asarray(centres_world), np.asarray(valid, bool)
    # Near and far: near ones are matched surely, far ones measure depth sharply.
    partners: set[int] = set()
    for side in (range(frame - 1, max(frame - reach, 0) - 1, -1), range(frame + 1, min(frame + reach, len(centres) - 1) + 1)):
        candidates = [j for j in side if known[j]]
        apart = np.linalg.norm(centres[candidates] - centres[frame], axis=-1) / depth if candidates else np.zeros(0)
        for wanted in BASELINES:
            reached = np.flatnonzero(apart >= wanted)
            if len(reached):
                partners.add(candidates[int(reached[0])])
        # A camera that hardly moves: the farthest partner there is, better than none.
        if len(apart) and apart.max() < BASELINES[-1]:
            partners.add(candidates[int(apart.argmax())])
    return sorted(partners)


def triangulate_depth(
    matches: Iterable[tuple[int, FlowMatch]],
    frame: int,
    T_camera_world: Float,
    K: Float,
    max_relative_sigma: float,
) -> DepthImage | None:
    """z-depth of ``frame``, float32 (H, W), 0 where it is not certain to ``max_relative_sigma`` of itself; None below two views.

    Args:
        matches: (partner, `FlowMatch`) of ``frame``; partners have valid poses.
        frame: index.
        T_camera_world: (T, 4, 4).
        K: (3, 3).
        max_relative_sigma: a share.
    """
    T_world_frame = invert_pose(T_camera_world[frame])
    views = [_Equations.of(match, T_camera_world[partner] @ T_world_frame, K) for partner, match in matches]
    if len(views) < _MIN_VIEWS:
        return None
    weights = [view.trusted for view in views]
    for _ in range(_ROUNDS):
        information = _total(weight * view.bb for view, weight in zip(views, weights, strict=True))
        joint = _total(weight * view.bc for view, weight in zip(views, weights, strict=True))
        # float32: half the memory of a dozen images per view, and flow is good to half a pixel.
        w = np.asarray(-joint / np.maximum(information, _TINY), np.float32)
        # Cauchy's weights: a residual of 1 px counts half.
        weights = [view.trusted / (1.0 + float(K[0, 0]) ** 2 * view.squared_residual(w)) for view in views]
    agreeing = _total((weight > _AGREES).astype(np.float32) for weight in weights)
    asked = sum(view.trusted for view in views)
    sigma = _FLOW_SIGMA_PX / (float(K[0, 0]) * np.sqrt(np.maximum(information, _TINY)))
    valid = (
        (agreeing >= max(_MIN_VIEWS, _MIN_SHARE * len(views)))
        & (agreeing >= _MIN_INLIERS * asked)
        & (w > 0)
        & (sigma < max_relative_sigma * w)
    )
    if valid.sum() < _MIN_VALID:
        return np.zeros_like(w)
    # Single pixels far outside of all others are chance matches.
    low, high = np.percentile(w[valid], [0.5, 99.5])
    valid &= (w > 0.7 * low) & (w < 1.4 * high)
    # At a silhouette flow mixes foreground and background.
    valid = cv2.erode(valid.astype(np.uint8), np.ones((3, 3))) > 0
    return np.where(valid, 1.0 / np.where(valid, w, 1.0), 0.0).astype(np.float32)


@dataclass(frozen=True)
class _Equations:
    """What one partner says of inverse depth w: ``b w + c = 0`` in either image axis, kept as the products that are needed.

    Attributes:
        bb, bc, cc: float32 (H, W), summed over both axes.
        z, z_per_w: depth of the pixel in the partner is ``z + w z_per_w``, in units of 1 / w.
        inside, trusted: float32 (H, W), 0 or 1.
    """

    bb: DepthImage
    bc: DepthImage
    cc: DepthImage
    z: DepthImage
    z_per_w: float
    inside: DepthImage
    trusted: DepthImage

    @classmethod
    def of(cls, match: FlowMatch, T_partner_frame: Float, K: Float) -> _Equations:
        """What a match says, given where the partner's camera is from the frame's."""
        height, width = match.trusted.shape
        x = ((np.arange(width) - K[0, 2]) / K[0, 0]).astype(np.float32)
        y = ((np.arange(height) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None]
        R, t = T_partner_frame[:3, :3].astype(np.float32), T_partner_frame[:3, 3].astype(np.float32)
        along = [R[axis, 0] * x + (R[axis, 1] * y + R[axis, 2]) for axis in range(3)]
        bb, bc, cc = (np.zeros((height, width), np.float32) for _ in range(3))
        for axis in (0, 1):
            seen = (match.uv_px[..., axis] - np.float32(K[axis, 2])) / np.float32(K[axis, axis])
            b, c = seen * t[2] - t[axis], seen * along[2] - along[axis]
            bb += b * b
            bc += b * c
            cc += c * c
        inside, trusted = match.inside.astype(np.float32), match.trusted.astype(np.float32)
        return cls(bb=bb, bc=bc, cc=cc, z=along[2], z_per_w=float(t[2]), inside=inside, trusted=trusted)

    def squared_residual(self, w: DepthImage) -> DepthImage:
        """Squared distance in the partner's normalised image between where ``w`` projects and where flow leads."""
        z = np.maximum(self.z + w * self.z_per_w, 1e-3)
        return np.asarray(np.maximum((self.bb * w + 2 * self.bc) * w + self.cc, 0) / (z * z))


def _total(images: Iterable[DepthImage]) -> DepthImage:
    return np.asarray(sum(images), np.float32)
