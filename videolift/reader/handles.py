"""Open packaged files of this process: a limited number, least recently used closed first, never shared with another process."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from videolift.dataset.file import PackagedFile


class Handles:
    """``handles.get(path)`` opens a file, or returns it if this process has it open.

    After a fork the child opens its own; pickled (spawn), no handle travels. A file that was replaced on disk since it was
    opened is opened again.

    Args:
        limit: most files open at once; each is one descriptor and some 1.3 MB.
    """

    def __init__(self, limit: int = 128) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}, at least one file must be open to be read")
        self.limit = limit
        self._open: OrderedDict[Path, tuple[PackagedFile, tuple[int, int, int]]] = OrderedDict()
        self._pid = os.getpid()

    def get(self, path: Path) -> PackagedFile:
        """The open file at ``path``.

        Raises:
            CorruptFile: see `PackagedFile`.
        """
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()  # the parent's handles stay the parent's: not closed here
        file, identity = self._open.get(path, (None, None))
        if file is not None and identity == _identity(path):
            self._open.move_to_end(path)
            return file
        if file is not None:
            self._open.pop(path)[0].close()
        while len(self._open) >= self.limit:
            self._open.popitem(last=False)[1][0].close()
        before = _identity(path)  # taken before opening: a file replaced in between is seen as changed at the next look
        file = PackagedFile(path)
        self._open[path] = file, before
        return file

    def close(self) -> None:
        """Closes all."""
        while self._open:
            self._open.popitem()[1][0].close()

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0, 0  # opening it says what is wrong
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
