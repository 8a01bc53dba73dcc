"""The arrays and attributes of one HDF5 file of ours, as they are stored, for random access. The file need not be trusted.

Nothing outside the file is read: links other than hard ones, external storage and virtual arrays are refused. An array is opened
only if its type and shape are those expected and the file holds all of it, so that no number in the file decides how much memory is
taken. Whatever is wrong is a `CorruptFile`. What the arrays mean, and how a profile encodes them, is not known here.
"""

from __future__ import annotations

import math
import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.fields import Field
from videolift.dataset.chunk_table import MAX_CHUNK_BYTES, NO_CHUNK_CACHE, ChunkTable, index_bounds
from videolift.errors import CorruptFile
from videolift.store import open_hdf5, read_attribute

CRC32 = "crc32"
"""Attribute of an array in one piece: CRC-32 of its bytes. HDF5 itself keeps checksums of chunks only."""
_CACHED_BYTES = 1 << 18
"""Arrays up to this size are read once and kept as long as the file is known. Up to a megabyte it would be two per file, and save a
tenth of a sample's time."""
_PART_BYTES = 16 << 20  # large enough that the number of calls does not matter, small beside a process's memory
_RESTING_BYTES = 16 << 10
"""What is known of a file besides its arrays, about: attributes, names, Python's objects."""
_MAX_DEPTH, _MAX_OBJECTS = 4, 1000
"""A file of ours has two levels and some 50 objects."""
_OWN_LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
"""Not virtual, which reads other files."""


FileIdentity = tuple[int, int, int]
"""Inode, size and time of change in nanoseconds: another one is another file, under the same name or not."""


def file_identity(file: Path | int) -> FileIdentity | None:
    """Of a path or an open descriptor; None where there is no such file."""
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@dataclass(frozen=True, eq=False)
class _Array:
    """What opening an array found out.

    Attributes:
        shape, dtype: of the array.
        table: where its chunks lie; None for an array in one piece, and for small ones, which are read once.
        offset: where an array in one piece begins, in bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    table: ChunkTable | None
    offset: int | None

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class StoredArrays:
    """Random access to the arrays of one file. Not for use in two threads at once.

    What was found out about the file is kept when it `rest`s, without a descriptor, and serves again after `wake`.

    Args:
        path: of the file.
        file_format, version: what it must say of itself.
        checked: compare checksums of chunks at every read, not only when a chunk is first read, and each array in one piece with
            its CRC-32 when it is first read.

    Raises:
        CorruptFile: missing, truncated, not complete, of another format or version.
    """

    def __init__(self, path: Path, file_format: str, version: int, *, checked: bool = False) -> None:
        self._hdf5: h5py.File | None = None
        self._descriptor = -1
        self.path, self.checked = path, checked
        self.fields: dict[str, Field] = {}
        """Arrays that the file may hold; set by whoever knows its profile."""
        self._kind = file_format, version
        self._attributes: dict[tuple[str, str], Any] = {}
        self._arrays: dict[str, _Array | None] = {}
        self._opened_arrays: dict[str, h5py.h5d.DatasetID] = {}
        self._whole: dict[str, NDArray[Any]] = {}
        self._groups: set[bytes] = set()
        self._map: mmap.mmap | None = None
        self.identity: FileIdentity | None = None
        """Of the file that was opened; a file published later under the same name has another one."""
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.identity = file_identity(self._descriptor)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise CorruptFile(f"{path}: {'no such file' if missing else f'cannot be opened: {error}'}") from error
        try:
            self._file  # noqa: B018  whatever is wrong with the file as a whole is said now
        except CorruptFile:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file; safe to call twice. Arrays returned earlier stay valid."""
        self.rest()
        self._whole, self._arrays, self._attributes = {}, {}, {}

    def __del__(self) -> None:
        self.rest()  # a descriptor is a number: nothing else closes it when a dataset is dropped

    def rest(self) -> None:
        """Gives back descriptors and HDF5's memory, and keeps what is known of the file."""
        self._map = None
        self._opened_arrays.clear()  # open handles of arrays would keep the file open in HDF5
        if self._hdf5 is not None:
            self._hdf5.close()
            self._hdf5 = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def wake(self) -> bool:
        """Opens a file that rests; False, and it stays at rest, if another one lies there by now."""
        if self._descriptor >= 0:
            return True
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        if file_identity(self._descriptor) != self.identity:  # of what was opened, not of the path: that may change in between
            self.rest()
            return False
        return True

    @property
    def memory_bytes(self) -> int:
        """What a file at rest takes, nearly."""
        tables = sum(array.table.memory_bytes for array in self._arrays.values() if array is not None and array.table is not None)
        return _RESTING_BYTES + tables + sum(array.nbytes for array in self._whole.values())

    @property
    def _file(self) -> h5py.File:
        """HDF5's own handle, opened when something is asked for that is not known yet."""
        if self._hdf5 is None:
            if self._descriptor < 0:
                raise CorruptFile(f"{self.path}: it is closed")
            # HDF5 opens by name, and another file may have taken this one's name since.
            self._hdf5 = open_hdf5(self.path, *self._kind)
            if file_identity(self._hdf5.id.get_vfd_handle()) != self.identity:
                # What is known is of the old file, which is still open here: it is read through its descriptor.
                self._hdf5.close()
                content = open(self._descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115  HDF5 reads from it until closed
                self._hdf5 = open_hdf5(self.path, *self._kind, content=content)
        return self._hdf5

    def attribute(self, name: str, default: Any = None) -> Any:
        """One attribute of the file, decoded; ``default`` where there is none."""
        if ("", name) not in self._attributes:
            value = read_attribute(self._file, name, None)
            if isinstance(value, np.ndarray):
                raise CorruptFile(f"{self.path}: attribute {name} is an array")
            self._attributes["", name] = value
        known = self._attributes["", name]
        return default if known is None else known

    def attributes(self) -> dict[str, Any]:
        """All attributes of the file, decoded."""
        return {name: self.attribute(name) for name in self._file.attrs}

    def attribute_of(self, array: str, name: str) -> Any:
        """One attribute of an array; None where there is none.

        Raises:
            KeyError: the file does not hold the array.
        """
        if (array, name) not in self._attributes:
            self._attributes[array, name] = read_attribute(h5py.Dataset(self._opened(array)), name)
        return self._attributes[array, name]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an array, None where the file does not hold it."""
        array = self._find(name)
        return None if array is None else array.shape

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array; small ones are read once, whole, and are not writable.

        Args:
            name: of the array.
            where: an index of numbers and slices.

        Raises:
            KeyError: the file does not hold it.
            CorruptFile: it cannot be read.
        """
        whole = self._whole.get(name)
        if whole is None:
            array = self._present(name)
            if array.offset is not None and array.nbytes > _CACHED_BYTES:
                return np.array(self._view(array)[where])
            try:
                if array.table is not None:
                    box, rest = index_bounds(where, array.shape)
                    chosen: NDArray[Any] = array.table.read(self._open_descriptor(), box, compare_again=self.checked)[rest]
                    return chosen
                whole = np.empty(array.shape, array.dtype)
                self._opened(name).read(h5py.h5s.ALL, h5py.h5s.ALL, whole)
            except (OSError, RuntimeError) as error:
                raise CorruptFile(f"{self.path}: {name} cannot be read: {error}") from error
            whole.flags.writeable = False  # it is handed out again and again
            self._whole[name] = whole
        part: NDArray[Any] = whole[where]
        return part

    def matches_checksum(self, name: str) -> bool:
        """True if every byte of an array can be read and fits its checksums; reads all of it."""
        try:
            array = self._present(name)
            if array.offset is not None:
                return self._matches_crc32(name, array)
            if array.table is not None:
                array.table.compared[:] = False  # what matched once is compared again: the file may have rotted since
            for where in self.fields[name].runs(array.shape, _PART_BYTES):
                self.read(name, where)
        except CorruptFile:
            return False
        return True

    def unexpected(self) -> Iterator[str]:
        """What is wrong with what else lies in the file: links that lead elsewhere, loops, arrays that nobody asked for."""
        groups, seen = [(b"", self._file.id)], {h5py.h5o.get_info(self._file.id).addr}
        while groups:
            prefix, group = groups.pop()
            for name in group:
                path = prefix + name
                text = path.decode(errors="replace")
                if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                    yield f"{text} is a link; only what lies in the file itself is read"
                    continue
                at = h5py.h5o.get_info(group, name)
                if at.addr in seen or len(seen) > _MAX_OBJECTS or path.count(b"/") >= _MAX_DEPTH:
                    yield f"{text} is there twice, or one of too many"
                    continue
                seen.add(at.addr)
                if at.type == h5py.h5o.TYPE_GROUP:
                    groups.append((path + b"/", h5py.h5g.open(group, name)))
                elif text not in self.fields:
                    yield f"{text} is not an array of this profile"

    def _find(self, name: str) -> _Array | None:
        if name not in self._arrays:
            try:
                self._arrays[name] = self._open(name)
            except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
                raise CorruptFile(f"{self.path}: {name} cannot be opened: {error}") from error
        return self._arrays[name]

    def _present(self, name: str) -> _Array:
        array = self._find(name)
        if array is None:
            raise KeyError(f"{self.path.name} holds no {name}")
        return array

    def _opened(self, name: str) -> h5py.h5d.DatasetID:
        """HDF5's own handle of an array."""
        if name not in self._opened_arrays:
            self._arrays.pop(name, None)  # known since before the file rested
            self._present(name)
        return self._opened_arrays[name]

    def _open(self, name: str) -> _Array | None:
        key, links = name.encode(), self._file.id.links
        steps = [key[:i] for i, letter in enumerate(key) if letter == ord("/")] + [key]
        for step in steps:
            if step not in self._groups:
                if not links.exists(step):
                    return None
                if links.get_info(step).type != h5py.h5l.TYPE_HARD:
                    raise CorruptFile(f"{self.path}: {step.decode()} is a link; only what lies in the file itself is read")
                self._groups.add(step)
        # h5py's own objects look shape, type and filters up again at every use, which is most of what opening would cost.
        opened = h5py.h5d.open(self._file.id, key, NO_CHUNK_CACHE)
        field, shape, dtype = self.fields.get(name), opened.shape, opened.dtype
        if field is None:
            raise CorruptFile(f"{self.path}: {name} is not an array of this profile")
        if dtype != np.dtype(field.dtype):
            raise CorruptFile(f"{self.path}: {name} is {dtype}, expected {field.dtype}")
        field.check(shape)
        created, file_bytes = opened.get_create_plist(), self._file.id.get_filesize()
        layout, nbytes = created.get_layout(), math.prod(shape) * dtype.itemsize
        if layout not in _OWN_LAYOUTS or created.get_external_count():
            raise CorruptFile(f"{self.path}: {name} is stored outside the file")
        if layout != h5py.h5d.CHUNKED:
            stored, offset = opened.get_storage_size(), opened.get_offset() or 0
            # Compared before a map is made: reading a map beyond the end of its file kills the process.
            if stored != nbytes or offset + nbytes > file_bytes:
                raise CorruptFile(f"{self.path}: {name} needs {nbytes} bytes, {stored} are there")
            array = _Array(shape, dtype, None, offset)
        elif nbytes > _CACHED_BYTES:
            array = _Array(shape, dtype, ChunkTable.of(opened, file_bytes), None)
        else:
            # A small array may state a huge chunk, which HDF5 would decompress whole.
            if math.prod(chunk := created.get_chunk()) * dtype.itemsize > MAX_CHUNK_BYTES:
                raise CorruptFile(f"{self.path}: {name} has chunks of {chunk}")
            array = _Array(shape, dtype, None, None)
        self._opened_arrays[name] = opened
        # HDF5 has no checksums of arrays in one piece, so theirs is an attribute.
        if self.checked and array.offset is not None and not self._matches_crc32(name, array):
            raise CorruptFile(f"{self.path}: {name} does not match its checksum")
        return array

    def _open_descriptor(self) -> int:
        if self._descriptor < 0:
            raise CorruptFile(f"{self.path}: it is closed")
        return self._descriptor

    def _view(self, array: _Array) -> NDArray[Any]:
        """An array in one piece, in the file's memory map."""
        if self._map is None:
            self._map = mmap.mmap(self._open_descriptor(), 0, prot=mmap.PROT_READ)
        return np.ndarray(array.shape, array.dtype, self._map, array.offset or 0)

    def _matches_crc32(self, name: str, array: _Array) -> bool:
        if not array.nbytes:
            return True
        total, octets = 0, self._view(array).reshape(-1).view(np.uint8)
        for start in range(0, len(octets), _PART_BYTES):
            total = zlib.crc32(octets[start : start + _PART_BYTES].data, total)
        return bool(read_attribute(h5py.Dataset(self._opened(name)), CRC32) == total)
