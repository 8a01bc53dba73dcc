"""Tables and columns of ``index.sqlite``, each with its type, unit and meaning; the file itself carries this description.

`encode_video` and `decode_video` translate between a row and what a packaged file says of itself. Nothing is opened here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videolift.dataset.quality import SCORES

SCHEMA_VERSION = 3
"""Of ``index.sqlite`` and of ``dataset.json``; version 1 was a ``dataset.json`` that listed every file."""
ColumnKind = Literal["TEXT", "INTEGER", "REAL", "JSON"]
SqlValue = str | int | float | None


@dataclass(frozen=True)
class IndexColumn:
    """One column.

    Attributes:
        kind: its type; JSON is text that holds JSON.
        required: never NULL.
    """

    name: str
    kind: ColumnKind
    unit: str
    meaning: str
    required: bool = False

    @property
    def definition(self) -> str:
        """As SQL declares it."""
        key = " PRIMARY KEY" if self.name == "video" else ""
        return f"{self.name} {'TEXT' if self.kind == 'JSON' else self.kind}{key}{' NOT NULL' if self.required else ''}"


VIDEO_COLUMNS: tuple[IndexColumn, ...] = (
    IndexColumn("video", "TEXT", "", "the video's id", True),
    IndexColumn(
        "folder", "TEXT", "", "where `file` begins: empty for the folder of the index, else the folder of a merged shard", True
    ),
    IndexColumn("file", "TEXT", "", "the packaged file", True),
    IndexColumn("sha256", "TEXT", "hex", "of the packaged file's bytes", True),
    IndexColumn("bytes", "INTEGER", "bytes", "size of the packaged file", True),
    IndexColumn("source_sha256", "TEXT", "hex", "of the source's bytes; parts of one recording share it"),
    IndexColumn("split", "TEXT", "", "train, val, test, or the user's own", True),
    IndexColumn("tier", "TEXT", "", "where depth comes from: A sensor, B learned, C structure from motion, D a prior, none", True),
    IndexColumn("scale", "TEXT", "", "what lengths are: metric, hand, assumed, arbitrary, none", True),
    IndexColumn("pose", "TEXT", "", "how the camera's motion was found"),
    IndexColumn("intrinsics", "TEXT", "", "given, named, estimated or assumed: how K is known; part of the group"),
    IndexColumn("wrist_method", "TEXT", "", "how wrists were placed, as the hands backend states it; JSON where sides differ"),
    IndexColumn("parts", "TEXT", "", "what the file holds besides images, separated by commas: depth, tracks, hands, mask", True),
    IndexColumn("profile", "TEXT", "", "how arrays are stored: default, fast, tiny"),
    IndexColumn("frames", "INTEGER", "frames", "of the file", True),
    IndexColumn("windows", "INTEGER", "windows", "of the file"),
    IndexColumn("points", "INTEGER", "points", "tracked in all windows together; NULL without tracks"),
    IndexColumn("fps", "REAL", "1/s", "frames per second", True),
    IndexColumn("size", "INTEGER", "px", "the shorter side of the images", True),
    IndexColumn("width_px", "INTEGER", "px", "width of the images", True),
    IndexColumn("height_px", "INTEGER", "px", "height of the images", True),
    IndexColumn("window_length", "INTEGER", "frames", "of a window", True),
    IndexColumn("stride", "INTEGER", "frames", "from one window's start to the next one's", True),
    IndexColumn("depth_min_m", "REAL", "m", "nearest depth of a query point, where lengths are metres"),
    IndexColumn("depth_max_m", "REAL", "m", "farthest depth of a query point, where lengths are metres"),
    IndexColumn("length_unit", "TEXT", "", "unit of the file's lengths"),
    IndexColumn("hands_valid_frames", "INTEGER", "frames", "with at least one valid hand; NULL without hands"),
    IndexColumn("hands_interpolated_share", "REAL", "share", "of valid hands that were filled between measured frames"),
    IndexColumn("unbroken", "TEXT", "frames", "JSON: first and end of each stretch without a cut or a gap in time"),
    IndexColumn("left_known", "TEXT", "frames", "JSON: likewise, where left wrist, joints and camera are known; NULL without any"),
    IndexColumn("right_known", "TEXT", "frames", "JSON: likewise, of the right hand"),
    IndexColumn("text", "TEXT", "", "the table's description of the task"),
    IndexColumn("subject", "TEXT", "", "the table's column: who was filmed"),
    IndexColumn("session", "TEXT", "", "the table's column, where there is one"),
    IndexColumn("camera", "TEXT", "", "the table's column, where there is one"),
    IndexColumn("licence", "TEXT", "", "the table's column `licence` or `license`: of the recording itself"),
    *(IndexColumn(f"quality_{name}", "REAL", score.unit, score.definition) for name, score in SCORES.items()),
    IndexColumn("poor", "TEXT", "", "scores beyond their threshold, separated by commas", True),
)
DETAIL_COLUMNS: tuple[IndexColumn, ...] = (
    IndexColumn("video", "TEXT", "", "the video's id", True),
    IndexColumn("lineage", "JSON", "", "stage to `backend` (id in the table backend), `shrink`, `checks`, `figures`"),
    IndexColumn("missing", "JSON", "", "part to the reason why it is absent"),
    IndexColumn("hands", "JSON", "", "backend and method of the hands"),
    IndexColumn("tracks", "JSON", "", "backend and settings of the tracks"),
    IndexColumn("hand_scale", "JSON", "", "the factor by the size of the hands, and its spread"),
    IndexColumn("metadata", "JSON", "", "the table's other columns, as they were given"),
    IndexColumn("other", "JSON", "", "what else the file states"),
)
_OTHER_TABLES: dict[str, tuple[IndexColumn, ...]] = {
    "dataset": (
        IndexColumn(
            "name", "TEXT", "", "a key of dataset.json; `card`, what the card was given; `splits_rule`, how splits were drawn"
        ),
        IndexColumn("value", "JSON", "", "its value"),
    ),
    "backend": (
        IndexColumn("id", "TEXT", "hex", "hash of `identity`, as lineages name it"),
        IndexColumn("identity", "JSON", "", "name, version, settings, weights"),
    ),
    "left_out": (
        IndexColumn("video", "TEXT", "", "a video that has no packaged file"),
        IndexColumn("reason", "TEXT", "", "why: excluded, quarantined or blocked, and what happened"),
    ),
    "column_info": (
        IndexColumn("table_name", "TEXT", "", "a table of this file"),
        IndexColumn("column_name", "TEXT", "", "a column of it"),
        IndexColumn("kind", "TEXT", "", "its type; JSON is text that holds JSON"),
        IndexColumn("unit", "TEXT", "", "its unit, empty for none"),
        IndexColumn("meaning", "TEXT", "", "what it holds"),
    ),
}
TABLES: dict[str, tuple[IndexColumn, ...]] = {"video": VIDEO_COLUMNS, "detail": DETAIL_COLUMNS, **_OTHER_TABLES}

_VIDEO_NAMES = tuple(column.name for column in VIDEO_COLUMNS)
_DETAIL_NAMES = tuple(column.name for column in DETAIL_COLUMNS)
_PLACES = {name: place for place, name in enumerate(_VIDEO_NAMES)}
_DETAIL_PLACES = {name: place for place, name in enumerate(_DETAIL_NAMES) if place}
_RANGES = ("unbroken", "left_known", "right_known")
_FROM_TABLE = ("session", "camera", "licence")
_NOTHING_FROM_TABLE: dict[str, SqlValue] = dict.fromkeys((*_FROM_TABLE, "metadata"))
_COMPUTED = {*_VIDEO_NAMES, *_DETAIL_NAMES, "size_px", "quality"}


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One video as its two rows hold it: values in the order of `VIDEO_COLUMNS` and of `DETAIL_COLUMNS`."""

    video: tuple[SqlValue, ...]
    detail: tuple[SqlValue, ...]

    def value(self, name: str) -> SqlValue:
        """Of a column of `VIDEO_COLUMNS`."""
        return self.video[_PLACES[name]]

    def text(self, name: str) -> str:
        """Of a column of `VIDEO_COLUMNS` that holds text; empty for NULL."""
        value = self.value(name)
        return "" if value is None else str(value)

    def with_values(self, changes: Mapping[str, Any]) -> IndexRow:
        """The same row with other values; keys are names of columns."""
        video, detail = list(self.video), list(self.detail)
        for name, value in changes.items():
            if name in _DETAIL_PLACES:
                detail[_DETAIL_PLACES[name]] = value
            else:
                video[_PLACES[name]] = value
        if "video" in changes:  # the one column that both tables have
            detail[0] = changes["video"]
        return IndexRow(tuple(video), tuple(detail))


def from_table(metadata: Mapping[str, Any]) -> Mapping[str, SqlValue]:
    """Columns that come from the user's table and not from the packaged file."""
    extra = {k: v for k, v in metadata.items() if v is not None and k not in ("subject", "split", "text")}
    if not extra:
        return _NOTHING_FROM_TABLE
    found: dict[str, SqlValue] = {name: _text(extra.get(name)) for name in _FROM_TABLE}
    found["licence"] = found["licence"] or _text(extra.get("license"))
    return found | {"metadata": _json(extra or None)}


def encode_video(about: Mapping[str, Any], known: Mapping[str, SqlValue]) -> IndexRow:
    """Rows of one video.

    Args:
        about: what `describe_file` says of it, its lineage naming backends by their ids.
        known: further columns, encoded.
    """
    width, height = about.get("size_px") or [about.get("size")] * 2
    values: dict[str, Any] = {name: about.get(name) for name in (*_VIDEO_NAMES, *_DETAIL_NAMES)}
    values |= {f"quality_{name}": about.get("quality", {}).get(name) for name in SCORES}
    values |= {"parts": ",".join(about["parts"]), "poor": ",".join(about.get("poor", ())), "width_px": width, "height_px": height}
    # What queries ask for gets a column of its own, taken out of the JSON in which the file states it.
    values |= {"wrist_method": (about.get("hands") or {}).get("wrist_method")}
    values |= {column.name: _json(values[column.name]) for column in DETAIL_COLUMNS if column.kind == "JSON"}
    for column in VIDEO_COLUMNS:  # a backend may state a method per side
        if column.kind == "TEXT" and not isinstance(values[column.name], str):
            values[column.name] = _json(values[column.name])
    values["other"] = _json({name: value for name, value in about.items() if name not in _COMPUTED} or None)
    values |= known
    return IndexRow(tuple(values[name] for name in _VIDEO_NAMES), tuple(values[name] for name in _DETAIL_NAMES))


def decode_video(video: Sequence[SqlValue], detail: Sequence[SqlValue]) -> dict[str, Any]:
    """What the index says of a video, without what is NULL: scores under ``quality``, the size as ``size_px``."""
    row: dict[str, Any] = {k: v for k, v in zip(_VIDEO_NAMES, video, strict=True) if v is not None}
    row |= {k: json.loads(str(v)) for k, v in zip(_DETAIL_NAMES[1:], detail[1:], strict=True) if v is not None}
    # Facts that have no column of their own come back beside those that have.
    row |= row.pop("other", {})
    row["quality"] = {name: row.pop(f"quality_{name}") for name in SCORES if f"quality_{name}" in row}
    row |= {name: row[name].split(",") if row[name] else [] for name in ("parts", "poor")}
    row |= {name: json.loads(row[name]) for name in _RANGES if name in row}
    if "width_px" in row:  # two columns, so that a query can ask for either
        row["size_px"] = [row.pop("width_px"), row.pop("height_px")]
    return row


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
