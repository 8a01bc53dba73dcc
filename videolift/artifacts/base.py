"""An artifact file: named arrays that grow along one axis, whole arrays, and attributes.

`ArtifactWriter` writes chunk by chunk into a temporary file and publishes it at the end. A backend that works through a long
video calls `ArtifactWriter.commit` now and then; what was committed survives a kill and is not computed again. `Artifact` reads
lazily and checks on opening. Artifacts hold no time, host, user or path, so equal work gives equal bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.fields import Field, GrowingDataset
from videolift.carried_facts import append_facts
from videolift.errors import CorruptFile, storage_errors_are_transient
from videolift.hdf5_output import HDF5Output
from videolift.store import (
    OWN_ATTRIBUTES,
    atomic_file,
    complete_hdf5,
    create_hdf5,
    open_hdf5,
    publish,
    read_attributes,
    read_hdf5,
    sha256_file,
    temporary_beside,
    write_attribute,
)

if TYPE_CHECKING:
    from typing import Self  # Python 3.11; trainers may have 3.10

_COPY_BYTES = 64 << 20


@dataclass(frozen=True)
class Published:
    """What a receipt records of a published artifact; ``sha256`` is that of its content, without the facts it carries."""

    path: Path
    bytes: int
    mtime_ns: int
    sha256: str


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
        self._file: HDF5Output | None = None
        self._temporary = final
        self._growing: dict[str, GrowingDataset] = {}
        self._scratch: Path | None = None
        self._facts: Mapping[str, Any] | None = None
        self.committed = 0
        """Rows (frames or windows) that a previous, killed attempt already committed; start there."""
        self._done: list[tuple[Path, int]] = []
        """Committed segments from row 0 to the first gap or damage; the others are deleted, and their rows made again."""
        found = sorted(segments.glob("[0-9]*.h5")) if segments else []
        for path in found:
            start, rows = (int(part) for part in path.stem.split("-"))
            try:
                # Opened, not only listed: a kill cannot leave half a segment under its name, but a disk can lose
                # some of it.
                open_hdf5(path, self.FORMAT, self.VERSION).close()
            except CorruptFile:
                break
            if start != self.committed:
                break
            self._done.append((path, rows))
            self.committed += rows
        for path in found[len(self._done) :]:
            path.unlink()

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
                if name in file:  # a resumed attempt puts it again, and a merge brings both versions here
                    del file[name]
                data = np.ascontiguousarray(array, dtype=field.dtype)
                field.check(data.shape)
                # HDF5 has checksums for chunked data only, and no chunk may be empty.
                checked = {"chunks": data.shape, "fletcher32": True} if data.size else {}
                file.create_dataset(name, data=data, **checked)

    def describe(self, **attributes: Any) -> None:
        """Sets attributes: text, numbers, or JSON-able lists and mappings."""
        self.attributes |= attributes

    def carry(self, facts: Mapping[str, Any]) -> None:
        """Puts ``facts`` into the published file, where they are not part of its content; a lost record is read back from them."""
        self._facts = facts

    def scratch(self) -> Path:
        """A folder on the artifact's file system for this attempt only; removed when it ends either way."""
        if self._scratch is None:
            self._scratch = temporary_beside(self.final.with_suffix(".scratch"))
            self._scratch.mkdir(parents=True)
        return self._scratch

    def save_part(self, name: str, **arrays: ArrayLike) -> None:
        """Keeps intermediate arrays (poses of a whole video, say) across a kill; without ``segments`` for this attempt only."""
        with atomic_file((self.segments or self.scratch()) / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})

    def load_part(self, name: str) -> dict[str, NDArray[Any]] | None:
        """What `save_part` kept, None if nothing."""
        folder = self.segments or self._scratch
        if folder is None or not (folder / f"{name}.npz").exists():
            return None
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def saved_parts(self) -> list[str]:
        """Names of all that `save_part` kept, sorted."""
        folder = self.segments or self._scratch
        return sorted(path.stem for path in folder.glob("*.npz")) if folder is not None else []

    def drop_part(self, name: str) -> None:
        """Forgets what `save_part` kept."""
        folder = self.segments or self._scratch
        if folder is not None:
            (folder / f"{name}.npz").unlink(missing_ok=True)

    def restart(self) -> None:
        """Forgets the rows that earlier attempts committed; begin at row 0. Only before anything is appended."""
        for path, _ in self._done:
            path.unlink(missing_ok=True)
        self._done, self.committed = [], 0

    def commit(self) -> None:
        """Makes everything appended so far survive a kill. Call it at fixed rows, so that equal work gives equal bytes."""
        if self.segments is None or self._file is None or self.ROWS not in self._file:
            return
        rows = self._growing[self.ROWS].rows
        # Nine digits, so that the order of the names is the order of the rows.
        target = self.segments / f"{self.committed:09d}-{rows}.h5"
        with storage_errors_are_transient(f"saving a segment of {self.final.name}"):
            self._finish(self._file)
            self._file = None
            self.segments.mkdir(parents=True, exist_ok=True)
            publish(self._temporary, target)
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
                digest = sha256_file(self._temporary)  # before the facts: they differ between runs that made the same content
                if self._facts is not None:
                    append_facts(self._temporary, self._facts)
                publish(self._temporary, self.final)
                stat = self.final.stat()
            if self.segments is not None:
                # Only now: until the artifact has its name, the segments are all that survives a kill.
                shutil.rmtree(self.segments, ignore_errors=True)
        finally:
            self.discard()
        return Published(self.final, stat.st_size, stat.st_mtime_ns, digest)

    def discard(self) -> None:
        """Removes what was not committed. Safe to call at any time, also after `publish`."""
        file, self._file, self._growing = self._file, None, {}
        try:
            if file is not None:
                file.close()
        except OSError:
            pass  # the disk is full; the file is removed all the same
        finally:
            if self._temporary is not self.final:
                self._temporary.unlink(missing_ok=True)
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)
                self._scratch = None

    def _open(self) -> HDF5Output:
        if self._file is None:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = temporary_beside(self.final)
            self._file = create_hdf5(self._temporary, self.FORMAT, self.VERSION)
        return self._file

    def _append(self, field: Field, data: NDArray[Any]) -> None:
        if field.axis is None:
            raise ValueError(f"{field.name} does not grow; use put")
        file, data = self._open(), np.asarray(data, dtype=field.dtype)
        field.check(data.shape)
        if field.name not in file:
            self._growing[field.name] = GrowingDataset(file, field, data.shape)
        self._growing[field.name].append(data)
        file.check()

    def _complete_fields(self, file: h5py.File) -> None:
        """Last additions before publication; a subclass may create fields that never got a row."""

    def _finish(self, file: HDF5Output) -> None:
        for dataset in self._growing.values():
            dataset.flush()
        self._growing = {}
        for key, value in sorted(self.attributes.items()):  # equal work gives equal bytes, in whatever order it was described
            write_attribute(file, key, value)
        complete_hdf5(file)

    def _merge(self) -> None:
        tail = self._temporary if self._file is not None else None
        try:
            if self._file is not None:
                self._finish(self._file)
                self._file = None
            for path in [path for path, _ in self._done] + ([tail] if tail is not None else []):
                try:
                    with open_hdf5(path, self.FORMAT, self.VERSION) as source:
                        saved = {key: value for key, value in read_attributes(source).items() if key not in OWN_ATTRIBUTES}
                        # What this attempt described wins over what a killed one did.
                        self.attributes = saved | self.attributes
                        for field in (field for field in self.FIELDS if field.name in source):
                            for where in field.runs(source[field.name].shape, _COPY_BYTES):
                                data = read_hdf5(source[field.name], where)
                                if field.axis is None:
                                    self.put(**{field.name: data})
                                else:
                                    self._append(field, data)
                except CorruptFile:
                    path.unlink(missing_ok=True)  # the next attempt does it again
                    raise
        finally:
            if tail is not None:
                tail.unlink(missing_ok=True)


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
        try:
            self.attrs: Mapping[str, Any] = read_attributes(self._file)
            """Attributes as written by `ArtifactWriter.describe`."""
            missing = [field.name for field in self.FIELDS if not field.optional and field.name not in self]
            self._require(not missing, f"without {', '.join(missing)}")
            self._validate()
        except CorruptFile:
            self.close()
            raise

    def _validate(self) -> None:
        """Checks that shapes agree; subclasses raise `CorruptFile`."""

    def _require(self, condition: bool, text: str) -> None:
        if not condition:
            raise CorruptFile(f"{self.path}: {text}")

    def __contains__(self, name: str) -> bool:
        try:
            return name in self._file
        except (OSError, RuntimeError, KeyError) as error:
            raise CorruptFile(f"{self.path}: {name} cannot be looked up: {error}") from error

    def array(self, name: str) -> h5py.Dataset:
        """The stored dataset, unread; `read` reads from it with its checks.

        Raises:
            CorruptFile: its description does not match its checksum.
        """
        try:
            return self._file[name]
        except (OSError, RuntimeError, KeyError) as error:
            raise CorruptFile(f"{self.path}: {name} cannot be opened: {error}") from error

    def read(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Reads part of a field.

        Raises:
            CorruptFile: a checksum does not match.
        """
        return read_hdf5(self.array(name), where)

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        names = self._file if self._file else ()  # a closed file is false, and cannot be iterated
        shapes = ", ".join(f"{name} {tuple(self._file[name].shape)}" for name in names)
        return f"{type(self).__name__}({self.path.name}: {shapes})"
