"""``normalization_stats.yaml``: accumulators as the table that trainers read, keys as the predecessor's plus our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from videolift.dataset.statistics.accumulators import BIN_RANGE, BIN_WIDTH, QUANTILES, Accumulators, ChannelSummary, moments

# As torchvision states them, for encoders that were trained on ImageNet.
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_MOMENTS = {
    "displacement": ("displacement", "displacement_num_samples"),
    "pose": ("pose", "pose_num_samples"),
    "hand_uvd_displacement": ("hand_uvd_disp", "hand_pose_num_samples"),
    "hand_rot_displacement": ("hand_rot_disp", "hand_rot_num_samples"),
}
"""Accumulator name to the prefix and the count key it has in the table."""


def normalization_table(
    statistics: Accumulators,
    by_split: Mapping[str, Accumulators],
    *,
    group: str,
    videos: int,
    left_out: int,
) -> dict[str, Any]:
    """The table of one group of so many videos; ``left_out`` are not in it, for any reason.

    ``depth_mean`` and ``depth_std`` are of valid pixels and query points together; ``min``, ``max`` and ``quantiles`` keep them
    apart. ``splits`` repeats moments and counts per split.
    """
    table: dict[str, Any] = {"imagenet_mean": IMAGENET_MEAN, "imagenet_std": IMAGENET_STD, "track_type": "3d", "track_dim": 3}
    table |= {"group": group, "videos": videos, "left_out": left_out}
    table |= _moment_keys(statistics)
    summaries = statistics.summaries()
    frames = summaries.pop("hand_frames", None)
    if frames is not None and frames[0].samples:
        table["hand_interpolated_share"] = frames[0].mean
    table["min"] = {name: _column(channels, "minimum") for name, channels in summaries.items()}
    table["max"] = {name: _column(channels, "maximum") for name, channels in summaries.items()}
    # Lists, as YAML reads them back: verification compares the two.
    table["quantiles"] = {
        name: [None if c.quantiles is None else list(c.quantiles) for c in channels] for name, channels in summaries.items()
    }
    table["quantile_levels"] = list(QUANTILES)
    table["quantile_note"] = (
        "rgb, depth: exact. Others: within "
        f"{BIN_WIDTH / 2:g} inside +-{BIN_RANGE:g}, the extremum beyond. One row per channel, one column per level."
    )
    table["splits"] = {split: _moment_keys(part) for split, part in sorted(by_split.items())}
    return table


def _moment_keys(statistics: Accumulators) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if "rgb" in statistics.parts:
        rgb = [statistics.parts["rgb"].summary(c) for c in range(3)]
        keys |= {"rgb_mean": _column(rgb, "mean"), "rgb_std": _column(rgb, "std"), "rgb_num_samples": rgb[0].samples}
    exact = [statistics.parts[name].exact(0) for name in ("depth", "query_depth") if name in statistics.parts]
    samples = sum(n for n, _, _ in exact)
    if samples:
        total, square = sum((t for _, t, _ in exact), Fraction()), sum((s for _, _, s in exact), Fraction())
        mean, std = moments(samples, total, square)
        keys |= {"depth_mean": mean, "depth_std": std, "depth_num_samples": samples}
    for name, (prefix, count) in _MOMENTS.items():
        part = statistics.parts.get(name)
        if part is not None and part.summary(0).samples:
            channels = [part.summary(c) for c in range(part.channels)]
            keys |= {f"{prefix}_mean": _column(channels, "mean"), f"{prefix}_std": _column(channels, "std")}
            keys[count] = channels[0].samples
    return keys


def _column(channels: Sequence[ChannelSummary], name: str) -> list[float | None]:
    return [getattr(channel, name) for channel in channels]
