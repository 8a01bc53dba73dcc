"""Picture: one decoded frame as one frame of the clip; resized, turned upright, undistorted, cut out, 8-bit BT.709.

The order saves work and loses nothing: planes are averaged down first (INTER_AREA), everything else happens at the clip's size.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from stages.ingest.colour import Colour, RgbReader, to_bt709
from stages.ingest.orientation import Orientation
from videolift.errors import BadInput
from videolift.inputs.framing import Framing


class PictureMaker:
    """Makes every frame of one video in the same way; holds FFmpeg's converter and the lens's maps."""

    def __init__(self, framing: Framing, orientation: Orientation, colour: Colour) -> None:
        self._framing, self._orientation, self._colour = framing, orientation, colour
        self._reader = RgbReader()
        self.rescaled = 0
        """Frames whose stored size differed from the first one's, with the same shape."""

    def picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """``frame`` as u8 (H, W, 3).

        Raises:
            BadInput: ``size_changes``; its sides have another ratio than the first frame's.
        """
        self._check_shape(frame)
        resized = cv2.merge([self._resize(plane) for plane in self._reader.planes(frame, self._colour)])
        upright = self._orientation.apply(resized)
        return to_bt709(self._cut(upright), self._colour)

    def _check_shape(self, frame: VideoFrame) -> None:
        expected = self._orientation.size(self._framing.source_px)
        if (frame.width, frame.height) == expected:
            return
        self.rescaled += 1
        if abs(frame.width * expected[1] / (frame.height * expected[0]) - 1) > 0.01:
            text = f"its frames change from {expected[0]}x{expected[1]} to {frame.width}x{frame.height} px"
            raise BadInput("size_changes", text, "Split it where the size changes.")

    def _resize(self, plane: NDArray[Any]) -> NDArray[Any]:
        size = self._orientation.size(self._framing.resized_px)
        shrinks = size[0] <= plane.shape[1] and size[1] <= plane.shape[0]
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def _cut(self, upright: NDArray[Any]) -> NDArray[Any]:
        if self._framing.lens is not None:
            return cv2.remap(np.ascontiguousarray(upright), *self._maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        (left, top), (width, height) = self._framing.offset_px, self._framing.clip_px
        return upright[top : top + height, left : left + width]

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width, height = self._framing.clip_px
        uv = self._framing.resized_pixels(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)).astype(np.float32)
        return np.ascontiguousarray(uv[..., 0]), np.ascontiguousarray(uv[..., 1])
