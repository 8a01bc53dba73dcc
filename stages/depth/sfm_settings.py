"""Settings of structure from motion; whoever follows a camera shares them."""

from __future__ import annotations

from pydantic import Field

from videolift.config import Block, Count, Positive, Share


class SfmSettings(Block):
    """Structure from motion on a CPU (facts and thresholds: docs/backends.md)."""

    focal_guess: Positive = Field(0.85, description="first guess of the focal length, as a share of the long side")
    features: Count = Field(900, le=100_000, description="corners tracked per frame")
    static_px: Positive = Field(0.7, description="median motion over 20 frames below this: the camera stands still")
    rotation_px: Positive = Field(0.7, description="median left of that motion by the best pure rotation below this: rotation only")
    max_reprojection_px: Positive = Field(1.0, description="mean reprojection error above this refuses the reconstruction")
    min_registered: Share = Field(0.8, description="share of keyframes that must be registered")
    hfov_min_deg: Positive = Field(35.0, description="narrower fields of view (along the long side) are refused as mis-estimated")
    hfov_max_deg: Positive = Field(115.0, description="wider ones likewise; not asked of a known camera")
    max_relative_sigma: Positive = Field(0.08, description="depth less certain than this share of itself is invalid")
    plane_pitch_deg: float = Field(40.0, description="tilt of the assumed table when depth cannot be observed")
    plane_depth_m: Positive = Field(0.6, description="assumed distance to that table at the image centre")
