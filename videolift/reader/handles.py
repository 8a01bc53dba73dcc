"""Packaged files of this process: some open, more at rest, never shared with another process."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from videolift.dataset.file import PackagedFile
from videolift.dataset.stored import file_identity


class Handles:
    """``handles.get(path)`` opens a file, or returns it if this process has it open.

    The least recently used file beyond ``limit`` goes to rest: it has no descriptor, but where its arrays lie stays known, so that
    the next read opens it without HDF5. After a fork the child opens its own; pickled (spawn), nothing travels. A file that was
    replaced on disk is opened again.

    Args:
        limit: most files open at once; each is two descriptors and some 1.3 MB.
        resting_bytes: most memory for what is known of files at rest.
        checked: see `PackagedFile`. By default a chunk's checksum is compared when this process reads it first.
    """

    def __init__(self, limit: int = 128, resting_bytes: int = 64 << 20, *, checked: bool = False) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}, at least one file must be open to be read")
        self.limit, self.resting_bytes, self.checked = limit, resting_bytes, checked
        self._open: OrderedDict[Path, PackagedFile] = OrderedDict()
        self._resting: OrderedDict[Path, tuple[PackagedFile, int]] = OrderedDict()
        self._rest_bytes = 0
        self._pid = os.getpid()

    def get(self, path: Path) -> PackagedFile:
        """The open file at ``path``.

        Raises:
            CorruptFile: see `PackagedFile`.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            while self._open:  # HDF5's handles are the parent's; where the arrays lie holds in the child too
                self._lay_to_rest(*self._open.popitem(last=False))
        file = self._open.get(path)
        if file is not None:
            if file.stored.identity == file_identity(path):
                self._open.move_to_end(path)
                return file
            self._open.pop(path).close()
        while len(self._open) >= self.limit:  # before opening: never more descriptors than promised
            self._lay_to_rest(*self._open.popitem(last=False))
        resting, size = self._resting.pop(path, (None, 0))
        self._rest_bytes -= size
        # It does not wake where another file lies at its path by now.
        file = resting if resting is not None and resting.wake() else PackagedFile(path, checked=self.checked)
        self._open[path] = file
        return file

    def close(self) -> None:
        """Closes all."""
        while self._open:
            self._open.popitem()[1].close()
        self._resting.clear()
        self._rest_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, Any]:
        # HDF5's handles and descriptors mean nothing in another process.
        return {"limit": self.limit, "resting_bytes": self.resting_bytes, "checked": self.checked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _lay_to_rest(self, path: Path, file: PackagedFile) -> None:
        file.rest()
        self._resting[path] = file, file.stored.memory_bytes
        self._rest_bytes += self._resting[path][1]
        while self._rest_bytes > self.resting_bytes:
            self._rest_bytes -= self._resting.popitem(last=False)[1][1]
