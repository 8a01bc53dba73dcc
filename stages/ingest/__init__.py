"""A video file as the clip that every later stage sees: resampled by true timestamps, upright, cut to size, 8-bit BT.709."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from videolift.config import Count, Positive, Share, StageBlock


class IngestSettings(StageBlock):
    """Decoding: timestamps, size, colour."""

    fps: Positive = Field(10.0, le=1000, description="frames per second kept, resampled by true timestamps")
    width: Count = Field(512, le=8192, description="pixels; swapped with height for portrait videos when fit is auto")
    height: Count = Field(384, le=8192, description="pixels")
    fit: Literal["auto", "crop", "stretch", "pad"] = Field(
        "auto",
        description="auto: cover-resize and centre crop, swapped for portrait; crop: never swapped; stretch: no crop; "
        "pad: the whole picture at the scale of auto, padded where a square is packaged",
    )
    cuts: bool = Field(True, description="hard cuts, fades and dissolves end a shot, and nothing reaches across; off: one shot")
    black_below: Share = Field(0.02, description="a clip whose brightest frame's mean is below this share is refused as black")


SETTINGS = IngestSettings
