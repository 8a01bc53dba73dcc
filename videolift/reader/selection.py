"""What a sample holds, and which windows count: one typed value that every dataset of the reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

from videolift.errors import ConfigError

RequiredHands = Literal["left", "right", "either", "both"]
_REQUIRED_HANDS = ("left", "right", "either", "both")
_TIERS = ("A", "B", "C", "D")

QUALITY_SCORES = (
    *("wrist_keypoint_px", "hand_jitter_px", "hand_jitter_deg"),
    *("valid_depth", "depth_residual", "scale_flicker", "static_residual_px", "static_residual", "visible_at_end"),
    *("forward_backward_px", "keypoint_residual_px", "wrist_depth_gap", "cut_hands"),
)
"""Scores that a packaged file holds per frame; their definitions are in docs/format.md."""

ScoreLimits = tuple["float | None", "float | None"]
"""Least and greatest value that passes, None for no limit."""


@dataclass(frozen=True)
class Selection:
    """Which windows count, and how much of them is read.

    The keys and shapes of a sample follow from the selection, the image size and the window length alone: a part that a file
    does not have is zeros, and its mask False. `videolift shapes` prints them.

    Attributes:
        past_frames: frames that end at the window's first frame; before the clip's first frame, that one is repeated and
            ``frame_valid`` is False.
        window_frames: also the frames of the window's other L - 1 steps.
        rgb, depth, camera: per frame.
        tracks: points and camera motion of the window.
        hand_windows: both wrists over the window, in its first camera.
        keypoints, joints, hand_poses: both hands per frame: 2D keypoints, 3D joints, wrist poses; with ``hand_interpolated``.
        masks: the user's instance ids per frame.
        text: what is done in the video.
        quality: scores per frame, in this order, from `QUALITY_SCORES`.
        points: points per window, drawn uniformly; a window with fewer is padded and ``point_valid`` says which are real. None
            takes all, so that windows differ in shape.
        min_points: windows with fewer points do not count.
        require_hands: windows count where this hand (or either, or both) is valid at every step.
        tiers: only videos of these tiers.
        limits: windows count where these scores lie within their limits at the first frame; not measured is not within.
        stride: frames between windows that count, at least.
        seed: of everything drawn.

    Raises:
        ConfigError: a value that makes no sense.
    """

    past_frames: int = 1
    window_frames: bool = False
    rgb: bool = True
    depth: bool = True
    camera: bool = True
    tracks: bool = True
    hand_windows: bool = True
    keypoints: bool = False
    joints: bool = False
    hand_poses: bool = False
    masks: bool = False
    text: bool = False
    quality: tuple[str, ...] = ()
    points: int | None = None
    min_points: int = 0
    require_hands: RequiredHands | None = None
    tiers: tuple[str, ...] = ()
    limits: Mapping[str, ScoreLimits] = field(default_factory=lambda: MappingProxyType({}))
    stride: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("past_frames", 1), ("stride", 1), ("min_points", 0), ("points", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
                raise ConfigError(f"{name} is {value!r}, it must be a whole number of at least {least}")
        if self.require_hands is not None and self.require_hands not in _REQUIRED_HANDS:
            raise ConfigError(f"require_hands is {self.require_hands!r}, it must be one of {', '.join(_REQUIRED_HANDS)} or None")
        for tier in self.tiers:
            if tier not in _TIERS:
                raise ConfigError(f"tiers names {tier!r}, there are {', '.join(_TIERS)}")
        for name in (*self.quality, *self.limits):
            if name not in QUALITY_SCORES:
                raise ConfigError(f"there is no quality score {name!r} per frame; there are {', '.join(QUALITY_SCORES)}")
        for name, (least_value, greatest) in self.limits.items():
            if least_value is not None and greatest is not None and least_value > greatest:
                raise ConfigError(f"limits of {name} are {least_value} to {greatest}: nothing lies between them")
        object.__setattr__(self, "limits", dict(self.limits))  # a proxy cannot be pickled

    @property
    def looks_inside(self) -> bool:
        """True if only the files themselves can tell which windows count; else the index can."""
        # The index knows how many windows a file has and its tier; to know what is in a window its file must be opened.
        return self.min_points > 0 or self.require_hands is not None or bool(self.limits)
