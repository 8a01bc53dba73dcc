"""Where an array's chunks lie in its file, and how to read them without HDF5 having the file open.

Opening an HDF5 file and an array in it costs more than reading a sample from it. A `ChunkTable` remembers what opening finds
out, so that the next read is one ``pread``. Decompression and checksums stay HDF5's own: a chunk's stored bytes are put into an
array of the same kind in memory, and read from there.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

MAX_CHUNK_BYTES = 1 << 28
_MAX_KINDS, _DECODED_BYTES = 64, 1 << 20
"""Kinds of chunk that memory is held for, a dataset has some ten; and how much for each, unless a single chunk is larger."""
_BITSHUFFLE, _ZSTD = 32008, 32015
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, _BITSHUFFLE, _ZSTD)
"""What our files are compressed and checked with. A file that names another filter would choose the code that parses it."""

NO_CHUNK_CACHE = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
NO_CHUNK_CACHE.set_chunk_cache(1, 0, 1.0)
"""HDF5's own is 8 MB per array, 10 MB per open file: a trainer has hundreds open, and reads no chunk twice in a row."""

ArrayBounds = tuple[tuple[int, int], ...]
"""First and end along every axis."""


@dataclass(frozen=True, eq=False)
class ChunkTable:
    """The chunks of one array, in the order of their grid, last axis fastest.

    Attributes:
        shape: of the array.
        dtype: of the array.
        chunk: shape of a chunk.
        filters: code, flags and parameters of what the bytes went through.
        offsets: where each chunk begins in the file, in bytes.
        sizes: bytes that each chunk takes there.
        masks: bit i is set where filter i was left out.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    filters: tuple[tuple[int, int, tuple[int, ...]], ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    masks: NDArray[np.uint32]

    @classmethod
    def of(cls, array: h5py.h5d.DatasetID, file_bytes: int) -> ChunkTable:
        """Of an open array in chunks.

        Raises:
            ValueError: chunks are missing, too large or beyond the end of the file; a filter that is not ours.
        """
        created, shape, dtype = array.get_create_plist(), array.shape, array.dtype
        chunk = created.get_chunk()
        grid = [-(-length // step) for length, step in zip(shape, chunk, strict=True)]
        chunk_bytes, needed = math.prod(chunk) * dtype.itemsize, math.prod(grid)
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise ValueError(f"has chunks of {chunk}")
        filters = tuple(created.get_filter(i)[:3] for i in range(created.get_nfilters()))
        if unknown := [code for code, _, _ in filters if code not in _FILTERS]:
            raise ValueError(f"is compressed by HDF5's filter {unknown[0]}, which no file of ours uses")
        found: list[Any] = []
        array.chunk_iter(found.append)
        where = np.array([each.chunk_offset for each in found], np.int64).reshape(-1, len(chunk)) // chunk
        if len(found) != needed:
            raise ValueError(f"needs {needed} chunks, {len(found)} are there")
        order = np.argsort(np.ravel_multi_index(tuple(where.T), grid))
        table = cls(
            shape,
            dtype,
            chunk,
            filters,
            np.array([found[i].byte_offset for i in order], np.int64),
            np.array([found[i].size for i in order], np.int32),
            np.array([found[i].filter_mask for i in order], np.uint32),
        )
        if (table.sizes > _most_stored_bytes(chunk_bytes)).any() or (table.offsets + table.sizes > file_bytes).any():
            raise ValueError("has chunks that do not lie in the file")
        return table

    @property
    def memory_bytes(self) -> int:
        """What this table takes."""
        return self.offsets.nbytes + self.sizes.nbytes + self.masks.nbytes

    def read(self, descriptor: int, box: ArrayBounds) -> NDArray[Any]:
        """Part of the array.

        Args:
            descriptor: of the file, open for reading.
            box: within the array.

        Raises:
            OSError, RuntimeError: the file ends early, or a chunk does not match its checksum or cannot be decompressed.
        """
        out = np.empty([stop - start for start, stop in box], self.dtype)
        if not out.size:
            return out
        cells = list(itertools.product(*(range(a // n, -(-b // n)) for (a, b), n in zip(box, self.chunk, strict=True))))
        decoder, count = _decoders.decoder_like(self), math.prod(self.chunk)
        if out.shape[1:] == self.chunk[1:] and len(cells) * count == out.size:  # whole chunks, one after another: frames
            flat = out.reshape(-1)
            for first in range(0, len(cells), decoder.most):
                run = cells[first : first + decoder.most]
                decoder.decode(self._stored(descriptor, run, decoder), flat[first * count : (first + len(run)) * count])
            return out
        for first in range(0, len(cells), decoder.most):
            run = cells[first : first + decoder.most]
            decoder.decode(self._stored(descriptor, run, decoder), decoder.scratch[: len(run) * count])
            for cell, values in zip(run, decoder.scratch.reshape(-1, *self.chunk), strict=False):
                self._place(cell, values, box, out)
        return out

    def _stored(self, descriptor: int, cells: list[tuple[int, ...]], decoder: _Decoder) -> Iterator[tuple[memoryview, int]]:
        """The stored bytes of chunks, each valid until the next, and the filters they did not go through."""
        grid = [-(-length // step) for length, step in zip(self.shape, self.chunk, strict=True)]
        for cell in cells:
            number = 0
            for at, count in zip(cell, grid, strict=True):
                number = number * count + at
            size = int(self.sizes[number])
            stored = decoder.stored[:size]
            if os.preadv(descriptor, [stored], int(self.offsets[number])) != size:
                raise OSError(f"the file ends within chunk {number}")
            yield stored, int(self.masks[number])

    def _place(self, cell: tuple[int, ...], values: NDArray[Any], box: ArrayBounds, out: NDArray[Any]) -> None:
        """Copies the part of a chunk that lies in the box to its place."""
        target, source = [], []
        for at, step, (start, stop) in zip(cell, self.chunk, box, strict=True):
            low, high = max(at * step, start), min((at + 1) * step, stop)
            target.append(slice(low - start, high - start))
            source.append(slice(low - at * step, high - at * step))
        out[tuple(target)] = values[tuple(source)]


def _most_stored_bytes(chunk_bytes: int) -> int:
    """No filter of ours lets a chunk grow by more than some per cent; a number in the file must not decide how much is read."""
    return 2 * chunk_bytes + 4096


class _Decoder:
    """An array in memory whose chunks hold as many bytes of the same kind as those of a table, in one row.

    Attributes:
        most: chunks decoded at once; every call of HDF5 costs as much as a small chunk.
        scratch: place for the values of so many chunks.
        stored: place for the stored bytes of one. Both are kept, since fresh memory of this size costs as much as reading.
    """

    def __init__(self, file: h5py.File, name: str, table: ChunkTable) -> None:
        self._count = math.prod(table.chunk)
        self.most = max(1, min(16, _DECODED_BYTES // (self._count * table.dtype.itemsize)))
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((self._count,))
        for code, flags, parameters in table.filters:
            if code == h5py.h5z.FILTER_FLETCHER32:
                created.set_fletcher32()
            elif code == h5py.h5z.FILTER_SHUFFLE:
                created.set_shuffle()
            else:  # bitshuffle puts three numbers of its own before the ones it was given
                created.set_filter(code, flags, parameters[3:] if code == _BITSHUFFLE else parameters)
        row, kind = h5py.h5s.create_simple((self.most * self._count,)), h5py.h5t.py_create(table.dtype, logical=True)
        self._array = h5py.h5d.create(file.id, name.encode(), kind, row, created, dapl=NO_CHUNK_CACHE)
        self._spaces: dict[int, tuple[h5py.h5s.SpaceID, h5py.h5s.SpaceID]] = {}
        self.stored = memoryview(bytearray(_most_stored_bytes(self._count * table.dtype.itemsize)))
        self.scratch = np.empty(self.most * self._count, table.dtype)

    def decode(self, stored: Iterator[tuple[memoryview, int]], out: NDArray[Any]) -> None:
        """Values of chunks, one after another, into ``out``, which has one axis and is as long as they are."""
        for number, (octets, mask) in enumerate(stored):
            self._array.write_direct_chunk((number * self._count,), octets, mask)
        if len(out) not in self._spaces:
            chosen = self._array.get_space()
            chosen.select_hyperslab((0,), (len(out),))
            self._spaces[len(out)] = h5py.h5s.create_simple((len(out),)), chosen
        self._array.read(*self._spaces[len(out)], out)


class _Decoders(threading.local):
    """Decoders by kind of chunk, in one file in memory. Each thread has its own: a chunk is written, then read."""

    def __init__(self) -> None:
        self._by_kind: dict[Any, _Decoder] = {}

    def decoder_like(self, table: ChunkTable) -> _Decoder:
        """A decoder for chunks of ``table``."""
        kind = table.dtype, math.prod(table.chunk), table.filters
        decoder = self._by_kind.get(kind)
        if decoder is None:
            if not self._by_kind or len(self._by_kind) >= _MAX_KINDS:
                self._by_kind = {}
                self._file = h5py.File("chunks", "w", driver="core", backing_store=False)
            decoder = self._by_kind[kind] = _Decoder(self._file, f"{len(self._by_kind)}", table)
        return decoder


_decoders = _Decoders()
