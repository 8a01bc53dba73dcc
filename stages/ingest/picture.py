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
        expected_px = self._orientation.size(self._framing.source_px)
        if (frame.width, frame.height) != expected_px:
            self.rescaled += 1
            # encoders that adapt to a connection change the size and keep the shape, up to rounding to even sides
            if abs(frame.width * expected_px[1] / (frame.height * expected_px[0]) - 1) > 0.01:
                text = f"its frames change from {expected_px[0]}x{expected_px[1]} to {frame.width}x{frame.height} px"
                raise BadInput("size_changes", text, "Split it where the size changes.")
        resized_px = self._orientation.size(self._framing.resized_px)
        shrinks = resized_px[0] <= frame.width and resized_px[1] <= frame.height
        # INTER_AREA averages when it shrinks; when it enlarges it repeats pixels
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        planes = self._reader.planes(frame, self._colour)
        upright = self._orientation.apply(cv2.merge([cv2.resize(p, resized_px, interpolation=interpolation) for p in planes]))
        if self._framing.lens is not None:
            # cv2.remap takes no negative strides, which a turned or flipped view has
            upright = np.ascontiguousarray(upright)
            cut: NDArray[Any] = cv2.remap(upright, *self._lens_maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        else:
            (left, top), (width, height) = self._framing.offset_px, self._framing.clip_px
            cut = upright[top : top + height, left : left + width]
        return to_bt709(cut, self._colour)

    @cached_property
    def _lens_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width, height = self._framing.clip_px
        uv = self._framing.resized_pixels(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)).astype(np.float32)
        return np.ascontiguousarray(uv[..., 0]), np.ascontiguousarray(uv[..., 1])
