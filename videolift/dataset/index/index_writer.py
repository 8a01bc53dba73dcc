"""Writes ``index.sqlite``: always a whole new file in the order of ids, renamed into place, so that equal content is equal bytes.

No journal and no locks: until it is renamed nobody else knows the file, and file systems of clusters may not lock.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from videolift.dataset.index.columns import SCHEMA_VERSION, TABLES, IndexRow, SqlValue
from videolift.dataset.index.index_reader import INDEX_FILE
from videolift.store import atomic_file, remove_leftovers

# Rows of so many videos take some megabytes; one call per row would spend more in Python than in SQLite.
_ROWS_AT_ONCE = 1000
# sqlite3 names SQLITE_FULL and SQLITE_IOERR from Python 3.11 on; the reader imports this with 3.10
_ERRNOS = {13: errno.ENOSPC, 10: errno.EIO}


class PublishedRow(NamedTuple):
    """A video as the index that is to be replaced has it: copied by SQLite, its other values never become Python's.

    Attributes:
        place: in the order of ids.
        values: of the columns that were asked for.
    """

    place: int
    video: str
    sha256: str
    source_sha256: str | None
    values: tuple[SqlValue, ...]


class IndexDraft:
    """An index that is not yet published; `draft_index` opens one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for name, columns in TABLES.items():
            # without row ids a table is one tree in the order of its first column, which is what every reader goes by
            keyed = any("PRIMARY KEY" in column.definition for column in columns)
            inside = ", ".join(column.definition for column in columns)
            connection.execute(f"CREATE TABLE {name} ({inside}){' WITHOUT ROWID' if keyed else ''}")
        described = [(t, c.name, c.kind, c.unit, c.meaning) for t, columns in TABLES.items() for c in columns]
        self.insert("column_info", described)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def published_rows(self, folder: Path, names: Sequence[str]) -> Iterator[PublishedRow]:
        """Every row of the index of ``folder``, whose bytes the caller trusts, in the order of ids, with the columns ``names``."""
        self._connection.execute("ATTACH ? AS published", (f"{(folder / INDEX_FILE).absolute().as_uri()}?mode=ro&immutable=1",))
        listed = ", ".join(("v.video", "sha256", "source_sha256", *names))
        query = f"SELECT {listed} FROM published.video v JOIN published.detail d USING (video) ORDER BY v.video"
        for place, (video, sha256, source, *values) in enumerate(self.select(query)):
            yield PublishedRow(place, video, sha256, source, tuple(values))

    def published_row(self, video: str) -> IndexRow:
        """One of `published_rows`, whole."""
        found = (next(self.select(f"SELECT * FROM published.{table} WHERE video = ?", video)) for table in ("video", "detail"))
        return IndexRow(*found)

    def add_videos(self, rows: Iterable[IndexRow | PublishedRow]) -> None:
        """Adds videos, which come in the order of their ids."""
        waiting: list[IndexRow | PublishedRow] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _ROWS_AT_ONCE:
                self._add(waiting)
                waiting.clear()
        self._add(waiting)

    def _add(self, rows: list[IndexRow | PublishedRow]) -> None:
        # Table after table for the same thousand rows, however they come: pages of equal indexes are in the same order.
        for table in ("video", "detail"):
            for place, run in groupby(enumerate(rows), key=_place_of_run):
                if place is None:
                    self.insert(table, (getattr(row, table) for _, row in run))
                else:
                    first, *rest = (row.video for _, row in run)
                    copied = f"INSERT INTO {table} SELECT * FROM published.{table} WHERE video BETWEEN ? AND ? ORDER BY video"
                    self._connection.execute(copied, (first, rest[-1] if rest else first))

    def insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Adds rows to a table."""
        marks = ", ".join("?" * len(TABLES[table]))
        self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def describe(self, values: Mapping[str, Any]) -> None:
        """Sets what the table ``dataset`` holds."""
        encoded = [(name, json.dumps(values[name], sort_keys=True, ensure_ascii=False)) for name in sorted(values)]
        self.insert("dataset", encoded)

    def select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Rows of what was added so far."""
        return self._connection.execute(query, values)


def _place_of_run(numbered: tuple[int, IndexRow | PublishedRow]) -> int | None:
    """The same for rows that follow each other in the published index as they do here; None for rows that are not in it."""
    number, row = numbered
    return row.place - number if isinstance(row, PublishedRow) else None


@contextmanager
def draft_index(folder: Path) -> Iterator[IndexDraft]:
    """A new index of ``folder``, published where the block ends without an error; nobody else may be writing one.

    Raises:
        Transient: disk full, quota or I/O error.
    """
    remove_leftovers(folder / INDEX_FILE)
    with atomic_file(folder / INDEX_FILE) as temporary:
        try:
            # isolation_level None: one transaction by hand, or each row would be one
            with closing(
                sqlite3.connect(f"{temporary.absolute().as_uri()}?nolock=1", uri=True, isolation_level=None)
            ) as connection:
                # A draft that is killed is thrown away as a whole, so a journal, or flushing, would only cost time.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("BEGIN")
                yield IndexDraft(connection)
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:  # an OSError of that kind becomes a Transient in atomic_file
            if (number := _ERRNOS.get(error.sqlite_errorcode & 0xFF)) is not None:
                raise OSError(number, str(error), str(temporary)) from error
            raise
