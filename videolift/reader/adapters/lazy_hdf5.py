"""Another project's HDF5 file, opened by each process for itself when it is first read; never carried to another process."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
from numpy.typing import NDArray

from videolift.errors import CorruptFile

MAX_OPEN = 64
"""Files that a process has open at once, of all sources together; most systems allow 1,024 descriptors."""
_open_now: OrderedDict[int, weakref.ref[LazyHdf5]] = OrderedDict()
"""Those of this process, the least recently used first."""


class LazyHdf5:
    """``file.read(name, where)``, safe under fork, spawn and forkserver; beyond `MAX_OPEN` the least recently used file is closed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._pid = 0

    def open(self) -> h5py.File:
        """The open file of this process.

        Raises:
            CorruptFile: missing, or not HDF5.
        """
        # After a fork the parent's handle is here too; nothing promises that two processes read rightly through one.
        if self._file is None or self._pid != os.getpid():
            try:
                self._file, self._pid = h5py.File(self.path, "r", locking=False), os.getpid()
            except OSError as error:
                raise CorruptFile(f"{self.path}: not a readable HDF5 file: {error}") from error
            # Weakly: a source that nobody has any more must not stay open.
            key = id(self)
            _open_now[key] = weakref.ref(self, lambda _: _open_now.pop(key, None))
            while len(_open_now) > MAX_OPEN:
                oldest = _open_now.popitem(last=False)[1]()
                if oldest is not None:
                    oldest._file = None
        if id(self) in _open_now:
            _open_now.move_to_end(id(self))
        return self._file

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array.

        Raises:
            CorruptFile: it cannot be read.
        """
        try:
            return np.asarray(self.open()[name][where])
        except (OSError, KeyError, RuntimeError) as error:
            raise CorruptFile(f"{self.path}: {name} cannot be read: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        # An h5py file cannot be pickled.
        return {"path": self.path, "_file": None, "_pid": 0}


def column_names(table: h5py.Dataset | h5py.Group) -> list[str]:
    """Names of a table's columns: a group of arrays, or a compound array; none of a plain array."""
    return sorted(table) if isinstance(table, h5py.Group) else sorted(table.dtype.names or ())


def read_column(table: h5py.Dataset | h5py.Group, name: str) -> NDArray[Any]:
    """One column of such a table."""
    return np.asarray(table[name][...] if isinstance(table, h5py.Group) else table[...][name])
