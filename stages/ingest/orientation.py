"""Orientation: what a container's display matrix does to an image, as one of the eight turns and flips of a rectangle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from stages.ingest.colour import side_data


@dataclass(frozen=True)
class Orientation:
    """First transpose, then flip.

    Attributes:
        transpose: rows become columns.
        flip_x: left and right are swapped afterwards.
        flip_y: top and bottom are swapped afterwards.
        off_deg: how far the matrix was from this orientation; a few degrees cannot be undone without new pixels, so they stay.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    off_deg: float = 0.0

    @property
    def mirrored(self) -> bool:
        """True where no turn alone does it."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn in degrees (0, 90, 180, 270), after a left-right flip where `mirrored`."""
        x_axis = (0, -1 if self.flip_y else 1) if self.transpose else (-1 if self.flip_x else 1, 0)
        sign = -1 if self.mirrored else 1
        return round(math.degrees(math.atan2(sign * x_axis[1], sign * x_axis[0]))) % 360

    def size(self, stored_px: tuple[int, int]) -> tuple[int, int]:
        """(W, H) of the upright image."""
        return (stored_px[1], stored_px[0]) if self.transpose else stored_px

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """The upright view of an image (H, W, ...) as stored; no copy."""
        out = image.swapaxes(0, 1) if self.transpose else image
        return out[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def orientation(matrix: NDArray[np.int32]) -> Orientation:
    """From FFmpeg's display matrix (3, 3), 16.16 fixed point: (x, y) of the stored image goes to (a x + c y, b x + d y).

    VideoSource: libavutil/display.h. A matrix of zeros means upright.
    """
    a, b, c, d = (float(matrix[i, j]) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    turn = math.degrees(math.atan2(b, a)) if abs(a) + abs(b) > 0 else 0.0
    off = abs(turn - 90 * round(turn / 90))
    if abs(b) > abs(a):
        return Orientation(True, c < 0, b < 0, off)
    return Orientation(False, a < 0, d < 0, off)


def frame_orientation(frame: VideoFrame) -> Orientation:
    """The orientation that the container attached to a decoded frame."""
    matrix = side_data(frame, Type.DISPLAYMATRIX)
    return Orientation() if matrix is None else orientation(np.frombuffer(matrix, np.int32).reshape(3, 3))
