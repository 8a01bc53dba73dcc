"""The arrays and attributes of one HDF5 file of ours, as they are stored, for random access. The file need not be trusted.

Nothing outside the file is read: links other than hard ones, external storage and virtual arrays are refused. An array is opened
only if its type and shape are those expected and the file holds all of it, so that no number in the file decides how much memory is
taken. Whatever is wrong is a `CorruptFile`. What the arrays mean, and how a profile encodes them, is not known here.
"""

from __future__ import annotations

import math
import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.fields import Field
from videolift.errors import CorruptFile
from videolift.store import open_hdf5, read_attribute, read_hdf5

CRC32 = "crc32"
"""Attribute of an array in one piece: CRC-32 of its bytes. HDF5 itself keeps checksums of chunks only."""
_CACHED_BYTES = 1 << 20
"""Arrays up to this size are read once and kept while the file is open."""
_MAX_CHUNK_BYTES = 1 << 28
_PART_BYTES = 16 << 20
_MAX_DEPTH, _MAX_OBJECTS = 4, 1000
"""A file of ours has two levels and some 50 objects."""
_OWN_LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
"""Not virtual, which reads other files."""


_NO_CHUNK_CACHE = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
_NO_CHUNK_CACHE.set_chunk_cache(1, 0, 1.0)
"""HDF5's own is 8 MB per array, 10 MB per open file: a trainer has hundreds open, and reads no chunk twice in a row."""


class StoredArrays:
    """Random access to the arrays of one file. Not for use in two threads at once.

    Args:
        path: of the file.
        file_format, version: what it must say of itself.
        checked: compare each array in one piece with its CRC-32 when it is first read. Chunks are always checked.

    Raises:
        CorruptFile: missing, truncated, not complete, of another format or version.
    """

    def __init__(self, path: Path, file_format: str, version: int, *, checked: bool = False) -> None:
        self.path, self.checked = path, checked
        self.fields: dict[str, Field] = {}
        """Arrays that the file may hold; set by whoever knows its profile."""
        self._file = open_hdf5(path, file_format, version)
        self._attributes: dict[str, Any] = {}
        self._datasets: dict[str, h5py.Dataset | None] = {}
        self._whole: dict[str, NDArray[Any]] = {}
        self._groups: set[bytes] = set()
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        """Closes the file; safe to call twice. Arrays returned earlier stay valid."""
        self._whole, self._datasets, self._map = {}, {}, None
        self._file.close()

    def attribute(self, name: str, default: Any = None) -> Any:
        """One attribute of the file, decoded; ``default`` where there is none."""
        if name not in self._attributes:
            value = read_attribute(self._file, name, None)
            if isinstance(value, np.ndarray):
                raise CorruptFile(f"{self.path}: attribute {name} is an array")
            self._attributes[name] = value
        known = self._attributes[name]
        return default if known is None else known

    def attributes(self) -> dict[str, Any]:
        """All attributes of the file, decoded."""
        return {name: self.attribute(name) for name in self._file.attrs}

    def attribute_of(self, array: str, name: str) -> Any:
        """One attribute of an array; None where there is none."""
        return read_attribute(self.dataset(array), name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an array, None where the file does not hold it."""
        dataset = self._find(name)
        return None if dataset is None else dataset.shape

    def dataset(self, name: str) -> h5py.Dataset:
        """The array, unread.

        Raises:
            KeyError: the file does not hold it.
        """
        dataset = self._find(name)
        if dataset is None:
            raise KeyError(f"{self.path.name} holds no {name}")
        return dataset

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array; small ones are read once, whole, and are not writable."""
        whole = self._whole.get(name)
        if whole is None:
            dataset = self.dataset(name)
            if dataset.nbytes > _CACHED_BYTES:
                return read_hdf5(dataset, where) if dataset.chunks is not None else np.array(self._view(dataset)[where])
            whole = self._whole[name] = _read_whole(dataset)
        part: NDArray[Any] = whole[where]
        return part

    def parts(self, name: str) -> Iterator[tuple[slice, NDArray[Any]]]:
        """An array in runs of whole chunks of at most some 16 MB along the axis that grows; one run where none does."""
        dataset, field = self.dataset(name), self.fields[name]
        axis = field.axis or 0
        length = dataset.shape[axis]
        row_bytes = max(1, dataset.nbytes // max(1, length))
        rows = max(field.chunk, _PART_BYTES // row_bytes // field.chunk * field.chunk)
        for start in range(0, length, rows):
            run = slice(start, min(start + rows, length))
            yield run, self.read(name, (slice(None),) * axis + (run,))

    def matches_checksum(self, name: str) -> bool:
        """True if every byte of an array can be read and fits its checksums; reads all of it."""
        try:
            dataset = self.dataset(name)
            if dataset.chunks is None:
                return self._matches_crc32(dataset)
            for _ in self.parts(name):
                pass
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

    def _find(self, name: str) -> h5py.Dataset | None:
        if name not in self._datasets:
            try:
                self._datasets[name] = self._open(name)
            except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
                raise CorruptFile(f"{self.path}: {name} cannot be opened: {error}") from error
        return self._datasets[name]

    def _open(self, name: str) -> h5py.Dataset | None:
        key, links = name.encode(), self._file.id.links
        steps = [key[:i] for i, letter in enumerate(key) if letter == ord("/")] + [key]
        for step in steps:
            if step not in self._groups:
                if not links.exists(step):
                    return None
                if links.get_info(step).type != h5py.h5l.TYPE_HARD:
                    raise CorruptFile(f"{self.path}: {step.decode()} is a link; only what lies in the file itself is read")
                self._groups.add(step)
        # Half the cost of asking the file for it; read-only, or h5py looks shape and dtype up at every read.
        dataset = h5py.Dataset(h5py.h5d.open(self._file.id, key, _NO_CHUNK_CACHE), readonly=True)
        problem = self._problem(dataset, self.fields.get(name))
        if problem is None and self.checked and dataset.chunks is None and not self._matches_crc32(dataset):
            problem = "does not match its checksum"
        if problem is not None:
            raise CorruptFile(f"{self.path}: {name} {problem}")
        return dataset

    def _problem(self, dataset: h5py.Dataset, field: Field | None) -> str | None:
        """Why an array is not to be read."""
        if field is None:
            return "is not an array of this profile"
        if dataset.dtype != np.dtype(field.dtype):
            return f"is {dataset.dtype}, expected {field.dtype}"
        try:
            field.check(dataset.shape)
        except ValueError as error:
            return str(error)
        created = dataset.id.get_create_plist()
        if created.get_layout() not in _OWN_LAYOUTS or created.get_external_count():
            return "is stored outside the file"
        nbytes, chunks = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.chunks
        if chunks is None:
            stored = dataset.id.get_storage_size()
            end = (dataset.id.get_offset() or 0) + nbytes
            return None if stored == nbytes and end <= self._file.id.get_filesize() else f"needs {nbytes} bytes, {stored} are there"
        if math.prod(chunks) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
            return f"has chunks of {chunks}"
        if nbytes <= _CACHED_BYTES:  # counting chunks takes as long as opening the array
            return None
        needed = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, chunks, strict=True))
        stored = dataset.id.get_num_chunks()
        return None if stored == needed else f"needs {needed} chunks, {stored} are there"

    def _view(self, dataset: h5py.Dataset) -> NDArray[Any]:
        """An array in one piece, in the file's memory map."""
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        return np.ndarray(dataset.shape, dataset.dtype, self._map, dataset.id.get_offset())

    def _matches_crc32(self, dataset: h5py.Dataset) -> bool:
        if not dataset.nbytes:
            return True
        total, octets = 0, self._view(dataset).reshape(-1).view(np.uint8)
        for start in range(0, len(octets), _PART_BYTES):
            total = zlib.crc32(octets[start : start + _PART_BYTES].data, total)
        return bool(read_attribute(dataset, CRC32) == total)


def _read_whole(dataset: h5py.Dataset) -> NDArray[Any]:
    """All of a small array, not writable; cheaper than through h5py's selections."""
    out = np.empty(dataset.id.shape, dataset.id.dtype)
    try:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
    except (OSError, RuntimeError) as error:
        raise CorruptFile(f"{dataset.file.filename}: {dataset.name} cannot be read: {error}") from error
    out.flags.writeable = False
    return out
