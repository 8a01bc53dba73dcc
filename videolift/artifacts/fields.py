"""What an artifact is made of: named datasets, most of which grow along one axis.

Turns rows, appended in any number, into HDF5 chunks, each written whole and once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

# As small and as fast as Blosc2 with LZ4, but without its threads, which now and then crashed a child after a fork.
BITSHUFFLE = hdf5plugin.Bitshuffle(cname="lz4")
ZSTD = hdf5plugin.Zstd(clevel=1)


@dataclass(frozen=True)
class Field:
    """One dataset of an artifact.

    Attributes:
        name: the name of its dataset.
        dtype: as stored.
        shape: per axis a length, None where only the clip decides, -1 on the one axis that grows.
        chunk: rows per chunk along the growing axis.
        codec: a filter of hdf5plugin, None for no compression.
        optional: files may lack it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    chunk: int = 128
    codec: Any = None
    optional: bool = False

    @property
    def axis(self) -> int | None:
        """The growing axis; None for an array written once, whole."""
        return self.shape.index(-1) if -1 in self.shape else None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError where an array of ``shape`` does not fit."""
        fits = len(shape) == len(self.shape) and all(
            want in (None, -1) or want == got for want, got in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{self.name} has shape {shape}, expected {self.shape} (-1 grows, None is free)")

    def runs(self, shape: tuple[int, ...], most_bytes: int) -> Iterator[tuple[slice, ...]]:
        """Indices that cut an array of ``shape`` into runs of whole chunks, of about ``most_bytes`` at most.

        One run of everything where it does not grow, or is empty.
        """
        axis = self.axis
        if axis is None or not math.prod(shape):
            yield (slice(None),) * len(shape)
            return
        row_bytes = math.prod(shape) // shape[axis] * np.dtype(self.dtype).itemsize
        rows = max(self.chunk, most_bytes // row_bytes // self.chunk * self.chunk)
        for start in range(0, shape[axis], rows):
            yield (slice(None),) * axis + (slice(start, min(start + rows, shape[axis])),)


class GrowingDataset:
    """A dataset that rows are appended to. Holds back what does not fill a chunk, since HDF5 would read and write it again.

    Args:
        file: where it is created.
        field: which one; it grows.
        like: shape of the first rows; the other axes keep these lengths.
    """

    def __init__(self, file: h5py.File, field: Field, like: tuple[int, ...]) -> None:
        assert field.axis is not None
        self.field, self.axis, self.like = field, field.axis, like
        self.rows = 0
        """Appended so far, held back ones included."""
        self._held: list[NDArray[Any]] = []
        shape = tuple(0 if i == self.axis else n for i, n in enumerate(like))
        limits = tuple(None if i == self.axis else n for i, n in enumerate(like))
        # max: a window of no points has an axis of length 0, and HDF5 refuses empty chunks.
        chunks = tuple(field.chunk if i == self.axis else max(n, 1) for i, n in enumerate(like))
        options = {} if field.codec is None else dict(field.codec)
        # Without a checksum a flipped byte is read as a wrong value and nobody is told; it costs 5 to 30 % of reading.
        self._dataset = file.create_dataset(
            field.name, shape, field.dtype, maxshape=limits, chunks=chunks, fletcher32=True, **options
        )

    def append(self, data: NDArray[Any]) -> None:
        """Adds rows, of the dtype and the other lengths of the first ones."""
        if data.shape[: self.axis] + data.shape[self.axis + 1 :] != self.like[: self.axis] + self.like[self.axis + 1 :]:
            raise ValueError(f"{self.field.name} has shape {data.shape} after {self.like}: only axis {self.axis} grows")
        held = self.rows - self._dataset.shape[self.axis]
        self.rows += data.shape[self.axis]
        whole = (held + data.shape[self.axis]) // self.field.chunk * self.field.chunk
        if whole:
            self._write(np.concatenate([*self._held, self._part(data, 0, whole - held)], self.axis) if held else data, whole)
            data, self._held = self._part(data, whole - held, None), []
        if data.shape[self.axis]:
            self._held.append(data.copy())  # the caller may fill its buffer again

    def flush(self) -> None:
        """Writes what was held back; nothing may be appended afterwards."""
        if self._held:
            held, self._held = np.concatenate(self._held, self.axis), []
            self._write(held, held.shape[self.axis])

    def _part(self, data: NDArray[Any], start: int, stop: int | None) -> NDArray[Any]:
        return data[(slice(None),) * self.axis + (slice(start, stop),)]

    def _write(self, data: NDArray[Any], rows: int) -> None:
        start = self._dataset.shape[self.axis]
        self._dataset.resize(start + rows, axis=self.axis)
        self._dataset[(slice(None),) * self.axis + (slice(start, start + rows),)] = self._part(data, 0, rows)
