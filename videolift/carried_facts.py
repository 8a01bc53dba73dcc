"""Facts that a file of ours carries behind its HDF5 content: how it was made, so that a lost record can be read back from it.

Turns a JSON-able mapping into bytes at a file's end and back. The facts are no part of the content: `content_sha256` leaves them
out, so equal arrays made under other settings still count as equal. HDF5 reads a file by the length in its own header and
ignores what follows. What the facts mean is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = b"videolift-facts1"
_FOOT = struct.Struct("<QI16s")
"""Bytes of the JSON text, its CRC-32, and what tells that there are facts at all."""
_STEP_BYTES = 4 << 20  # artifacts are gigabytes, and several stages hash at once


def append_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Adds ``facts`` to a closed file that has none yet. Equal facts give equal bytes."""
    text = json.dumps(facts, sort_keys=True, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    # The length comes last, so that the facts are found from the end of a file of any kind.
    with path.open("ab") as file:
        file.write(text + _FOOT.pack(len(text), zlib.crc32(text), _MAGIC))


def read_facts(path: Path) -> dict[str, Any] | None:
    """The facts of a file; None where it has none, or where they are damaged."""
    with path.open("rb") as file:
        content_bytes = _content_bytes(file)
        end = file.seek(0, os.SEEK_END)
        if content_bytes == end:
            return None
        file.seek(content_bytes)
        text = file.read(end - content_bytes - _FOOT.size)
        file.seek(-_FOOT.size, os.SEEK_END)
        _, checksum, _ = _FOOT.unpack(file.read(_FOOT.size))
    if zlib.crc32(text) != checksum:  # facts that lie are worse than none: without any the work is done again
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None


def content_sha256(path: Path) -> str:
    """SHA-256, hex, of a file without its facts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = _content_bytes(file)
        file.seek(0)
        while left and (data := file.read(min(left, _STEP_BYTES))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def _content_bytes(file: BinaryIO) -> int:
    """Where the facts begin; the file's size where there are none."""
    size = file.seek(0, os.SEEK_END)
    if size < _FOOT.size:
        return size
    file.seek(-_FOOT.size, os.SEEK_END)
    length, _, magic = _FOOT.unpack(file.read(_FOOT.size))
    return size - _FOOT.size - length if magic == _MAGIC and length <= size - _FOOT.size else size
