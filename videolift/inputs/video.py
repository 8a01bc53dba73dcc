"""Video: one row of what the user listed, and the id that names it in every path.

Turns a path into an id, and a row into JSON and back. `videolift.inputs.catalog` does the listing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

from videolift.paths import ID

_SLUG, _HASH = 91, 8
_MAX_LENGTH = 100
"""What `videolift.paths.ID` allows; 91, a dash and 8 in the other case."""
_ORDINARY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*\.[A-Za-z0-9]+")
_NO_METADATA: dict[str, str] = {}
"""One for all videos without any; nobody writes into it."""
_PATHS = ("depth", "mask", "calib")


@dataclass(frozen=True, slots=True)
class Video:
    """One listed video and the files that belong to it.

    Attributes:
        id: file-system safe name, unique under casefold; see `video_id`.
        path: the source, absolute; a link's target, not the link. Text, since path objects of 100,000 videos are 50 MB.
        bytes, mtime_ns: of the source; 0 for the rendered sample, whose content is fixed by ``version``, and where ``missing``.
        depth: npz with depth for `rgbd`, or None.
        mask: the user's instance masks (npz, video or a folder of images), or None.
        objects: what to follow from the first frame on (`videolift.inputs.objects`), as given in the CSV, or None.
        calib: calibration file, or None.
        camera: the known camera that the row names (`videolift.inputs.named_cameras.NamedCamera.to_row`); None with ``calib``.
        start_s, end_s: part of the video to use, seconds; None for its beginning and end.
        text: task description, subject, split: as given in the CSV, or None.
        metadata: every other column of the CSV.
        version: of the sample's renderer; empty for the user's files.
        missing: listed, but there is no such file now (a row whose source is gone, a dangling link).
    """

    id: str
    path: str
    bytes: int = 0
    mtime_ns: int = 0
    depth: Path | None = None
    mask: Path | None = None
    calib: Path | None = None
    objects: str | None = None
    camera: dict[str, Any] | None = None
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    subject: str | None = None
    split: str | None = None
    metadata: dict[str, str] = field(default_factory=lambda: _NO_METADATA)
    version: str = ""
    missing: bool = False

    def to_row(self) -> dict[str, Any]:
        """A JSON-able mapping, ``id`` first, without what is not set. Names that are not UTF-8 need ``ensure_ascii``."""
        row = {name: value for name, value in zip(_FIELDS, _values(self), strict=True) if value}
        return row | {name: os.fspath(row[name]) for name in _PATHS if name in row}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Video:
        """Inverse of `to_row`; leaves out what older versions kept besides."""
        values: dict[str, Any] = {name: row[name] for name in row.keys() & _KNOWN}
        values |= {name: Path(values[name]) for name in _PATHS if name in values}
        return cls(**values)


_FIELDS = tuple(spec.name for spec in fields(Video))
_KNOWN = frozenset(_FIELDS)
_values = attrgetter(*_FIELDS)


def video_id(relative: str, *, shared_stem: bool = False) -> str:
    """The id of a file from its path alone.

    Args:
        relative: path relative to the listed folder with ``/`` between parts, suffix included.
        shared_stem: another file in the list differs from it in suffix only.

    Returns:
        The path without suffix, ``__`` between parts. Where that is not a safe name, is too long or could be another file's too:
        the safe part of it, ``-`` and 8 hex digits of the SHA-256 of ``relative``. Of a path outside the folder only the file's own
        name is kept.
    """
    if _ORDINARY.fullmatch(relative) and not shared_stem:  # nearly all; two times faster in a folder of 100,000
        plain = relative[: relative.rindex(".")].replace("/", "__")
        if len(plain) <= _MAX_LENGTH:
            return plain
    path = PurePosixPath(relative)
    plain = str(path.with_suffix("")).replace("/", "__")
    outside = path.is_absolute() or ".." in path.parts
    if ID.fullmatch(plain) and not shared_stem and not outside:
        return plain
    # An id is published with the dataset: the folders above the listed one would give away users and machines.
    kept = path.stem if outside else plain
    # Hashed with suffix and folders, so that no other file in the list can change it.
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", kept).strip(".-_")[:_SLUG] or "video"
    return f"{slug}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:_HASH]}"
