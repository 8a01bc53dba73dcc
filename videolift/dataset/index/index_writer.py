"""Writes ``index.sqlite``: always a whole new file in the order of ids, renamed into place, so that equal content is equal bytes.

No journal and no locks: until it is renamed nobody else knows the file, and file systems of clusters may not lock.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from videolift.dataset.index.columns import SCHEMA_VERSION, TABLES, IndexRow
from videolift.dataset.index.index_reader import INDEX_FILE
from videolift.store import atomic_file, remove_leftovers

# Rows of so many videos take some megabytes; one call per row would spend more in Python than in SQLite.
_ROWS_AT_ONCE = 1000
# sqlite3 names SQLITE_FULL and SQLITE_IOERR from Python 3.11 on; the reader imports this with 3.10
_ERRNOS = {13: errno.ENOSPC, 10: errno.EIO}


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

    def add_videos(self, rows: Iterable[IndexRow]) -> None:
        """Adds videos, which come in the order of their ids."""
        waiting: list[IndexRow] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _ROWS_AT_ONCE:
                self._add(waiting)
                waiting.clear()
        self._add(waiting)

    def _add(self, rows: list[IndexRow]) -> None:
        self.insert("video", (row.video for row in rows))
        self.insert("detail", (row.detail for row in rows))

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
