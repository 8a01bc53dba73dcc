"""Chain: dense optical flow between neighbouring frames, followed by points of many windows at once, and lifted to 3D.

Flow is computed once per pair of frames, forward and backward, whatever the number of windows that pass it. A point is visible
while going there and back returns to its start; once lost it stays lost. Pure arrays; knows no clip, window or file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.config import FlowSettings
from videolift.geometry import unproject

_REMAP_COLUMNS = 1024
"""Points are sampled as an image this wide: remap takes no dimension above 32,767."""
_RETURNING = 256
"""Points of a window that are followed back; of some 3,000, so that it costs next to nothing."""


@dataclass(frozen=True, repr=False)
class FlowPair:
    """Flow between two frames, f32 (h, w, 2) in pixels of the size it was computed at.

    Attributes:
        forward: from the first frame to the second, at pixels of the first.
        backward: from the second to the first, at pixels of the second.
    """

    forward: NDArray[np.float32]
    backward: NDArray[np.float32]


class DenseFlow:
    """DIS flow (Kroeger et al. 2016) for frames of one size.

    OpenCV's medium preset with fewer iterations, fewer still backward, where flow only says who to trust: a third cheaper, and
    chained over ten frames no less exact (benchmarks/tracks.py).

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
        self._forward = _dis(descent=12, refinement=3, patch_stride=3)
        self._backward = _dis(descent=12, refinement=2, patch_stride=4)

    def grey(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An RGB frame (H, W, 3) as `between` takes it."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        if self.flow_size_px == self.clip_size_px:
            return grey
        return cv2.resize(grey, self.flow_size_px, interpolation=cv2.INTER_AREA)

    def between(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FlowPair:
        """Flow between two frames given by `grey`."""
        return FlowPair(self._forward.calc(first, second, None), self._backward.calc(second, first, None))

    def follow(self, pair: FlowPair, uv_px: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Points (N, 2) of the first frame in the second, both in pixels of the clip, and where they can be trusted.

        Trusted (N): inside the second frame, and the way back misses the start by less than
        ``occlusion_px + occlusion_share * motion``, in pixels of the flow.
        """
        there = sample(pair.forward, self._to_flow(uv_px))
        uv_next = uv_px + there / self._scale
        back = there + sample(pair.backward, self._to_flow(uv_next))
        limit = self._settings.occlusion_px + self._settings.occlusion_share * _length(there)
        return uv_next, (_length(back) < limit) & inside(uv_next, self.clip_size_px)

    def turn_back(
        self, backward: Sequence[NDArray[np.float32]], uv_px: NDArray[np.float32], visible: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """How far (n) points end from their start, in pixels of the clip, when they go back from where they were last seen.

        Of ``uv_px`` and ``visible``, (L, N, 2) and (L, N), a sample of at most `_RETURNING` points that were seen beyond the first
        frame; ``backward`` holds the L - 1 flows (h, w, 2) from each frame to the one before.
        """
        chosen = np.flatnonzero(visible[1])
        chosen = chosen[:: max(1, -(-len(chosen) // _RETURNING))]
        last = visible[:, chosen].sum(0) - 1  # what is lost stays lost
        at = uv_px[last, chosen]
        for k in range(len(backward), 0, -1):
            here = np.flatnonzero(last >= k)
            at[here] += sample(backward[k - 1], self._to_flow(at[here])) / self._scale
        return _length(at - uv_px[0, chosen])

    def _to_flow(self, uv_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """`videolift.geometry.resize_pixels`, in single precision."""
        return (uv_px + np.float32(0.5)) * self._scale - np.float32(0.5)


def _dis(*, descent: int, refinement: int, patch_stride: int) -> cv2.DISOpticalFlow:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setGradientDescentIterations(descent)
    dis.setVariationalRefinementIterations(refinement)
    dis.setPatchStride(patch_stride)
    return dis


def sample(image: NDArray[np.float32], uv_px: ArrayLike) -> NDArray[np.float32]:
    """``image`` f32 (h, w, c) at points (N, 2), bilinear, the border repeated outside: (N, c)."""
    points = np.asarray(uv_px, np.float32)
    padded = np.zeros((-(-len(points) // _REMAP_COLUMNS) * _REMAP_COLUMNS, 2), np.float32)
    padded[: len(points)] = points
    maps = padded.reshape(-1, _REMAP_COLUMNS, 2)
    if not len(points):
        return np.zeros((0, image.shape[2]), np.float32)
    values = cv2.remap(image, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(len(padded), -1)[: len(points)]


def inside(uv_px: NDArray[np.floating], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """True (N) for points (N, 2) within an image of (W, H) pixels."""
    u, v = uv_px[:, 0], uv_px[:, 1]
    return (u >= -0.5) & (u < size_px[0] - 0.5) & (v >= -0.5) & (v < size_px[1] - 0.5)


def lift(
    uv_px: NDArray[np.floating], depth: NDArray[np.floating], K: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Points (N, 3) in the camera behind pixels (N, 2) of its image, and where they rest on measured depth (N); NaN elsewhere.

    Depth ``depth`` (H, W), 0 invalid, is that of the nearest pixel: across an edge a mixture would lie in mid-air.
    """
    height, width = depth.shape
    within = inside(uv_px, (width, height))
    column, row = np.rint(np.where(within[:, None], uv_px, 0.0)).astype(np.intp).T
    z = depth[row, column].astype(np.float64)
    valid = within & np.isfinite(z) & (z > 0)
    return unproject(uv_px, np.where(valid, z, np.nan), K), valid


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
