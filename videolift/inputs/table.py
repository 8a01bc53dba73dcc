"""The user's CSV of videos: one row per video, checked cell by cell, errors with line and column.

Turns a table into `videolift.inputs.video.Video` rows. Paths are relative to the table and may lead anywhere that the user
can read; ids may not. Does not open a video.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from videolift.config import user_path
from videolift.errors import ConfigError
from videolift.inputs.objects import parse_objects
from videolift.inputs.video import Video, video_id
from videolift.paths import ID

if TYPE_CHECKING:
    from videolift.inputs.named_cameras import NamedCamera

COLUMNS = ("video", "path", "text", "depth", "mask", "objects", "calib", "camera", "start", "end", "subject", "split")
"""Columns with a meaning; any other is kept as metadata."""
MAX_COLUMNS = 1000
_NO_METADATA = {*COLUMNS, "imported"} - {"camera"}
"""Imports once wrote a column ``imported``; receipts say it now. Which camera took a video is worth knowing in the dataset too."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read_table(path: Path, *, is_sample: bool = False) -> list[Video]:
    """The rows of a CSV (UTF-8, comma-separated, first line names the columns) as videos, in its order.

    Args:
        path: the CSV.
        is_sample: rows are of the rendered sample: their identity is the column ``version``, not size and time.

    Raises:
        ConfigError: names the line and the column of the first mistake.
    """
    try:
        # utf-8-sig: Excel puts a byte order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            # strict: a quote that is never closed would swallow the rest of the table as one cell.
            rows = list(_rows(path, csv.reader(file, strict=True)))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the table as CSV UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    cameras: Mapping[str, NamedCamera] = {}
    if any(row.cells.get("camera") for row in rows):
        from videolift.inputs.named_cameras import cameras_beside  # a lens brings OpenCV, which most commands do without

        cameras = cameras_beside(path)
    relatives = [row.relative() for row in rows]
    stems = [os.path.splitext(relative)[0] for relative in relatives]
    # As in a folder: two files that differ in suffix alone must not share an id.
    files = {stem: set[str]() for stem in stems}
    for stem, relative in zip(stems, relatives, strict=True):
        files[stem].add(relative)
    return [
        row.video(relative, cameras, shared_stem=len(files[stem]) > 1, is_sample=is_sample)
        for row, relative, stem in zip(rows, relatives, stems, strict=True)
    ]


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[_Row]:
    header: list[str] | None = None
    line = 0
    try:
        for cells in reader:
            line = reader.line_num  # type: ignore[attr-defined]
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if len(header) > MAX_COLUMNS:
                    text = f"{len(header)} columns, at most {MAX_COLUMNS}; is there a line break after the names?"
                    raise ConfigError(f"{path}, line 1: {text}")
                counts = Counter(header)
                twice = sorted(name for name, count in counts.items() if count > 1)
                if twice:
                    raise ConfigError(f"{path}, line 1: the column {twice[0]!r} is there {counts[twice[0]]} times")
                if "path" not in header:
                    near = difflib.get_close_matches("path", header, 1, 0.6)
                    hint = f"; rename {near[0]!r}?" if near else ""
                    text = f"no column `path` among {', '.join(map(repr, header))}{hint} (columns are separated by commas)"
                    raise ConfigError(f"{path}, line 1: {text}")
                continue
            if len(cells) > len(header):
                raise ConfigError(
                    f"{path}, line {line}: {len(cells)} cells under {len(header)} columns; quote text that has commas"
                )
            yield _Row(path, line, {name: cell.strip() for name, cell in zip(header, cells, strict=False)})
    except csv.Error as error:
        raise ConfigError(f"{path}, line {line + 1}: {error}") from error


class _Row:
    """One line of the table, by column; knows where it stands, so that errors can say so."""

    def __init__(self, table: Path, line: int, cells: dict[str, str]) -> None:
        self.table, self.line, self.cells = table, line, cells

    def video(self, relative: str, cameras: Mapping[str, NamedCamera], *, shared_stem: bool, is_sample: bool) -> Video:
        cells = self.cells
        path = self._file("path")
        found = None if path is None else self._stat("path", path)
        start, end = self._seconds("start"), self._seconds("end")
        if end is not None and end <= (start or 0.0):
            self._refuse("end", f"must be after start ({start or 0.0:g} s)")
        calib = self._existing("calib")
        name = cells.get("video", "")
        if name and not ID.fullmatch(name):
            self._refuse("video", "is not an id: letters, digits and . _ - only, at most 100, not starting with . or -")
        depth, mask = self._existing("depth"), self._existing("mask", folder=True)
        try:
            parse_objects(cells.get("objects", ""))
        except ValueError as error:
            self._refuse("objects", str(error))
        known = _NO_METADATA | ({"version"} if is_sample else set())
        return Video(
            id=name or video_id(relative, shared_stem=shared_stem),
            path=os.path.realpath(path or ""),
            # The run renders the sample itself: its version stands for size and time, which no two renderings share.
            bytes=0 if is_sample or found is None else found.st_size,
            mtime_ns=0 if is_sample or found is None else found.st_mtime_ns,
            depth=depth,
            mask=mask,
            objects=cells.get("objects") or None,
            calib=calib,
            camera=cameras[camera].to_row() if (camera := cells.get("camera", "")) in cameras and calib is None else None,
            start_s=start or None,  # a start of 0 is the beginning
            end_s=end,
            text=cells.get("text") or None,
            subject=cells.get("subject") or None,
            split=cells.get("split") or None,
            metadata={name: cell for name, cell in cells.items() if name not in known and cell},
            version=cells.get("version", "") if is_sample else "",
            missing=found is None,
        )

    def relative(self) -> str:
        """The path below the table's folder; as written where it lies outside, so that moving both keeps the id."""
        path = self._file("path")
        if path is None:
            self._refuse("path", "is empty; every row names a video")
        inside = os.path.relpath(path, self.table.parent)
        return os.path.normpath(self.cells["path"]) if inside.startswith("../") else inside

    def _refuse(self, column: str, why: str) -> NoReturn:
        raise ConfigError(f"{self.table}, line {self.line}, column {column}: {self.cells.get(column, '')!r} {why}")

    def _file(self, column: str) -> Path | None:
        text = self.cells.get(column)
        if not text:
            return None
        if _URL.match(text):
            self._refuse(column, "is a URL; download the file and give its path")
        if "\0" in text:
            self._refuse(column, "has a NUL character")
        try:
            return Path(os.path.normpath(self.table.parent / user_path(text)))
        except ConfigError as error:
            self._refuse(column, str(error))

    def _stat(self, column: str, path: Path, *, folder: bool = False) -> os.stat_result | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._refuse(column, f"cannot be read: {error.strerror}")
        if not (stat.S_ISREG(found.st_mode) or (folder and stat.S_ISDIR(found.st_mode))):
            self._refuse(column, "is not a regular file")
        return found

    def _existing(self, column: str, *, folder: bool = False) -> Path | None:
        path = self._file(column)
        if path is not None and self._stat(column, path, folder=folder) is None:
            self._refuse(column, f"does not exist (looked at {path})")
        return None if path is None else Path(os.path.realpath(path))

    def _seconds(self, column: str) -> float | None:
        text = self.cells.get(column)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            self._refuse(column, "is not a number of seconds")
        if not math.isfinite(seconds) or seconds < 0:
            self._refuse(column, "must be 0 or more seconds")
        return seconds
