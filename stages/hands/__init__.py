"""Hand poses, both sides, by one of several backends: MediaPipe, WiLoR; geometry and time are shared."""

from __future__ import annotations

from pydantic import Field

from videolift.config import Positive, StageBlock


class HandsSettings(StageBlock):
    """Hand poses, both sides."""

    max_gap: int = Field(5, ge=0, description="frames without a hand that are interpolated (and flagged) at most")
    max_speed_m_s: Positive = Field(3.0, description="a wrist that jumps faster than this, both ways, is an outlier")
    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")


SETTINGS = HandsSettings
