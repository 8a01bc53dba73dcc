"""A dataset's index as its readers see it: which files there are, of which group and split. Never a glob.

``index.sqlite`` is read whole and at once, without locks, and closed: it is replaced by renaming and never changes. It need not be
trusted: only plain tables are read, and only values of the types they should have. Datasets of older releases have no such file;
their ``dataset.json`` lists every video.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from videolift.dataset.index.columns import (
    DETAIL_COLUMNS,
    SCHEMA_VERSION,
    VIDEO_COLUMNS,
    IndexRow,
    decode_video,
    encode_video,
)
from videolift.dataset.layout import DATASET_FORMAT
from videolift.dataset.statistics.groups import group_name
from videolift.errors import ConfigError
from videolift.store import read_json

INDEX_FILE, SUMMARY_FILE = "index.sqlite", "dataset.json"
_AGAIN = "run the statistics stage again"


class IndexEntry(NamedTuple):
    """One file of the dataset; fields are columns of the table ``video``, described in `videolift.dataset.index.columns`."""

    video: str
    folder: str
    file: str
    sha256: str
    bytes: int
    split: str
    tier: str
    scale: str
    intrinsics: str | None
    parts_held: str
    frames: int
    windows: int | None
    points: int | None
    fps: float
    size: int
    width_px: int
    height_px: int
    window_length: int
    stride: int
    unbroken: str | None
    left_known: str | None
    right_known: str | None
    text: str | None

    @property
    def group(self) -> str:
        """See `videolift.dataset.statistics.groups`."""
        return group_name(self.tier, self.scale, self.intrinsics)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the file holds besides images."""
        return tuple(self.parts_held.split(",")) if self.parts_held else ()

    @property
    def path(self) -> str:
        """The file, relative to the dataset's folder; absolute where a merged shard is named so."""
        return f"{self.folder}/{self.file}" if self.folder else self.file


_COLUMNS = tuple("parts" if name == "parts_held" else name for name in IndexEntry._fields)
_KINDS = {column.name: column for column in VIDEO_COLUMNS}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "REAL": (int, float)}
_SQL_TYPES = {"TEXT": "('text')", "INTEGER": "('integer')", "REAL": "('real', 'integer')"}
# SQLite stores any value in any column, whatever type it was declared with.
_WRONG_TYPES = "SELECT video FROM video WHERE {} LIMIT 1".format(
    " OR ".join(
        f"{'' if _KINDS[name].required else f'{name} IS NOT NULL AND '}typeof({name}) NOT IN {_SQL_TYPES[_KINDS[name].kind]}"
        for name in _COLUMNS
    )
)
"""Finds a row with a value of another type in one of `IndexEntry`'s columns."""


@dataclass(frozen=True)
class Index:
    """A published dataset's files.

    Attributes:
        summary: what ``dataset.json`` says.
        left_out: videos without a packaged file, with the reason.
    """

    folder: Path
    entries: tuple[IndexEntry, ...]
    summary: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def statistics_group(self) -> str | None:
        """The group that ``normalization_stats.yaml`` holds; None for an empty dataset."""
        group: str | None = self.summary["statistics_group"]
        return group

    def select(self, *, split: str | None = None, group: str | None = None) -> tuple[list[IndexEntry], str]:
        """The files of a split and a group, and that group; None takes every split, and the main group.

        Raises:
            ConfigError: no such split or group.
        """
        group = group or self.statistics_group
        splits, groups = {entry.split for entry in self.entries}, {entry.group for entry in self.entries}
        for name, known, wanted in (("split", splits, split), ("group", groups, group)):
            if wanted is not None and wanted not in known:
                raise ConfigError(f"{name} is {wanted!r}, the dataset has {', '.join(sorted(known)) or 'none'}")
        return [e for e in self.entries if e.group == group and split in (None, e.split)], group or "none"

    def descriptions(self, videos: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """Everything the index says, by video, of some or all; for a hundred thousand of them it takes seconds.

        Raises:
            ConfigError: the index is damaged.
        """
        rows = ((str(row.video[0]), row) for row in read_index_rows(self.folder))
        return {video: decode_video(row.video, row.detail) for video, row in rows if videos is None or video in videos}


def read_index(folder: Path) -> Index:
    """Reads the index of a published dataset.

    Raises:
        ConfigError: not a published dataset, or a damaged one.
    """
    if (folder / INDEX_FILE).is_file():
        with open_index(folder) as index:
            try:
                summary = {str(name): json.loads(value) for name, value in index.execute("SELECT name, value FROM dataset")}
                tables = all(isinstance(summary[name], dict) for name in ("groups", "splits", "totals"))
                if not isinstance(summary["statistics"], list) or not tables:
                    raise TypeError("a value of another type")
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(folder, f"table dataset: {error!r}") from error
            entries = tuple(map(IndexEntry._make, index.execute(f"SELECT {', '.join(_COLUMNS)} FROM video ORDER BY video")))
            left_out = dict(index.execute("SELECT video, reason FROM left_out ORDER BY video"))
    else:
        content = _listed(folder)
        counted = {name: {k: len(v) for k, v in content[name].items()} for name in ("groups", "splits")}
        kept = {k: v for k, v in content.items() if k not in ("files", "backends")}
        summary, left_out = {**kept, **counted, "left_out": len(content["left_out"])}, content["left_out"]
        places = [[column.name for column in VIDEO_COLUMNS].index(name) for name in _COLUMNS]
        listed = (IndexEntry._make(row.video[i] for i in places) for row in _older_rows(content))
        entries = tuple(entry._replace(intrinsics=None) for entry in listed)  # its groups made no difference
    # An index from elsewhere must not lead a reader to other files of this machine; folders of shards are trusted (SECURITY.md).
    for entry in entries:
        if entry.file.startswith("/") or (".." in entry.file and ".." in PurePosixPath(entry.file).parts):
            raise _damaged(folder, f"{entry.file} is not in the dataset's folder")
    return Index(folder, entries, summary, left_out)


def read_index_rows(folder: Path) -> Iterator[IndexRow]:
    """Every video's whole row, in the order of ids; raises as `read_index`."""
    if not (folder / INDEX_FILE).is_file():
        yield from _older_rows(_listed(folder))
        return
    many = len(VIDEO_COLUMNS)
    names = [f"v.{c.name}" for c in VIDEO_COLUMNS] + [f"d.{c.name}" for c in DETAIL_COLUMNS]
    with open_index(folder) as index:
        for row in index.execute(f"SELECT {', '.join(names)} FROM video v JOIN detail d USING (video) ORDER BY v.video"):
            yield IndexRow(row[:many], row[many:])


@contextmanager
def open_index(folder: Path) -> Iterator[sqlite3.Connection]:
    """The index of ``folder`` for queries; what SQLite finds wrong inside the block is a `ConfigError`.

    Raises:
        ConfigError: it is damaged, or of another version.
    """
    path = folder / INDEX_FILE
    try:
        # immutable: no lock is taken and no journal is looked for
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")  # the file cannot make a function run
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise ConfigError(f"{path} has version {version}, this videolift reads {SCHEMA_VERSION}: {_AGAIN}")
            # a view or a virtual table of that name could compute for ever
            strange = "SELECT name FROM sqlite_master WHERE type <> 'table' OR sql NOT LIKE 'CREATE TABLE %'"
            for (name,) in connection.execute(strange).fetchall():
                raise _damaged(folder, f"{name} is not a plain table")
            if (found := connection.execute(_WRONG_TYPES).fetchone()) is not None:
                raise _damaged(folder, f"the row of {found[0]} holds a value of another type")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _damaged(folder, str(error)) from error


def _damaged(folder: Path, why: str) -> ConfigError:
    return ConfigError(f"the index of {folder} is damaged ({why}): {_AGAIN}")


def _listed(folder: Path) -> dict[str, Any]:
    """The ``dataset.json`` of version 1, which lists every video."""
    content = read_json(folder / SUMMARY_FILE)
    if not isinstance(content, dict) or content.get("format") != DATASET_FORMAT:
        raise ConfigError(f"{folder} holds no dataset.json of videolift: name the folder that the statistics stage wrote to")
    if content.get("version") != 1:
        raise ConfigError(f"{folder} holds no {INDEX_FILE}, which belongs beside its dataset.json: copy it too, or {_AGAIN}")
    kinds: dict[str, type] = {"files": list, "statistics": list} | dict.fromkeys(("groups", "splits", "left_out", "totals"), dict)
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            raise _damaged(folder, f"{name} is {content.get(name)!r}")
    return content


def _older_rows(content: Mapping[str, Any]) -> Iterator[IndexRow]:
    for file in content["files"]:
        try:
            row = encode_video(file, {"folder": ""})
            if not all(isinstance(row.value(c.name), _PYTHON_TYPES[c.kind]) for c in VIDEO_COLUMNS if c.required):
                raise TypeError("a value of another type")
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"dataset.json is damaged ({error!r}): {_AGAIN}") from error
        yield row
