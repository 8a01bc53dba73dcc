"""Depth, camera poses and intrinsics of a clip, by one of several backends: a sensor's file, structure from motion, a model."""

from __future__ import annotations

from pydantic import Field

from videolift.config import Positive, StageBlock


class DepthSettings(StageBlock):
    """Depth, camera pose and intrinsics."""

    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")


SETTINGS = DepthSettings
