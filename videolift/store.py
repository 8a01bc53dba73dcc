"""Files that are either whole or absent: atomic publication of JSON and HDF5, checks on opening, content hashes.

A file is written under a temporary name beside its place, closed, reopened and checked, fsynced, renamed, and its folder
fsynced. ``complete = 1`` is the last thing written to an HDF5 file. "It exists" and "it opens" prove nothing: a killed writer can
leave a file that opens and reads zeros. This module does not know what the files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import hdf5plugin  # noqa: F401  importing it registers the filters that our files use
import numpy as np
from numpy.typing import NDArray

from videolift.errors import CorruptFile, storage_errors_are_transient
from videolift.hdf5_output import HDF5Output

OWN_ATTRIBUTES = frozenset({"format", "version", "complete"})
"""What this module adds to a file's own attributes."""
_JSON = "json:"
_MAX_ATTRIBUTE_BYTES = 16 << 20  # the largest of ours, a video's lineage and scores, are some kilobytes
_SURROGATES = re.compile("[\ud800-\udfff]")
LIBVER = ("v110", "v110")
"""HDF5 1.10 and later can read our files; ``latest`` may be unreadable for a collaborator's library."""


def temporary_beside(final: Path) -> Path:
    """A new name in ``final``'s folder, so that the later rename stays on one file system. Leading dot: no reader lists it."""
    return final.with_name(f".{final.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_leftovers(final: Path) -> None:
    """Removes what processes that were killed left of ``final`` under names of `temporary_beside`; nobody may be writing it."""
    # The whole name: of `clip` and `clip.2` each may have a writer of its own.
    mine = re.compile(rf"\.{re.escape(final.stem)}\.({re.escape(final.suffix[1:])}|scratch)\.\d+-[0-9a-f]{{8}}\.tmp")
    for path in final.parent.iterdir() if final.parent.is_dir() else ():
        if mine.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif mine.fullmatch(path.name):
            path.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Flushes a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path, *, durable: bool = True) -> None:
    """Makes a closed and checked file visible under its final name; where ``durable``, surviving a power cut."""
    if durable:
        fsync_path(temporary)
    os.replace(temporary, final)
    # The folder too: a rename is only on the disk once the folder is.
    if durable:
        fsync_path(final.parent)


@contextmanager
def atomic_file(final: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path; publishes it on a normal exit, removes it on an error.

    Args:
        final: where the file appears.
        durable: False only for what has checksums of its own and can be made again: after a power cut it may be torn.

    Raises:
        Transient: disk full, quota or I/O error while writing.
    """
    temporary = temporary_beside(final)
    try:
        with storage_errors_are_transient(f"writing {final.name}"):
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            publish(temporary, final, durable=durable)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(final: Path, text: str) -> None:
    """Publishes a small text file."""
    with atomic_file(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(final: Path, value: Any) -> None:
    """Publishes ``value`` as JSON with sorted keys; equal values give equal bytes. NaN is refused."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    if _SURROGATES.search(text):  # a file name that is not UTF-8
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_text(final, text + "\n")


def read_file(path: Path) -> bytes | None:
    """The bytes of a file of ours; None where there is none.

    Raises:
        CorruptFile: a folder stands in its place; nothing could be written there either.
    """
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise CorruptFile(f"{path} is a folder where a file belongs: move it away, then run the same command again") from error
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file of ours; None where the file is missing, torn, or holds something else.

    Raises:
        CorruptFile: as `read_file`.
    """
    data = read_file(path)
    try:
        value = json.loads(data.decode()) if data is not None else None
    # A number of ten thousand digits is a plain ValueError, and a hundred thousand brackets are a RecursionError.
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form, hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def create_hdf5(temporary: Path, file_format: str, version: int) -> HDF5Output:
    """A new HDF5 file of ours, not yet complete; `complete_hdf5` ends it."""
    file = HDF5Output(temporary, LIBVER)
    write_attribute(file, "format", file_format)
    write_attribute(file, "version", version)
    return file


def complete_hdf5(file: HDF5Output) -> None:
    """Marks ``file`` complete, closes it, reopens it and checks it."""
    path, attributes = Path(file.filename), read_attributes(file)
    # What the mark vouches for is handed to the system before the mark.
    file.flush()
    write_attribute(file, "complete", 1)
    file.close()
    open_hdf5(path, attributes["format"], attributes["version"]).close()


def open_hdf5(path: Path, file_format: str, version: int, *, content: BinaryIO | None = None) -> h5py.File:
    """Opens a published file for reading, without locks (published files never change; clusters' file systems lack locks).

    Args:
        path: of the file.
        file_format, version: what it must say of itself.
        content: the file itself, already open, where another may lie under its path by now.

    Raises:
        CorruptFile: missing, truncated, not complete, of another format or of a newer version.
    """
    try:
        file = h5py.File(path if content is None else content, "r", locking=False)
    except FileNotFoundError as error:
        raise CorruptFile(f"{path}: no such file") from error
    except OSError as error:
        raise CorruptFile(f"{path}: not a readable HDF5 file: {error}") from error
    try:
        found = [read_attribute(file, name) for name in ("format", "version", "complete")]
        problem = None
        # An array compared with a number gives an array, which has no truth value.
        if any(isinstance(value, np.ndarray) for value in found):
            problem = "its format is an array"
        elif found[0] != file_format:
            problem = f"format is {found[0]!r}, expected {file_format!r}"
        elif found[1] != version:
            problem = f"version is {found[1]}, this videolift reads {version}"
        elif found[2] != 1:
            problem = "not complete: its writer was stopped"
        if problem is not None:
            raise CorruptFile(f"{path}: {problem}")
    except CorruptFile:
        file.close()
        raise
    return file


def read_hdf5(dataset: h5py.Dataset, where: Any = ...) -> NDArray[Any]:
    """Reads from a dataset of a file of ours.

    Raises:
        CorruptFile: a checksum does not match.
    """
    try:
        return np.asarray(dataset[where])
    except (OSError, RuntimeError) as error:
        raise CorruptFile(f"{dataset.file.filename}: {dataset.name} cannot be read: {error}") from error


def write_attribute(node: h5py.HLObject, name: str, value: Any) -> None:
    """Sets an attribute: text and numbers as they are, anything else that JSON can hold as JSON text.

    Text has a fixed length, since HDF5 keeps text of variable length in a heap without checksums, where one flipped bit is read as
    another word or makes the reader hang (measured). To h5py alone it is therefore bytes.
    """
    is_plain = isinstance(value, (str, int, float, np.generic)) and not isinstance(value, bool)
    if not is_plain or (isinstance(value, str) and (value.startswith(_JSON) or "\0" in value)):
        value = _JSON + json.dumps(value, sort_keys=True)
    if isinstance(value, str):
        data = value.encode()
        node.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(len(data), 1)))
    else:
        node.attrs[name] = value


def read_attributes(node: h5py.HLObject) -> dict[str, Any]:
    """All attributes as `write_attribute` was given them; raises as `read_attribute`."""
    return {name: read_attribute(node, name) for name in node.attrs}


def read_attribute(node: h5py.HLObject, name: str, default: Any = None) -> Any:
    """One attribute as `write_attribute` was given it; ``default`` where there is none. An array's may be an array.

    Raises:
        CorruptFile: it cannot be read, or is of a type that `write_attribute` does not write.
    """
    key = name.encode()  # h5py's attrs take five times as long, which is most of what indexing a dataset costs
    try:
        try:
            attribute = h5py.h5a.open(node.id, key)
        except KeyError:  # it is not there, or it is and cannot be opened
            if h5py.h5a.exists(node.id, key):
                raise
            return default
        dtype, shape = attribute.dtype, attribute.shape
        # Text of variable length, references and compounds are not ours, and reading some of them can hang HDF5.
        if dtype.kind not in "Siuf" or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
            raise ValueError(f"it is {dtype} {shape}")
        value = np.empty(shape, dtype)
        attribute.read(value)
        plain = value[()]
        if isinstance(plain, (bytes, np.bytes_)):
            text = plain.decode()
            return json.loads(text.removeprefix(_JSON)) if text.startswith(_JSON) else text
        return plain.item() if isinstance(plain, np.generic) else plain
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CorruptFile(f"{node.file.filename}: attribute {name} cannot be read: {error}") from error


def attributes_of(path: Path) -> dict[str, Any]:
    """All attributes of a complete file of ours, whatever its format.

    Raises:
        CorruptFile: it cannot be read, or is not complete.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = read_attributes(file)
    except (OSError, RuntimeError) as error:
        raise CorruptFile(f"{path}: attributes cannot be read: {error}") from error
    if attributes.get("complete") != 1:
        raise CorruptFile(f"{path}: not complete: its writer was stopped")
    return attributes
