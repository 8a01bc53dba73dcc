"""Settings of ViPE."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.models.model_process import ModelSettings
from videolift.config import Positive


class VipeSettings(ModelSettings):
    """ViPE: metric depth and camera pose."""

    pipeline: Literal["default", "no_vda", "lyra", "static_vda"] = Field(
        "default", description="ViPE's preset; lyra alone has no metric scale (recorded as arbitrary)"
    )
    mask_phrases: tuple[str, ...] = Field(("hand", "arm", "person"), description="what moves, masked out of SLAM")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view; none estimates it")
    hfov_min_deg: Positive = Field(30.0, description="an estimate below this quarantines the video")
    hfov_max_deg: Positive = Field(110.0, description="an estimate above this likewise")
    min_relative_relief: Positive = Field(0.02, description="std/median of depth below this: flat depth, quarantined")
    torch_home: str | None = Field(None, description="a TORCH_HOME of yours that holds its weights, instead of models_dir")
    hf_home: str | None = Field(None, description="an HF_HOME of yours, likewise")
