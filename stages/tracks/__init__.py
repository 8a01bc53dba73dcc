"""3D point tracks for every window of a clip, by one of several backends: chained optical flow, a learned tracker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from videolift.config import Count, Positive, StageBlock


class TracksSettings(StageBlock):
    """3D point tracks for every window."""

    window_length: int = Field(10, ge=2, le=10_000, description="frames per window")
    stride: Count = Field(1, description="frames between window starts")
    query: Literal["grid", "random", "mask"] = Field("grid", description="where points start in a window's first image")
    points: Count = Field(3000, le=1_000_000, description="points asked for per window; points without depth are dropped")
    mask_erode_px: int = Field(3, ge=0, description="a mask is eroded by this before points are drawn in it")
    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")


SETTINGS = TracksSettings
