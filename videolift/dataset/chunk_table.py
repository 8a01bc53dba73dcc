"""Where an array's chunks lie in its file, and how to read them without HDF5 having the file open.

Opening an HDF5 file and an array in it costs more than reading a sample from it. A `ChunkTable` remembers what opening finds
out, so that the next read is one ``pread``. Decompression and checksums stay HDF5's own: a chunk's stored bytes are put into an
array of the same kind in memory, and read from there. A chunk that matched its checksum once is decompressed alone from then on,
and one that is not compressed either is read straight to where it is wanted.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

MAX_CHUNK_BYTES = 1 << 28
_MAX_KINDS, _DECODED_BYTES = 64, 1 << 20
"""Kinds of chunk that memory is held for, a dataset has some ten; and how much for each, unless a single chunk is larger."""
_BITSHUFFLE, _ZSTD = 32008, 32015
_CHECKSUM_BYTES = 4
"""HDF5 appends Fletcher-32 to a chunk's bytes."""
_FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, _BITSHUFFLE, _ZSTD)
"""What our files are compressed and checked with. A file that names another filter would choose the code that parses it."""

NO_CHUNK_CACHE = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
NO_CHUNK_CACHE.set_chunk_cache(1, 0, 1.0)
"""HDF5's own is 8 MB per array, 10 MB per open file: a trainer has hundreds open, and reads no chunk twice in a row."""

ArrayBounds = tuple[tuple[int, int], ...]
"""First and end along every axis."""


@dataclass(frozen=True)
class _ChunkCoding:
    """What bytes of chunks went through: ``count`` values of ``dtype``, by ``filters`` (code, flags and parameters).

    ``unread`` bytes at the end of each chunk are left alone: a checksum that was compared before.
    """

    dtype: np.dtype[Any]
    count: int
    filters: tuple[tuple[int, int, tuple[int, ...]], ...]
    unread: int = 0


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
        compared: which chunks were read before, and matched their checksums.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    filters: tuple[tuple[int, int, tuple[int, ...]], ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int32]
    masks: NDArray[np.uint32]
    compared: NDArray[np.bool_]

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
        # All at once: HDF5 finds chunk i by counting from the first, so asking one by one is quadratic.
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
            offsets=np.array([found[i].byte_offset for i in order], np.int64),
            sizes=np.array([found[i].size for i in order], np.int32),
            masks=np.array([found[i].filter_mask for i in order], np.uint32),
            compared=np.zeros(needed, bool),
        )
        if (table.sizes > _most_stored_bytes(chunk_bytes)).any() or (table.offsets + table.sizes > file_bytes).any():
            raise ValueError("has chunks that do not lie in the file")
        return table

    @property
    def memory_bytes(self) -> int:
        """What this table takes."""
        # The tables alone: they grow with the video, the rest does not.
        return self.offsets.nbytes + self.sizes.nbytes + self.masks.nbytes + self.compared.nbytes

    @cached_property
    def _codings(self) -> tuple[_ChunkCoding, _ChunkCoding]:
        """How to read chunks for the first time, and how once they matched their checksums."""
        whole = _ChunkCoding(self.dtype, math.prod(self.chunk), self.filters)
        # Left unread only where it is the last thing in each chunk; a masked filter may be the checksum itself.
        if not self.filters or self.filters[-1][0] != h5py.h5z.FILTER_FLETCHER32 or self.masks.any():
            return whole, whole
        return whole, replace(whole, filters=self.filters[:-1], unread=_CHECKSUM_BYTES)

    @cached_property
    def _strides(self) -> list[int]:
        """Chunks from one to the next along each axis."""
        grid = [-(-length // step) for length, step in zip(self.shape, self.chunk, strict=True)]
        return [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]

    def read(self, descriptor: int, box: ArrayBounds, *, compare_again: bool = False) -> NDArray[Any]:
        """Part of the array.

        Args:
            descriptor: of the file, open for reading.
            box: within the array.
            compare_again: compare checksums that were compared before.

        Raises:
            OSError, RuntimeError: the file ends early, or a chunk does not match its checksum or cannot be decompressed.
        """
        out = np.empty([stop - start for start, stop in box], self.dtype)
        if not out.size:
            return out
        cells = list(itertools.product(*(range(a // n, -(-b // n)) for (a, b), n in zip(box, self.chunk, strict=True))))
        numbers = [sum(map(operator.mul, cell, self._strides)) for cell in cells]
        known = not compare_again and bool(self.compared[numbers].all())
        coding = self._codings[known]
        count, most = coding.count, _chunks_at_once(coding)
        whole = out.shape[1:] == self.chunk[1:] and len(cells) * count == out.size  # whole chunks, one after another: frames
        place = out.reshape(-1) if whole else _decoders.scratch_for(coding)
        for first in range(0, len(cells), most):
            run = numbers[first : first + most]
            at = first * count if whole else 0
            self._decode(descriptor, run, coding, place[at : at + len(run) * count])
            if whole:
                continue
            for cell, values in zip(cells[first : first + most], place.reshape(-1, *self.chunk), strict=False):
                target, source = [], []
                for spot, step, (start, stop) in zip(cell, self.chunk, box, strict=True):
                    low, high = max(spot * step, start), min((spot + 1) * step, stop)
                    target.append(slice(low - start, high - start))
                    source.append(slice(low - spot * step, high - spot * step))
                out[tuple(target)] = values[tuple(source)]
        # Only now: an error above leaves the chunks to be compared at the next try.
        if not known:
            self.compared[numbers] = True
        return out

    def _decode(self, descriptor: int, numbers: list[int], coding: _ChunkCoding, out: NDArray[Any]) -> None:
        """Values of chunks, one after another, into ``out``, which has one axis and is as long as they are."""
        if coding.filters:
            decoder = _decoders.decoder_like(coding)

            def stored() -> Iterator[tuple[memoryview, int]]:
                """The stored bytes of each chunk, valid until the next, and the filters they did not go through."""
                for number in numbers:
                    octets = decoder.stored[: int(self.sizes[number]) - coding.unread]
                    self._read_bytes(descriptor, number, octets)
                    yield octets, int(self.masks[number])

            decoder.decode(stored(), out)
            return
        octets, size = out.view(np.uint8).data, coding.count * coding.dtype.itemsize
        for place, number in enumerate(numbers):
            if self.sizes[number] - coding.unread != size:
                raise OSError(f"chunk {number} takes {self.sizes[number]} bytes, {size + coding.unread} were expected")
            self._read_bytes(descriptor, number, octets[place * size : (place + 1) * size])

    def _read_bytes(self, descriptor: int, number: int, out: memoryview) -> None:
        if os.preadv(descriptor, [out], int(self.offsets[number])) != len(out):
            raise OSError(f"the file ends within chunk {number}")


def index_bounds(where: Any, shape: tuple[int, ...]) -> tuple[ArrayBounds, tuple[Any, ...]]:
    """The smallest box that holds an index of numbers and slices, and the index within that box.

    Raises:
        IndexError: a number beyond the array, or more of them than axes.
    """
    steps = list(where) if isinstance(where, tuple) else [where]
    if Ellipsis in steps:
        at = steps.index(Ellipsis)
        steps[at : at + 1] = [slice(None)] * (len(shape) - len(steps) + 1)
    if len(steps) > len(shape):
        raise IndexError(f"an index of {len(steps)} axes, the array has {len(shape)}")
    steps += [slice(None)] * (len(shape) - len(steps))
    box: list[tuple[int, int]] = []
    rest: list[Any] = []
    for step, length in zip(steps, shape, strict=True):
        if isinstance(step, slice):
            run = range(length)[step]
            box.append((min(run[0], run[-1]), max(run[0], run[-1]) + 1) if run else (0, 0))
            rest.append(slice(None, None, run.step))
        else:
            at = range(length)[step]
            box.append((at, at + 1))
            rest.append(0)
    return tuple(box), tuple(rest)


def _most_stored_bytes(chunk_bytes: int) -> int:
    """No filter of ours lets a chunk grow by more than some per cent; a number in the file must not decide how much is read."""
    return 2 * chunk_bytes + 4096


def _chunks_at_once(coding: _ChunkCoding) -> int:
    """Every call of HDF5 costs as much as a small chunk."""
    return max(1, min(16, _DECODED_BYTES // (coding.count * coding.dtype.itemsize)))


class _Decoder:
    """An array in memory whose chunks hold as many bytes of the same kind as those of a table, in one row.

    ``stored`` is a place for the stored bytes of one chunk. It is kept, since fresh memory of this size costs as much as reading.
    """

    def __init__(self, file: h5py.File, name: str, coding: _ChunkCoding) -> None:
        self._count = coding.count
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((self._count,))
        for code, flags, parameters in coding.filters:
            if code == h5py.h5z.FILTER_FLETCHER32:
                created.set_fletcher32()
            elif code == h5py.h5z.FILTER_SHUFFLE:
                created.set_shuffle()
            else:  # bitshuffle puts three numbers of its own before the ones it was given
                created.set_filter(code, flags, parameters[3:] if code == _BITSHUFFLE else parameters)
        row, kind = (_chunks_at_once(coding) * self._count,), h5py.h5t.py_create(coding.dtype, logical=True)
        self._array = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(row), created, dapl=NO_CHUNK_CACHE)
        self._spaces: dict[int, tuple[h5py.h5s.SpaceID, h5py.h5s.SpaceID]] = {}
        self.stored = memoryview(bytearray(_most_stored_bytes(self._count * coding.dtype.itemsize)))

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
        self._by_coding: dict[_ChunkCoding, _Decoder] = {}
        self._scratch = np.empty(_DECODED_BYTES, np.uint8)

    def decoder_like(self, coding: _ChunkCoding) -> _Decoder:
        """A decoder for such chunks."""
        decoder = self._by_coding.get(coding)
        if decoder is None:
            # A file in memory never shrinks, so when there are too many kinds it is dropped and a new one begun.
            if not self._by_coding or len(self._by_coding) >= _MAX_KINDS:
                self._by_coding = {}
                self._file = h5py.File("chunks", "w", driver="core", backing_store=False)
            decoder = self._by_coding[coding] = _Decoder(self._file, f"{len(self._by_coding)}", coding)
        return decoder

    def scratch_for(self, coding: _ChunkCoding) -> NDArray[Any]:
        """Place for the values of as many chunks as are decoded at once, valid until the next call."""
        size = _chunks_at_once(coding) * coding.count * coding.dtype.itemsize
        if size > len(self._scratch):
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size].view(coding.dtype)


_decoders = _Decoders()
