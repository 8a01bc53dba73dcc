"""Gates: what each shot of a video is worth, and whether it holds enough to be trained on.

Turns artifacts into one `ShotWorth` per shot, refused where its depth is of a kind or in a unit that the file cannot hold, or where
what was measured is too little. The refusals are pure decisions over figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset.hand_scale import HandScale, hand_scale
from videolift.dataset.layout import METRE_SCALES
from videolift.dataset.windows import window_starts
from videolift.errors import BadInput
from videolift.shot_ranges import NO_SHOT, Shot, shots_of

# The mean of 32 is within a fifth of the spread between windows (1 / sqrt 32), and a gate is set in tens of points.
_SAMPLED_WINDOWS = 32
"""Windows of a shot whose points are counted beforehand."""

_TIERS = {"A": "sensor", "B": "learned", "C": "structure from motion", "D": "a prior"}
_STATIC = (
    "depth cannot be observed from a camera that does not move: "
    "give depth (rgbd), use the preset laptop or gpu, or accept a prior with min_tier: D"
)
_CAMERA_HELPS = "say which camera it is (columns camera or calib of the table, docs/calibration.md)"


def _depth_helps(tier: str) -> str:
    # Tier B comes from a preset with a network already: what that one does not see, another may.
    return "take another depth backend (docs/backends.md)" if tier == "B" else "set preset: laptop (no card needed) or gpu"


@dataclass(frozen=True)
class Gates:
    """Least that a shot must hold; see `stages.create_h5.CreateH5Settings`. As they are here all pass."""

    min_tier: Literal["A", "B", "C", "D"] = "D"
    min_points: float = 0.0
    min_valid_depth: float = 0.0
    min_valid_poses: float = 0.0


@dataclass(frozen=True)
class ShotWorth:
    """One shot of a video, as it is to be packaged.

    Attributes:
        shot: its frames.
        windows: it has room for.
        tier, scale, pose, intrinsics: of its depth; ``none`` without.
        factor: metres per unit of its depth where hands tell, else 1.
        valid_depth, valid_poses: shares of pixels and of frames; None without depth.
        points: packaged per window, in the mean; None without tracks.
        refused: why none of its windows are packaged, and what helps; None where they are.
    """

    shot: Shot
    windows: int
    tier: str = "none"
    scale: str = "none"
    pose: str = "none"
    intrinsics: str = "none"
    factor: float = 1.0
    valid_depth: float | None = None
    valid_poses: float | None = None
    points: float | None = None
    refused: BadInput | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"shot {self.shot.number} (frames {self.shot.first} to {self.shot.end - 1})"

    def describe(self) -> dict[str, Any]:
        """As the file's attribute ``shots`` has it; what is not known is left out."""
        own = ("tier", "scale", "pose", "intrinsics", "factor", "valid_depth", "valid_poses", "points")
        values = {name: getattr(self, name) for name in own}
        refused = {} if self.refused is None else {"refused": self.refused.text}
        windows = 0 if self.refused is not None else self.windows
        known = {name: value for name, value in values.items() if value not in (None, "none")}
        return {"first": self.shot.first, "end": self.shot.end, "windows": windows, **known, **refused}


def too_short(frames: int, window_length: int) -> BadInput:
    """Why a clip or a shot has no window."""
    text = f"it has {frames} frames, a window needs {window_length}"
    return BadInput("too_short", text, "Use a longer part of the video, a higher ingest.fps or a smaller tracks.window_length.")


def tier_refusal(worth: ShotWorth, gates: Gates) -> BadInput | None:
    """Why depth of this kind is not good enough."""
    if worth.tier == "none" or worth.tier <= gates.min_tier:
        return None
    text = f"depth is tier {worth.tier}, {_TIERS[worth.tier]}; min_tier is {gates.min_tier}"
    if worth.tier == "D" and worth.pose in ("static", "rotation"):
        text = _STATIC
    remedy = (
        f"Name a depth file in the video's row, or {_depth_helps(worth.tier)}; or take it as it is with min_tier: {worth.tier}."
    )
    if worth.intrinsics == "assumed":
        remedy = f"{_CAMERA_HELPS[0].upper()}{_CAMERA_HELPS[1:]}; or {remedy[0].lower()}{remedy[1:]}"
    return BadInput("tier_below_minimum", text, remedy)


def content_refusal(worth: ShotWorth, gates: Gates) -> BadInput | None:
    """Why what was measured in this shot is too little, with the figures and what would help."""
    short, depth_helps = [], f"name a depth file in the video's row, or {_depth_helps(worth.tier)}"
    if worth.valid_depth is not None and worth.valid_depth < gates.min_valid_depth:
        short.append(
            (
                f"{worth.valid_depth:.1%} of the pixels have depth, create_h5.min_valid_depth is {gates.min_valid_depth:.0%}",
                f"for more depth {depth_helps}",
            )
        )
    if worth.valid_poses is not None and worth.valid_poses < gates.min_valid_poses:
        short.append(
            (
                f"{worth.valid_poses:.1%} of the frames have a camera pose, "
                f"create_h5.min_valid_poses is {gates.min_valid_poses:.0%}",
                f"{_CAMERA_HELPS}, " * (worth.intrinsics == "assumed")
                + "cut the video to the part in which the camera is followed (start and end in the table), "
                + f"or {_depth_helps(worth.tier)}",
            )
        )
    if worth.points is not None and worth.points < gates.min_points:
        short.append(
            (
                f"a window has {worth.points:.1f} points in the mean, create_h5.min_points is {gates.min_points:g}",
                f"for more points raise tracks.points; where depth is missing {depth_helps}",
            )
        )
    if not short:
        return None
    # Everything that falls short, not only the first: each correction may cost a run.
    texts, remedies = zip(*short, strict=True)
    remedy = "; ".join(remedies) + "; to take it as it is, lower what is named here for it (overrides)"
    return BadInput("too_little", "; ".join(texts), remedy[0].upper() + remedy[1:] + ".")


def common_scale(worths: Sequence[ShotWorth]) -> str | None:
    """The one unit of length of a file: that of its best tier, there of most frames, metres where those are equal."""
    tier: dict[str, str] = {}
    frames: dict[str, int] = {}
    for worth in worths:
        tier[worth.scale] = min(worth.tier, tier.get(worth.scale, worth.tier))
        frames[worth.scale] = frames.get(worth.scale, 0) + len(worth.shot)
    best = [scale for scale in frames if tier[scale] == min(tier.values())]
    return max(best, key=lambda scale: (frames[scale], scale in METRE_SCALES), default=None)


def scale_refusal(worth: ShotWorth, scale: str) -> BadInput | None:
    """Why a shot cannot stand in a file whose lengths are of ``scale``."""
    if worth.scale == scale:
        return None
    text = f"the scale of its lengths is {worth.scale}, the file's is {scale}: it has one, that of its best tier"
    return BadInput("other_scale", text, "List this part of the video by itself (start and end in the table).")


def no_shot_left(worths: Sequence[ShotWorth]) -> BadInput:
    """The refusal of a video none of whose shots may be packaged: that of its longest."""
    longest = max(worths, key=lambda worth: len(worth.shot))
    assert longest.refused is not None
    if len(worths) == 1:  # a video without cuts: its user need not read about shots
        return longest.refused
    text = f"none of its {len(worths)} shots can be packaged; the longest, {longest.name}: {longest.refused.text}"
    return BadInput(longest.refused.code, text, longest.refused.remedy)


@dataclass(frozen=True)
class ShotDepth:
    """How one shot's depth is to be packaged.

    Attributes:
        worth: of the shot.
        hand_scale: what hands say of its unit; None where it is known or no hands were looked for.
    """

    worth: ShotWorth
    hand_scale: HandScale | None = None

    @classmethod
    def of(cls, shot: Shot, depth: Depth | None, hands: Hands | None, gates: Gates, window_length: int, stride: int) -> ShotDepth:
        """One shot by itself, refused where it is too short, or its depth of a kind that is not good enough."""
        worth = ShotWorth(shot, len(window_starts(len(shot), window_length, stride)))
        if not worth.windows:
            return cls(replace(worth, refused=too_short(len(shot), window_length)))
        if depth is None:
            return cls(worth)
        about = depth_of_shot(depth, shot)
        if "refused" in about:
            return cls(replace(worth, refused=_part_failed("depth", str(about["refused"]))))
        scale, found = str(about["scale"]), None
        # Only where the unit is unknown: a measured or assumed one is worth more than the size of a hand.
        if scale == "arbitrary" and hands is not None:
            found = hand_scale(depth, hands, slice(shot.first, shot.end))
            scale = scale if found.factor is None else "hand"
        factor = 1.0 if found is None or found.factor is None else found.factor
        tier, pose, intrinsics = (str(about[name]) for name in ("tier", "pose", "intrinsics"))
        worth = replace(worth, scale=scale, factor=factor, tier=tier, pose=pose, intrinsics=intrinsics)
        return cls(replace(worth, refused=tier_refusal(worth, gates)), found)


def shots_by_kind(
    clip: Clip, depth: Depth | None, hands: Hands | None, tracks: Tracks | None, gates: Gates, window_length: int, stride: int
) -> list[ShotDepth]:
    """Every shot, refused where its depth is of a kind or in a unit that the file cannot hold."""
    found = [
        ShotDepth.of(shot, depth, hands, gates=gates, window_length=window_length, stride=stride) for shot in shots_of(clip.shot)
    ]
    stated = [] if tracks is None else tracks.attrs.get("shots", [])
    failed = {int(about["first"]): str(about["refused"]) for about in stated if "refused" in about}
    found = [
        _refused(one, _part_failed("tracks", failed[one.worth.shot.first])) if one.worth.shot.first in failed else one
        for one in found
    ]
    # Only now: the unit of the file is that of the shots that are left.
    scale = common_scale([one.worth for one in found if one.worth.refused is None])
    return found if scale is None else [_refused(one, scale_refusal(one.worth, scale)) for one in found]


def depth_of_shot(depth: Depth, shot: Shot) -> Mapping[str, Any]:
    """What depth says of one shot; of a video without cuts that is what it says of the video."""
    return next((about for about in depth.attrs.get("shots", []) if about["first"] == shot.first), depth.attrs)


def _part_failed(part: str, why: str) -> BadInput:
    return BadInput("shot_failed", f"{part}: {why}", "List this part of the video by itself (start and end in the table).")


def _refused(one: ShotDepth, why: BadInput | None) -> ShotDepth:
    return one if one.worth.refused is not None else replace(one, worth=replace(one.worth, refused=why))


def judge_content(
    worth: ShotWorth,
    gates: Gates,
    *,
    valid_depth: NDArray[np.float32] | None,
    pose_valid: NDArray[np.bool_] | None,
    points: Callable[[Sequence[int]], float] | None,
    starts: NDArray[np.int64],
) -> ShotWorth:
    """The shot with its figures, refused where they are too little.

    Args:
        worth: a shot; one that is refused stays as it is.
        gates: limits.
        valid_depth: (T) share of pixels with depth in every frame of the video; None without depth.
        pose_valid: (T) likewise.
        points: mean points per window, of windows by their first frames; None without tracks.
        starts: first frames of the shot's windows.
    """
    if worth.refused is not None:
        return worth
    part = slice(worth.shot.first, worth.shot.end)
    # some windows stand for all, so that not every one is made twice
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, min(len(starts), _SAMPLED_WINDOWS)).round().astype(int))]
    judged = replace(
        worth,
        valid_depth=None if valid_depth is None else float(np.nanmean(valid_depth[part])),
        valid_poses=None if pose_valid is None else float(pose_valid[part].mean()),
        points=None if points is None else points(chosen.tolist()),
    )
    return replace(judged, refused=content_refusal(judged, gates))


def shot_with_windows(shot: NDArray[np.int32], worths: Sequence[ShotWorth]) -> NDArray[np.int32]:
    """The shot (T) of each frame; -1 also in those that were refused."""
    refused = [worth.shot.number for worth in worths if worth.refused is not None]
    return np.where(np.isin(shot, refused), np.int32(NO_SHOT), shot)
