"""What each shot of a video is worth: its depth's kind and scale, then what of it was measured; refused by `gates`.

Turns artifacts into one `ShotWorth` per shot. A file has one unit of length; what cannot stand in it gives no windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset.gates import (
    Gates,
    ShotWorth,
    common_scale,
    content_refusal,
    scale_refusal,
    tier_refusal,
    too_short,
)
from videolift.dataset.hand_scale import HandScale, hand_scale
from videolift.dataset.windows import window_starts
from videolift.errors import BadInput
from videolift.shots import NO_SHOT, Shot, shots_of

_SAMPLED_WINDOWS = 32
"""Windows of a shot whose points are counted beforehand."""


@dataclass(frozen=True)
class ShotDepth:
    """How one shot's depth is to be packaged.

    Attributes:
        worth: of the shot.
        hand_scale: what hands say of its unit; None where it is known or no hands were looked for.
    """

    worth: ShotWorth
    hand_scale: HandScale | None = None


def shots_by_kind(
    clip: Clip, depth: Depth | None, hands: Hands | None, tracks: Tracks | None, gates: Gates, window_length: int, stride: int
) -> list[ShotDepth]:
    """Every shot, refused where its depth is of a kind or in a unit that the file cannot hold."""
    found = [_shot_depth(shot, depth, hands, gates, window_length, stride) for shot in shots_of(clip.shot)]
    stated = [] if tracks is None else tracks.attrs.get("shots", [])
    failed = {int(about["first"]): str(about["refused"]) for about in stated if "refused" in about}
    found = [
        _refused(one, _part_failed("tracks", failed[one.worth.shot.first])) if one.worth.shot.first in failed else one
        for one in found
    ]
    scale = common_scale([one.worth for one in found if one.worth.refused is None])
    return found if scale is None else [_refused(one, scale_refusal(one.worth, scale)) for one in found]


def _shot_depth(shot: Shot, depth: Depth | None, hands: Hands | None, gates: Gates, window_length: int, stride: int) -> ShotDepth:
    worth = ShotWorth(shot, len(window_starts(len(shot), window_length, stride)))
    if not worth.windows:
        return ShotDepth(replace(worth, refused=too_short(len(shot), window_length)))
    if depth is None:
        return ShotDepth(worth)
    about = depth_of_shot(depth, shot)
    if "refused" in about:
        return ShotDepth(replace(worth, refused=_part_failed("depth", str(about["refused"]))))
    scale, found = str(about["scale"]), None
    if scale == "arbitrary" and hands is not None:
        found = hand_scale(depth, hands, slice(shot.first, shot.end))
        scale = scale if found.factor is None else "hand"
    factor = 1.0 if found is None or found.factor is None else found.factor
    tier, pose, intrinsics = (str(about[name]) for name in ("tier", "pose", "intrinsics"))
    worth = replace(worth, scale=scale, factor=factor, tier=tier, pose=pose, intrinsics=intrinsics)
    return ShotDepth(replace(worth, refused=tier_refusal(worth, gates)), found)


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
