"""Open packaged files of this process: a few at a time, least recently used closed first, never shared with another process."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from videolift.dataset.file import PackagedFile


class Handles:
    """``handles.get(path)`` opens a file, or returns it if this process has it open.

    After a fork the child opens its own; pickled (spawn), no handle travels. Opening a file per sample costs more than reading it.

    Args:
        limit: most files open at once.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._open: OrderedDict[Path, PackagedFile] = OrderedDict()
        self._pid = os.getpid()

    def get(self, path: Path) -> PackagedFile:
        """The open file at ``path``.

        Raises:
            CorruptFile: see `PackagedFile`.
        """
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        file = self._open.get(path)
        if file is None:
            file = self._open[path] = PackagedFile(path)
            if len(self._open) > self.limit:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(path)
        return file

    def close(self) -> None:
        """Closes all."""
        while self._open:
            self._open.popitem()[1].close()

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
