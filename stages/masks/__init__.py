"""Instance masks: objects that a user points at in a video's first frame, followed through the clip by one of several backends."""

from __future__ import annotations

from pydantic import Field

from videolift.config import Positive, StageBlock


class MasksSettings(StageBlock):
    """Objects followed from the first frame on; for `query: mask` and for the packaged file. Off unless a backend is named."""

    backend: str = Field("none", description="backend by name, e.g. sam2; none: masks are those of the row's file alone")
    segment_s: Positive = Field(60.0, description="seconds of video saved together; a kill costs at most one segment")


SETTINGS = MasksSettings
