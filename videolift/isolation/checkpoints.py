"""What a checkpoint of torch may be: a plain archive of tensors, looked through before torch sees it, then unpickled by name.

``torch.load`` alone protects nobody: it hands a TorchScript archive to a loader that runs the file's code, reads formats that are
pickles to their last byte, and believes the length that a pickle gives to a tensor. `check_archive` turns a file into an error or
into a file of which none of this holds; `restricted_pickle` then lets only named classes through. The models' interpreters load it
as ``videolift_checkpoints`` beside `videolift.isolation.isolation_child`: the standard library alone, Python 3.9.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import types
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

MAX_PICKLE_BYTES = 64 << 20
"""Of everything but the tensors; real ones have a few MB."""
MAX_RECORDS = 200_000
_RECORD = re.compile(r"(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+)")
_FOLDER = re.compile(r"[\x20-\x2e\x30-\x5b\x5d-\x7e]{1,255}")  # printable, no slash of either kind
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
# Fixed parts of the records of a zip file (APPNOTE 4.3); the last is a data descriptor with its signature and 64-bit sizes.
_END_BYTES, _END_64_BYTES, _LOCATOR_BYTES, _LOCAL_BYTES, _MAX_FOOTER = 22, 56, 20, 30, 24
_ITEM_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage", "QInt8Storage", "QUInt8Storage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_CONVERT = (
    "If you trust where it is from, convert it in a sandbox of your own, without a network: "
    "see 'Checkpoints of another format' in docs/models.md"
)

_BUILTINS = ["dict", "list", "set", "frozenset", "tuple", "int", "long", "float", "str", "unicode", "bool", "slice", "object"]
_NUMPY = ("scalar", "_reconstruct")
NUMPY_VALUES = {"numpy.core.multiarray": _NUMPY, "numpy._core.multiarray": _NUMPY, "numpy": ("dtype", "ndarray")}
"""For `restricted_pickle`: numbers and arrays of numpy, which training leaves beside the tensors."""
_PLAIN = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "collections": ("OrderedDict", "defaultdict"),
    "torch._utils": ("_rebuild_tensor_v2", "_rebuild_parameter"),
    "torch": ("Size", "device", "dtype"),
}


class UnsafeCheckpoint(ValueError):
    """A file that is not a plain archive of tensors; nothing of it was run."""

    def __init__(self, path: object, what: str) -> None:
        super().__init__(f"{path}: {what}; nothing of it was run. {_CONVERT}")


def check_archive(path: str | os.PathLike[str] | BinaryIO) -> None:
    """Looks a checkpoint through without torch and without running anything of it.

    Passes only what ``torch.save`` writes since 1.6: an uncompressed zip with one ``data.pkl`` beside the tensors' bytes, in which
    every reader of zip files finds the same records, and whose pickle asks for no more bytes of a tensor than the file has. Which
    classes the pickle names is checked by `restricted_pickle`, or by torch's ``weights_only``.

    Raises:
        UnsafeCheckpoint: anything else; says what, and how to convert it.
        OSError: unreadable.
    """
    if isinstance(path, (str, os.PathLike)):
        with open(path, "rb") as file:
            return _check(file, os.fspath(path))
    start = path.tell()
    try:
        _check(path, getattr(path, "name", "the checkpoint"))
    finally:
        path.seek(start)


def _check(file: BinaryIO, name: object) -> None:
    file.seek(0)
    head = file.read(4)
    if head != b"PK\x03\x04":
        legacy = "a bare pickle, torch's format before 1.6" if head[:1] == b"\x80" else "not a zip archive (nor is torch's old tar)"
        raise UnsafeCheckpoint(name, f"{legacy}, so no plain archive of tensors")
    try:
        with zipfile.ZipFile(file) as archive:
            records = _records(archive, file, name)
            pickled = archive.read(records["data.pkl"])
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ValueError, RuntimeError) as error:
        if isinstance(error, UnsafeCheckpoint):
            raise
        raise UnsafeCheckpoint(name, f"a damaged zip archive ({error})") from error
    sizes = {record[5:]: info.file_size for record, info in records.items() if record.startswith("data/")}
    _check_lengths(pickled, sizes, name)


def _records(archive: zipfile.ZipFile, file: BinaryIO, name: object) -> dict[str, zipfile.ZipInfo]:
    """Records by their name below the archive's one folder."""
    infos = archive.infolist()
    if not 0 < len(infos) <= MAX_RECORDS:
        raise UnsafeCheckpoint(name, f"{len(infos)} records, at most {MAX_RECORDS} are allowed")
    folder = infos[0].orig_filename.split("/")[0]
    out: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        inside, _, record = info.orig_filename.partition("/")
        if record.startswith("code/") or record == "constants.pkl":
            raise UnsafeCheckpoint(name, f"a TorchScript archive ({record}), which is a program")
        if (
            info.filename != info.orig_filename
            or inside != folder
            or not _FOLDER.fullmatch(inside)
            or not _RECORD.fullmatch(record)
        ):
            raise UnsafeCheckpoint(name, f"a record {info.orig_filename[:80]!r}, which a plain archive of tensors does not have")
        if record in out:  # names that differ in case alone are no problem here: capitals fit no record
            raise UnsafeCheckpoint(name, f"two records {record!r}")
        out[record] = info
    _check_layout(archive, file, infos, name)
    if "data.pkl" not in out:
        raise UnsafeCheckpoint(name, "no data.pkl in it")
    if out["data.pkl"].file_size > MAX_PICKLE_BYTES:
        raise UnsafeCheckpoint(name, f"a data.pkl of {out['data.pkl'].file_size} bytes, at most {MAX_PICKLE_BYTES} are allowed")
    return out


def _check_layout(archive: zipfile.ZipFile, file: BinaryIO, infos: list[zipfile.ZipInfo], name: object) -> None:
    """Refuses what two readers could read in two ways: a second directory, an archive in front, bytes between the records."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES - _END_64_BYTES))
    tail = file.read()
    end = tail[-_END_BYTES:]
    # Readers look for the directory from the end: what follows it could hold another one.
    if archive.comment or end[:4] != _END:
        raise UnsafeCheckpoint(name, "something behind the end of the archive")
    directory_bytes, directory_at = struct.unpack("<LL", end[12:20])
    behind = _END_BYTES
    if tail[-_END_BYTES - _LOCATOR_BYTES :][:4] == _LOCATOR_64:
        behind += _LOCATOR_BYTES + _END_64_BYTES
        (end_64_at,) = struct.unpack("<Q", tail[-_END_BYTES - _LOCATOR_BYTES :][8:16])
        bytes_64, at_64 = struct.unpack("<QQ", tail[-behind:][40:56])
        same = {directory_bytes: (bytes_64, 0xFFFFFFFF), directory_at: (at_64, 0xFFFFFFFF)}
        if tail[-behind:][:4] != _END_64 or end_64_at != size - behind or any(short not in long for short, long in same.items()):
            raise UnsafeCheckpoint(name, "two directories that differ")
        directory_bytes, directory_at = bytes_64, at_64
    if directory_at + directory_bytes + behind != size or archive.start_dir != directory_at:
        raise UnsafeCheckpoint(name, "something in front of the archive, or between its parts")
    at = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 0x1:
            raise UnsafeCheckpoint(name, f"a compressed or encrypted record {info.orig_filename[:80]!r}")
        file.seek(info.header_offset)
        header = file.read(_LOCAL_BYTES)
        if len(header) < _LOCAL_BYTES or header[:4] != b"PK\x03\x04" or not at <= info.header_offset <= at + _MAX_FOOTER:
            raise UnsafeCheckpoint(name, "something hidden between the records")
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        if file.read(name_bytes) != info.orig_filename.encode("ascii", "replace"):
            raise UnsafeCheckpoint(name, f"two names for the record {info.orig_filename[:80]!r}")
        at = info.header_offset + _LOCAL_BYTES + name_bytes + extra_bytes + info.file_size
    if not at <= directory_at <= at + _MAX_FOOTER:
        raise UnsafeCheckpoint(name, "something hidden behind the records")


def _check_lengths(pickled: bytes, sizes: Mapping[str, int], name: object) -> None:
    """Unpickles with stand-ins that do nothing, and compares what is asked of each record with what it has.

    torch takes the length from the pickle and reads that far, whatever the record holds.
    """

    class Lengths(pickle.Unpickler):
        def find_class(self, module: str, global_name: str) -> Any:
            return _STORAGES.get(global_name, _StandIn)

        def persistent_load(self, saved: Any) -> Any:
            kind, storage, key, _, items = saved if isinstance(saved, tuple) and len(saved) == 5 else (None,) * 5
            item_bytes = getattr(storage, "item_bytes", 0)
            if kind != "storage" or not item_bytes or not isinstance(key, str) or type(items) is not int or items < 0:
                raise UnsafeCheckpoint(name, f"a tensor stored in a way that is not known ({str(saved)[:80]})")
            if key not in sizes or items * item_bytes > sizes[key]:
                raise UnsafeCheckpoint(name, f"a tensor of {items * item_bytes} bytes where the file has {sizes.get(key, 0)}")
            return _StandIn()

    try:
        Lengths(io.BytesIO(pickled)).load()
    except UnsafeCheckpoint:
        raise
    except Exception as error:  # noqa: BLE001  an unpickler fed with anything raises anything
        raise UnsafeCheckpoint(name, f"a pickle that does not read ({type(error).__name__}: {error})") from error


class _StandIn:
    """Stands for whatever a pickle names: takes every call and every state, and does nothing."""

    item_bytes = 0

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _StandIn:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, *_: Any) -> None:
        pass

    extend = add = append


_STORAGES = {name: type(name, (_StandIn,), {"item_bytes": item_bytes}) for name, item_bytes in _ITEM_BYTES.items()}


def restricted_pickle(allowed: Mapping[str, tuple[str, ...]], inert: tuple[str, ...] = ()) -> types.ModuleType:
    """A pickle module for one ``torch.load`` of a checkpoint that holds more than tensors.

    Args:
        allowed: module to names that it may hold besides tensors and plain containers. Names, never whole modules: what a module
            imports, and the methods of its classes (``Path.write_text``), could be called as well.
        inert: top-level packages whose objects become dictionaries that do nothing.

    Its ``load`` raises pickle.UnpicklingError naming whatever else the file wants to call.
    """
    known = {**_PLAIN, **allowed}

    class Inert(dict[Any, Any]):
        def __setstate__(self, state: Any) -> None:
            pass

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # A name with a dot is looked up attribute by attribute, and could reach anything that torch imports.
            storage = module in ("torch", "torch.storage") and name.endswith("Storage") and "." not in name
            if storage or name in known.get(module, ()):
                return super().find_class(module, name)
            if (module, name) in _CAREFUL:
                return _CAREFUL[module, name]
            if module.split(".")[0] in inert:
                return Inert
            raise pickle.UnpicklingError(f"the checkpoint wants {module}.{name}, which it is not known to need; nothing was run")

    out = types.ModuleType("restricted_pickle")
    out.Unpickler = Unpickler  # type: ignore[attr-defined]
    out.load = lambda file, **options: Unpickler(file, **options).load()  # type: ignore[attr-defined]
    return out


def _bytes(content: Any = b"") -> bytes:
    """``bytes`` as old pickles call it; of a number it would allocate that many."""
    if not isinstance(content, (bytes, list, tuple)):
        raise pickle.UnpicklingError(f"the checkpoint wants bytes of a {type(content).__name__}; nothing was run")
    return bytes(content)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode`` as old pickles write bytes; any other codec would be code of its own."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"the checkpoint wants text encoded as {encoding!r}; nothing was run")
    return text.encode("latin1")


_CAREFUL = {("builtins", "bytes"): _bytes, ("__builtin__", "bytes"): _bytes, ("_codecs", "encode"): _encode}


def read_checkpoint(path: str, allowed: Mapping[str, tuple[str, ...]], inert: tuple[str, ...] = ()) -> Any:
    """A checkpoint's content on the CPU: looked through by `check_archive`, read by `restricted_pickle`; torch must be importable.

    Raises:
        UnsafeCheckpoint: no plain archive of tensors.
        pickle.UnpicklingError: it wants a name that it is not known to need.
    """
    import torch

    check_archive(path)
    restricted = restricted_pickle(allowed, inert)
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=restricted)


def check_weights(path: str) -> None:
    """`check_archive` of a file, or of every file below a folder that torch would read; safetensors are not pickles.

    Raises:
        UnsafeCheckpoint: one is not a plain archive of tensors.
    """
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] if os.path.isdir(path) else [path]
    for file in files:
        if file.endswith((".pt", ".pth", ".bin", ".ckpt", ".tar")):
            check_archive(file)
