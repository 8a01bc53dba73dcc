"""Dense optical flow between neighbouring frames, points that follow it, and pixels lifted to 3D.

Flow is computed once per pair of frames, forward and backward, whatever the number of windows that pass it. Pure arrays; knows no
clip, window or file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.optical_flow import NO_START, FlowImage, dis_flow, sample_bilinear
from videolift.config import Block, Count, Positive, Share
from videolift.geometry import Float, unproject

_MAX_RETURNING = 256
"""Points of a window that are followed back; of some 3,000, so that it costs next to nothing."""


_PATCH = np.stack(np.meshgrid(*2 * [np.arange(-3, 4)]), axis=-1).reshape(-1, 2).astype(np.float32)


class FlowSettings(Block):
    """Tracks by chained dense optical flow, on a CPU."""

    max_side_px: Count = Field(640, description="flow is computed at this size of the long side at most")
    occlusion_px: Positive = Field(
        0.8, description="forward-backward error that ends visibility, plus occlusion_share of the motion"
    )
    occlusion_share: Share = Field(0.05, description="see occlusion_px")


@dataclass(frozen=True, repr=False)
class FlowPair:
    """Flow between two frames, f32 (h, w, 2) in pixels of the size it was computed at.

    Attributes:
        forward: from the first frame to the second, at pixels of the first.
        backward: from the second to the first, at pixels of the second.
    """

    forward: FlowImage
    backward: FlowImage


class DenseFlow:
    """DIS flow (Kroeger et al. 2016) for frames of one size.

    Forward down to single pixels, which fingers need; backward, where flow only says who to trust, at half the size and cheaper.

    Args:
        settings: ``max_side_px`` limits the size flow is computed at.
        size_px: (W, H) of the clip.
    """

    def __init__(self, settings: FlowSettings, size_px: tuple[int, int]) -> None:
        scale = min(1.0, settings.max_side_px / max(size_px))
        self.clip_size_px = size_px
        self.flow_size_px = (max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale)))
        self._scale = (np.array(self.flow_size_px) / np.array(size_px)).astype(np.float32)
        self._settings = settings
        self._forward = dis_flow(finest_scale=0, descent=12, refinement=8, patch_stride=4)
        self._backward = dis_flow(finest_scale=1, descent=12, refinement=2, patch_stride=4)

    def grey(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An RGB frame (H, W, 3) as `between` takes it."""
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        if self.flow_size_px == self.clip_size_px:
            return grey
        return np.asarray(cv2.resize(grey, self.flow_size_px, interpolation=cv2.INTER_AREA), np.uint8)

    def between(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FlowPair:
        """Flow between two frames given by `grey`."""
        forward, backward = self._forward.calc(first, second, NO_START), self._backward.calc(second, first, NO_START)
        return FlowPair(np.asarray(forward, np.float32), np.asarray(backward, np.float32))

    def follow(self, pair: FlowPair, uv_px: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Points (N, 2) of the first frame in the second, both in pixels of the clip, and where they can be trusted.

        Trusted (N): inside the second frame, and the way back misses the start by less than
        ``occlusion_px + occlusion_share * motion``, in pixels of the flow.
        """
        there = sample_bilinear(pair.forward, self._to_flow(uv_px))
        uv_next = uv_px + there / self._scale
        back = there + sample_bilinear(pair.backward, self._to_flow(uv_next))
        # The farther flow carries a point, the larger its error.
        limit = self._settings.occlusion_px + self._settings.occlusion_share * _length(there)
        return uv_next, (_length(back) < limit) & inside_image(uv_next, self.clip_size_px)

    def patches(self, grey: NDArray[np.uint8], uv_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image around points (N, 2): 7 x 7 pixels each (N, 49), their mean taken away so that brightness does not count."""
        pixels = self._to_flow(uv_px)[:, None] + _PATCH
        values = sample_bilinear(grey.astype(np.float32)[..., None], pixels)[..., 0]
        return np.asarray(values - values.mean(1, keepdims=True))

    def turn_back(
        self, backward: Sequence[FlowImage], uv_px: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """How far (n) points end from their start, in pixels of the clip, when they go back from where they were last seen.

        Of ``uv_px`` and ``visible``, (L, N, 2) and (L, N), a sample of at most `_MAX_RETURNING` points that were seen beyond the
        first frame; ``backward`` holds the L - 1 flows (h, w, 2) from each frame to the one before.
        """
        chosen = np.flatnonzero(visible[1])
        # Every n-th, so that the sample is spread over the picture.
        chosen = chosen[:: max(1, -(-len(chosen) // _MAX_RETURNING))]
        last = visible[:, chosen].sum(0) - 1  # what is lost stays lost
        at = uv_px[last, chosen]
        for k in range(len(backward), 0, -1):
            here = np.flatnonzero(last >= k)
            at[here] += sample_bilinear(backward[k - 1], self._to_flow(at[here])) / self._scale
        return _length(at - uv_px[0, chosen])

    def _to_flow(self, uv_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """`videolift.geometry.resize_pixels`, in single precision."""
        return np.asarray((uv_px + np.float32(0.5)) * self._scale - np.float32(0.5))


def inside_image(uv_px: Float, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """True (N) for points (N, 2) within an image of (W, H) pixels."""
    u, v = uv_px[:, 0], uv_px[:, 1]
    return (u >= -0.5) & (u < size_px[0] - 0.5) & (v >= -0.5) & (v < size_px[1] - 0.5)


def lift_nearest(uv_px: Float, depth: Float, K: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Points (N, 3) in the camera behind pixels (N, 2) of its image, and where they rest on measured depth (N); NaN elsewhere.

    Depth ``depth`` (H, W), 0 invalid, is that of the nearest pixel: across an edge a mixture would lie in mid-air.
    """
    height, width = depth.shape
    within = inside_image(uv_px, (width, height))
    column, row = np.rint(np.where(within[:, None], uv_px, 0.0)).astype(np.intp).T
    z = depth[row, column].astype(np.float64)
    valid = within & np.isfinite(z) & (z > 0)
    return unproject(uv_px, np.where(valid, z, np.nan), K), valid


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2))
