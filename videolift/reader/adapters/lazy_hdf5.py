"""Another project's HDF5 file, opened by each process for itself when it is first read; never carried to another process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
from numpy.typing import NDArray

from videolift.errors import CorruptFile


class LazyHdf5:
    """``file.read(name, where)``, safe under fork, spawn and forkserver.

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
