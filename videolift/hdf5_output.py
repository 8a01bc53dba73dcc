"""An HDF5 file being written to a disk that may fill up.

Turns a write that fails into an `OSError` of ours, raised from `HDF5Output.check`, ``flush`` or ``close``. Left to itself, HDF5
cannot close a file whose last writes fail: the process dies of a segmentation fault (measured, HDF5 2.0).
"""

from __future__ import annotations

import atexit
import io
import weakref
from pathlib import Path
from typing import Any

import h5py


class _Sink(io.FileIO):
    """Takes every write as done; keeps the first failure for `HDF5Output.check`, and writes nothing after it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        left = view
        try:
            while left and self.failure is None:
                left = left[super().write(left) or 0 :]
        # Kept, not raised: after an exception here HDF5 could not close the file.
        except OSError as error:
            self.failure = error.with_traceback(None)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error.with_traceback(None)
            return size or 0


class HDF5Output(h5py.File):
    """A new file, opened for writing; otherwise as ``h5py.File``."""

    def __init__(self, path: Path, libver: tuple[str, str]) -> None:
        self._path, self._sink = Path(path), _Sink(path)
        super().__init__(self._sink, "w", libver=libver)
        _OPEN[id(self)] = self

    @property
    def filename(self) -> str:
        """The path it was opened with."""
        return str(self._path)

    def check(self) -> None:
        """Raises OSError, and closes the file, where a write has failed since it was opened."""
        failure = self._sink.failure
        if failure is not None:
            self._close()  # so that leaving a `with` block does not raise it a second time
            raise OSError(failure.errno, failure.strerror)

    def flush(self) -> None:
        """As ``h5py.File.flush``; raises OSError where a write failed."""
        super().flush()
        self.check()

    def close(self) -> None:
        """As ``h5py.File.close``; raises OSError where a write failed, the first time."""
        if not self._sink.closed:
            self._close()
            self.check()

    def _close(self) -> None:
        try:
            super().close()
        finally:
            self._sink.close()


# Weak: a file that nobody holds any more is closed by its own end.
_OPEN: weakref.WeakValueDictionary[int, HDF5Output] = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    """HDF5 would close them after Python is gone, and call back into it."""
    for file in list(_OPEN.values()):
        file._close()
