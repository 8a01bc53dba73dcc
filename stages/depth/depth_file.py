"""Depth file: a user's npz with sensor depth, opened without trusting it. TAPIP3D's layout; knows no clip.

Keys: ``depths`` (N, h, w) metres, 0 or not finite where unknown; ``intrinsics`` (3, 3) or (N, 3, 3), pixels of those images;
optionally ``extrinsics`` (N, 4, 4) or (N, 3, 4), world to camera. Others, such as ``video``, are not read. Nothing is unpickled;
shape, type and length are checked in the header before any value is read, and one image is held at a time.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from videolift.errors import BadInput

MAX_DEPTH_PIXELS = 1 << 26
MIN_DEPTH_SIDE_PX = 8
_SAVE = "Save it again: np.savez_compressed(file, depths=..., intrinsics=..., extrinsics=...), float arrays in row order."
# What zipfile and numpy raise on damaged or hostile files, with no common base.
_READ_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, zlib.error, RuntimeError, OSError)


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


class DepthFile:
    """``file[i]`` is float32 (h, w) in metres, 0 where unknown; a context manager. Reading forwards is cheap, backwards is not.

    Attributes:
        frames: N.
        size_px: (w, h).
        intrinsics: float64 (N, 3, 3) or None.
        extrinsics: float64 (N, 4, 4) or None.

    Raises:
        BadInput: ``depth_file``; missing, no npz, hostile, or without usable depth.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = ExitStack()
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
                raise ValueError("it is not a regular file")
            self._archive = self._open.enter_context(zipfile.ZipFile(path))
            self._members = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}
            self._depth = self._member("depths", 3)
        except _READ_ERRORS as error:
            self._open.close()
            raise self.refuse(f"cannot be read: {error}") from error
        except BadInput:
            self._open.close()
            raise
        self.frames, (height, width) = self._depth.shape[0], self._depth.shape[1:]
        self.size_px = (width, height)
        self._stream: IO[bytes] | None = None
        self._next = 0

    def matrices(self, name: str, rows: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Array ``name`` as float64 (N, row, 4 or 3), ``rows`` being the allowed numbers of rows; None where the file has none.

        Raises:
            BadInput: ``depth_file``; another shape or type.
        """
        if name not in self._members:
            return None
        try:
            member = self._member(name, 2, 3)
            columns = max(rows)
            shape = member.shape if len(member.shape) == 3 else (1, *member.shape)
            if shape[0] not in (1, self.frames) or shape[1] not in rows or shape[2] != columns:
                raise ValueError(f"{name} has shape {member.shape}, expected ({self.frames}, {columns}, {columns})")
            with self._archive.open(member.info) as stream:
                stream.seek(member.start)
                data = self._exactly(stream, int(np.prod(member.shape)) * member.dtype.itemsize)
        except _READ_ERRORS as error:
            raise self.refuse(f"cannot be read: {error}") from error
        values = np.frombuffer(data, member.dtype).astype(np.float64).reshape(shape)
        return np.broadcast_to(values, (self.frames, *shape[1:])).copy()

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One depth image (h, w).

        Raises:
            BadInput: ``depth_file``; damaged.
        """
        index = range(self.frames)[index]
        size = self._depth.row_bytes
        try:
            if self._stream is None or index < self._next:
                # a deflated member cannot be read backwards: begin again after its header
                if self._stream is not None:
                    self._stream.close()
                self._stream = self._open.enter_context(self._archive.open(self._depth.info))
                self._exactly(self._stream, self._depth.start)
                self._next = 0
            while self._next < index:
                self._exactly(self._stream, size)
                self._next += 1
            data = self._exactly(self._stream, size)
        except _READ_ERRORS as error:
            raise self.refuse(f"is damaged at image {index}: {error}") from error
        self._next = index + 1
        # float64 beyond float32's range becomes infinite, hence unknown below
        with np.errstate(over="ignore", invalid="ignore"):
            depth = np.frombuffer(data, self._depth.dtype).astype(np.float32).reshape(self._depth.shape[1:])
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

    def refuse(self, problem: str) -> BadInput:
        """The error for a file that cannot be used."""
        return BadInput("depth_file", f"the depth file {self.path.name} {problem}", _SAVE)

    def close(self) -> None:
        """Closes what is open."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _member(self, name: str, *dimensions: int) -> _Member:
        if name not in self._members:
            raise self.refuse(f"holds {', '.join(sorted(self._members)[:8]) or 'nothing'}, but no {name}")
        info = self._members[name]
        # Bit 0 is encryption; zipfile would ask for a password.
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is encrypted or compressed in a way that numpy does not write")
        with self._archive.open(info) as stream:
            # np.lib.format reads headers with a literal parser; np.load would also unpickle
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy version {version}")
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, column_order, dtype = read_header(stream)
            start = stream.tell()
        if dtype.hasobject or dtype.kind != "f" or dtype.itemsize > 8:
            raise ValueError(f"{name} is of type {dtype}, expected float16, float32 or float64")
        if len(shape) not in dimensions or column_order:
            raise ValueError(f"{name} has shape {shape}{' in column order' if column_order else ''}")
        claimed = dtype.itemsize
        for length in shape:  # Python's integers do not overflow
            claimed *= int(length)
        if claimed <= 0 or claimed != info.file_size - start:
            raise ValueError(f"{name} claims shape {shape} and holds {info.file_size - start} bytes")
        # Before a byte is read: a small file may claim a picture of terabytes.
        if dimensions == (3,) and (min(shape[1:]) < MIN_DEPTH_SIDE_PX or shape[1] * shape[2] > MAX_DEPTH_PIXELS):
            raise ValueError(f"{name} has images of {shape[2]}x{shape[1]} px")
        return _Member(info, shape, dtype, start)

    @staticmethod
    def _exactly(stream: IO[bytes], size: int) -> bytes:
        data = stream.read(size)
        if len(data) != size:
            raise EOFError(f"{len(data)} of {size} bytes")
        return data
