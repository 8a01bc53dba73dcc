"""A video's artifacts as one packaged HDF5 file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from videolift.config import Count, Part, Positive, Share, StageBlock, Tier, inherited
from videolift.dataset.profiles import PROFILES

if TYPE_CHECKING:
    # mypy cannot follow a Literal that is built from a table.
    ProfileName = str
else:
    ProfileName = Literal[tuple(PROFILES)]


class CreateH5Settings(StageBlock):
    """The packaged file."""

    size: Count = Field(256, le=4096, description="pixels of the shorter side")
    view: Literal["square", "full"] = Field(
        "square", description="square: the clip's centre, of a padded clip all of it with bars; full: the whole clip, not square"
    )
    depth_min_m: Positive = Field(0.1, description="metres; nearer query points are dropped, statistics and readers clip")
    depth_max_m: Positive = Field(2.5, description="metres; likewise for farther ones")
    profile: ProfileName = Field("default", description="default: lossless; fast: read by memory map; tiny: lossy, errors stated")
    min_points: NonNegativeFloat = Field(10, description="points per window in the mean; a shot with fewer gives no windows")
    min_valid_depth: Share = Field(0.1, description="share of pixels with depth; likewise")
    min_valid_poses: Share = Field(0.5, description="share of frames with a camera pose; likewise")
    min_tier: Tier | None = inherited("min_tier", "none takes the run's min_tier; see there")
    required: tuple[Part, ...] | None = inherited("required", "none takes the run's required; see there")
    window_length: Annotated[int, Field(ge=2)] | None = inherited("tracks.window_length", "none takes that of tracks")
    stride: Count | None = inherited("tracks.stride", "none takes that of tracks")

    @model_validator(mode="after")
    def _ordered(self) -> CreateH5Settings:
        if self.depth_min_m >= self.depth_max_m:
            raise ValueError(f"depth_min_m is {self.depth_min_m}, must be below depth_max_m {self.depth_max_m}")
        return self


SETTINGS = CreateH5Settings
