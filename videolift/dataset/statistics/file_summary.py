"""What a packaged file says of itself for the dataset's index and statistics: counts, attributes, accumulators."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.errors import CorruptFile

_PACKED_ARRAYS = ("moments", "counts", "extrema", "bins", "layout")
"""Of `Accumulators.pack`, as a packaged file holds them under ``stats/``."""
_SUMMARY_ATTRIBUTES = (
    *("tier", "scale", "pose", "intrinsics", "parts", "missing", "profile", "size", "size_px", "fps", "window_length", "stride"),
    *("depth_min_m", "depth_max_m", "text", "subject", "hands", "tracks", "lineage", "hand_scale", "length_unit", "shots"),
)


def describe_file(file: PackagedFile) -> dict[str, Any]:
    """What the index says of a packaged file: counts and attributes.

    Raises:
        CorruptFile: something it needs is missing or of another type.
    """
    attributes = file.attributes()
    about = {name: attributes[name] for name in _SUMMARY_ATTRIBUTES if name in attributes}
    about |= {"source_sha256": file.attribute_of_type("source", dict).get("sha256")}
    # JSON has no NaN, and the index holds JSON.
    about = {name: _without_nan(value) for name, value in about.items()}
    about |= {"frames": len(file), "windows": len(file.window_start), "unbroken": list(map(list, file.unbroken))}
    if len(about.get("shots") or ()) < 2:
        about.pop("shots", None)  # says nothing that the file's own tier and scale do not
    # Files of older releases have no scores.
    quality = file.attribute_of_type("quality", dict) if "quality" in attributes else {}
    try:
        about["quality"] = {name: score["value"] for name, score in quality.items() if score["value"] is not None}
        about["poor"] = sorted(name for name, score in quality.items() if score["poor"])
    except (KeyError, TypeError) as error:
        raise CorruptFile(f"{file.path}: quality is not a table of scores: {error}") from error
    if file.has("tracks/offsets"):
        about["points"] = int(file.offsets[-1])
    if file.has("hands/valid"):
        valid, interpolated = file.array("hands/valid"), file.array("hands/interpolated")
        share = float(interpolated[valid].mean()) if valid.any() else None
        about |= {"hands_valid_frames": int(valid.any(1).sum()), "hands_interpolated_share": share}
    if (known := file.hands_known) is not None:
        about |= {name: list(map(list, ranges)) for name, ranges in zip(("left_known", "right_known"), known, strict=True)}
    return about


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def packed_statistics(file: PackagedFile) -> dict[str, NDArray[Any]]:
    """The accumulators inside a packaged file.

    Raises:
        CorruptFile: absent, or a checksum does not match.
    """
    if not all(file.has(f"stats/{name}") for name in _PACKED_ARRAYS):
        raise CorruptFile(f"{file.path}: it holds no statistics")
    return {name: file.array(f"stats/{name}") for name in _PACKED_ARRAYS}
