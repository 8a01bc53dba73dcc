"""An artifact file: named arrays that grow along one axis, whole arrays, and attributes.

`ArtifactWriter` writes chunk by chunk into a temporary file and publishes it at the end. A backend that works through a long
video calls `ArtifactWriter.commit` now and then; what was committed survives a kill and is not computed again. `Artifact` reads
lazily and checks on opening. Artifacts hold no time, host, user or path, so equal work gives equal bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.errors import CorruptFile, storage_errors_are_transient
from videolift.store import atomic_file, complete_hdf5, create_hdf5, open_hdf5, publish, sha256_file, temporary_beside

BITSHUFFLE = hdf5plugin.Bitshuffle(cname="lz4")
ZSTD = hdf5plugin.Zstd(clevel=1)
_COPY_BYTES = 64 << 20


@dataclass(frozen=True)
class Field:
    """One dataset of an artifact.

    Attributes:
        name: dataset name, the field name of CONTRACTS A.
        dtype: as stored.
        shape: per axis a length, None where only the clip decides, -1 on the one axis that grows.
        chunk: rows per chunk along the growing axis.
        codec: a filter of hdf5plugin, None for no compression.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    chunk: int = 1024
    codec: Any = None

    @property
    def axis(self) -> int | None:
        """The growing axis; None for an array written once, whole."""
        return self.shape.index(-1) if -1 in self.shape else None


@dataclass(frozen=True)
class Published:
    """What a receipt records of a published artifact."""

    path: Path
    bytes: int
    mtime_ns: int
    sha256: str


def to_attribute(value: Any) -> Any:
    """``value`` as an HDF5 attribute: text and numbers as they are, the rest as JSON text with a mark."""
    plain = isinstance(value, (str, int, float, np.generic)) and not isinstance(value, bool)
    return value if plain else "json:" + json.dumps(value, sort_keys=True)


def from_attribute(value: Any) -> Any:
    """Inverse of `to_attribute`."""
    if isinstance(value, str) and value.startswith("json:"):
        return json.loads(value[5:])
    return value.item() if isinstance(value, np.generic) else value


class ArtifactWriter:
    """Writes one artifact; subclasses name its ``FORMAT``, ``VERSION`` and ``FIELDS``.

    Args:
        final: where the artifact appears once published.
        segments: folder for committed segments of this very work (its name carries the fingerprint); None: commits do nothing.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]
    FIELDS: ClassVar[tuple[Field, ...]]
    ROWS: ClassVar[str]
    """The field whose length counts as progress (`committed`)."""

    def __init__(self, final: Path, *, segments: Path | None = None) -> None:
        self.final, self.segments = final, segments
        self.attributes: dict[str, Any] = {}
        self._fields = {field.name: field for field in self.FIELDS}
        self._file: h5py.File | None = None
        self._scratch: Path | None = None
        self._done = self._valid_segments()
        self.committed: int = sum(rows for _, rows in self._done)
        """Rows (frames or windows) that a previous, killed attempt already committed; start there."""

    def append(self, **arrays: ArrayLike) -> None:
        """Adds rows. Each array's shape is that of its field, with any length along the growing axis."""
        with storage_errors_are_transient(f"writing {self.final.name}"):
            for name, array in arrays.items():
                self._append(self._fields[name], np.asarray(array))

    def put(self, **arrays: ArrayLike) -> None:
        """Writes arrays that do not grow (``K``, ``betas``)."""
        with storage_errors_are_transient(f"writing {self.final.name}"):
            for name, array in arrays.items():
                field, file = self._fields[name], self._open()
                if name in file:
                    del file[name]
                data = np.ascontiguousarray(array, dtype=field.dtype)
                self._check(field, data.shape)
                checked = {"chunks": data.shape, "fletcher32": True} if data.size else {}
                file.create_dataset(name, data=data, **checked)

    def describe(self, **attributes: Any) -> None:
        """Sets attributes: text, numbers, or JSON-able lists and mappings."""
        self.attributes |= attributes

    def scratch(self) -> Path:
        """A folder on the artifact's file system for this attempt only; removed when it ends either way."""
        if self._scratch is None:
            self._scratch = temporary_beside(self.final.with_suffix(".scratch"))
            self._scratch.mkdir(parents=True)
        return self._scratch

    def save_part(self, name: str, **arrays: ArrayLike) -> None:
        """Keeps intermediate arrays (poses of a whole video, say) across a kill of this very work."""
        if self.segments is not None:
            with atomic_file(self.segments / f"{name}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})

    def load_part(self, name: str) -> dict[str, NDArray[Any]] | None:
        """What `save_part` kept in a previous attempt, None if nothing."""
        if self.segments is None or not (self.segments / f"{name}.npz").exists():
            return None
        with np.load(self.segments / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def commit(self) -> None:
        """Makes everything appended so far survive a kill. Call it at fixed rows, so that equal work gives equal bytes."""
        if self.segments is None or self._file is None or self.ROWS not in self._file:
            return
        rows = int(self._file[self.ROWS].shape[0])
        self._finish(self._file)
        temporary, self._file = Path(self._temporary), None
        target = self.segments / f"{self.committed:09d}-{rows}.h5"
        with storage_errors_are_transient(f"saving a segment of {self.final.name}"):
            self.segments.mkdir(parents=True, exist_ok=True)
            publish(temporary, target)
        self._done.append((target, rows))
        self.committed += rows

    def publish(self) -> Published:
        """Closes, checks and renames into place. Afterwards the segments are gone and the writer is spent.

        Raises:
            Transient: disk full, quota or I/O error; nothing appears under the final name.
        """
        try:
            with storage_errors_are_transient(f"writing {self.final.name}"):
                if self._done:
                    self._merge()
                file = self._open()
                self._complete_fields(file)
                self._finish(file)
                self._file = None
                digest = sha256_file(self._temporary)
                publish(self._temporary, self.final)
                stat = self.final.stat()
            if self.segments is not None:
                shutil.rmtree(self.segments, ignore_errors=True)
        finally:
            self.discard()
        return Published(self.final, stat.st_size, stat.st_mtime_ns, digest)

    def discard(self) -> None:
        """Removes what was not committed. Safe to call at any time, also after `publish`."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except (OSError, RuntimeError, ValueError):
            pass  # a full disk also fails the close; the file is removed all the same
        finally:
            if file is not None or getattr(self, "_temporary", None) is not None:
                Path(self._temporary).unlink(missing_ok=True)
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)
                self._scratch = None

    def _open(self) -> h5py.File:
        if self._file is None:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = temporary_beside(self.final)
            self._file = create_hdf5(self._temporary, self.FORMAT, self.VERSION)
        return self._file

    def _append(self, field: Field, data: NDArray[Any]) -> None:
        axis = field.axis
        if axis is None:
            raise ValueError(f"{field.name} does not grow; use put")
        file, data = self._open(), np.asarray(data, dtype=field.dtype)
        self._check(field, data.shape)
        if field.name not in file:
            self._create(file, field, data.shape)
        dataset = file[field.name]
        start = dataset.shape[axis]
        dataset.resize(start + data.shape[axis], axis=axis)
        where = [slice(None)] * data.ndim
        where[axis] = slice(start, start + data.shape[axis])
        if data.size:
            dataset[tuple(where)] = data

    def _create(self, file: h5py.File, field: Field, like: tuple[int, ...]) -> None:
        axis = field.axis
        shape = tuple(0 if i == axis else n for i, n in enumerate(like))
        limits = tuple(None if i == axis else n for i, n in enumerate(like))
        chunks = tuple(field.chunk if i == axis else max(n, 1) for i, n in enumerate(like))
        options = {} if field.codec is None else dict(field.codec)
        file.create_dataset(field.name, shape, field.dtype, maxshape=limits, chunks=chunks, fletcher32=True, **options)

    def _check(self, field: Field, shape: tuple[int, ...]) -> None:
        fits = len(shape) == len(field.shape) and all(
            want in (None, -1) or want == got for want, got in zip(field.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{field.name} has shape {shape}, expected {field.shape} (-1 grows, None is free)")

    def _complete_fields(self, file: h5py.File) -> None:
        """Last additions before publication; a subclass may create fields that never got a row."""

    def _finish(self, file: h5py.File) -> None:
        for key, value in sorted(self.attributes.items()):
            file.attrs[key] = to_attribute(value)
        complete_hdf5(file)

    def _valid_segments(self) -> list[tuple[Path, int]]:
        found: list[tuple[Path, int]] = []
        for path in sorted(self.segments.glob("[0-9]*.h5")) if self.segments else []:
            start, rows = (int(part) for part in path.stem.split("-"))
            try:
                open_hdf5(path, self.FORMAT, self.VERSION).close()
            except CorruptFile:
                break
            if start != sum(n for _, n in found):
                break
            found.append((path, rows))
        for path in sorted(self.segments.glob("[0-9]*.h5")) if self.segments else []:
            if path not in [p for p, _ in found]:
                path.unlink()
        return found

    def _merge(self) -> None:
        tail, self._file = self._file, None
        if tail is not None:
            self._finish(tail)
        parts = [path for path, _ in self._done] + ([Path(self._temporary)] if tail is not None else [])
        for path in parts:
            with open_hdf5(path, self.FORMAT, self.VERSION) as source:
                saved = {k: from_attribute(v) for k, v in source.attrs.items() if k not in ("format", "version", "complete")}
                self.attributes = saved | self.attributes
                for field in self.FIELDS:
                    if field.name in source:
                        self._copy(field, source[field.name])
        if tail is not None:
            parts[-1].unlink()

    def _copy(self, field: Field, source: h5py.Dataset) -> None:
        if field.axis is None:
            self.put(**{field.name: source[...]})
            return
        length = source.shape[field.axis]
        row_bytes = max(1, source.nbytes // max(length, 1))
        step = max(field.chunk, _COPY_BYTES // row_bytes // field.chunk * field.chunk)
        for start in range(0, length, step) if length else [0]:
            where = [slice(None)] * source.ndim
            where[field.axis] = slice(start, start + step)
            self._append(field, source[tuple(where)])


class Artifact:
    """A published artifact, opened lazily for reading; a context manager.

    Raises:
        CorruptFile: on opening, when the file is not complete or its shapes disagree; on reading, when a checksum does not match.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]
    FIELDS: ClassVar[tuple[Field, ...]]

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file = open_hdf5(self.path, self.FORMAT, self.VERSION)
        self.attrs: Mapping[str, Any] = {key: from_attribute(value) for key, value in self._file.attrs.items()}
        """Attributes as written by `ArtifactWriter.describe`."""
        try:
            missing = [field.name for field in self.FIELDS if field.name not in self._file]
            if missing:
                raise CorruptFile(f"{self.path}: without {', '.join(missing)}")
            self._validate()
        except CorruptFile:
            self.close()
            raise

    def _validate(self) -> None:
        """Checks that shapes agree; subclasses raise `CorruptFile`."""

    def _require(self, condition: bool, text: str) -> None:
        if not condition:
            raise CorruptFile(f"{self.path}: {text}")

    def array(self, name: str) -> h5py.Dataset:
        """The stored dataset, unread; index it to read. HDF5's own errors pass through; prefer the named fields."""
        return self._file[name]

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Reads part of a field.

        Raises:
            CorruptFile: a checksum does not match.
        """
        try:
            return np.asarray(self._file[name][where])
        except OSError as error:
            raise CorruptFile(f"{self.path}: {name} cannot be read: {error}") from error

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(data.shape)}" for name, data in self._datasets())
        return f"{type(self).__name__}({self.path.name}: {shapes})"

    def _datasets(self) -> Iterator[tuple[str, h5py.Dataset]]:
        return ((name, self._file[name]) for name in self._file) if self._file else iter(())
