"""Dense optical flow between frames of a clip: once per neighbouring pair, chained to reach farther frames. Knows no camera.

A direct flow between far frames needs a good start. Chaining the flows of the pairs in between gives it, and where the chain and
the direct flow disagree neither is trusted. Only the pairs around the current frame are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.grey import GreyFrames
from stages.optical_flow import FlowImage, dis_flow, sample_bilinear

_AGREE_PX = 2.0
_BORDER_PX = 1.0


@dataclass(frozen=True)
class FlowMatch:
    """Where every pixel of one frame is in another.

    Attributes:
        uv_px: float32 (H, W, 2).
        inside: bool (H, W); that is inside the other image.
        trusted: bool (H, W); inside, and two ways of getting there agree.
    """

    uv_px: FlowImage
    inside: NDArray[np.bool_]
    trusted: NDArray[np.bool_]


def pixel_grid(height: int, width: int) -> FlowImage:
    """Each pixel's own coordinates, float32 (H, W, 2)."""
    v, u = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([u, v], axis=-1)


class FlowField:
    """Flow of a clip; ``keep`` pairs of frames are held, about 1.6 MB each at 512 x 384."""

    def __init__(self, grey: GreyFrames, *, keep: int) -> None:
        dis = dis_flow()

        @lru_cache(maxsize=2 * keep)
        def pair(start: int, end: int) -> NDArray[np.float16]:
            # Without a start OpenCV takes what it was last given as one, and the result depends on what was computed before.
            still = np.zeros((*grey[start].shape, 2), np.float32)
            # float16 holds a flow of 100 px to 0.06 px and halves the memory.
            return dis.calc(grey[start], grey[end], still).astype(np.float16)

        self._grey, self._dis, self._pair = grey, dis, pair

    def matches(self, frame: int, partners: list[int]) -> Iterator[tuple[int, FlowMatch]]:
        """The match of ``frame`` with each of ``partners``, nearest first on either side."""
        height, width = self._grey[frame].shape
        grid = pixel_grid(height, width)
        for side in (-1, 1):
            wanted = sorted((p for p in partners if (p - frame) * side > 0), key=lambda p: abs(p - frame))
            at, chained = frame, grid
            for partner in wanted:
                while at != partner:
                    chained = chained + sample_bilinear(self._pair(at, at + side).astype(np.float32), chained)
                    at += side
                uv = grid + self._dis.calc(self._grey[frame], self._grey[partner], chained - grid)
                # A pixel's match within the border was found with half a patch outside the image.
                u, v = uv[..., 0], uv[..., 1]
                inside = (u > _BORDER_PX) & (v > _BORDER_PX) & (u < width - 1 - _BORDER_PX) & (v < height - 1 - _BORDER_PX)
                off_u, off_v = u - chained[..., 0], v - chained[..., 1]
                yield partner, FlowMatch(uv, inside, inside & (off_u * off_u + off_v * off_v < _AGREE_PX**2))
