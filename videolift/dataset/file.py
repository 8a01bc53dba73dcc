"""One packaged file, opened lazily for random access, whatever its storage profile.

Arrays come as the default profile holds them: JPEG frames and 16-bit displacements of ``tiny`` are decoded, arrays of ``fast`` are
read through a memory map. Opening reads three attributes and nothing else.
"""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION, METRE_SCALES
from videolift.dataset.profiles import JPEG_BYTES, JPEG_OFFSETS, UNIT, decode_16_bit, decode_jpeg
from videolift.dataset.windows import window_starts
from videolift.errors import CorruptFile
from videolift.store import from_attribute, read_hdf5

_CACHED_BYTES = 1 << 20
"""Arrays up to this size are read once and kept while the file is open."""

Frames = slice | NDArray[np.integer]


class PackagedFile:
    """Random access to one packaged file; a context manager. Not for use in two threads at once.

    Raises:
        CorruptFile: missing, truncated, not complete, of another format or version; on reading, when a checksum does not match.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r", locking=False)
            attributes = [self.attribute(name) for name in ("format", "version", "complete")]
        except OSError as error:
            raise CorruptFile(f"{self.path}: not a readable packaged file: {error}") from error
        if attributes != [DATASET_FORMAT, DATASET_VERSION, 1]:
            self._file.close()
            raise CorruptFile(
                f"{self.path}: format, version, complete are {attributes}, expected {[DATASET_FORMAT, DATASET_VERSION, 1]}"
            )
        self._datasets: dict[str, h5py.Dataset | None] = {}
        self._whole: dict[str, NDArray[Any]] = {}
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        """Closes the file; safe to call twice. Arrays returned earlier stay valid."""
        self._whole, self._datasets, self._map = {}, {}, None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PackagedFile({self.path.name})"

    def attribute(self, name: str, default: Any = None) -> Any:
        """One attribute, decoded."""
        key = name.encode()  # h5py's attrs take five times as long, which is most of what indexing a file costs
        try:
            attribute = h5py.h5a.open(self._file.id, key)
        except KeyError:
            return default
        value = np.empty(attribute.shape, attribute.dtype)
        attribute.read(value)
        return from_attribute(value[()])

    @cached_property
    def depth_range_m(self) -> tuple[float, float] | None:
        """(depth_min, depth_max) where lengths are metres, else None."""
        if self.attribute("scale") not in METRE_SCALES:
            return None
        return float(self.attribute("depth_min_m")), float(self.attribute("depth_max_m"))

    @cached_property
    def window_length(self) -> int:
        """Frames per window."""
        return int(self.attribute("window_length"))

    def has(self, name: str) -> bool:
        """True if the file holds that array (or, for ``rgb``, its JPEG form)."""
        return self._dataset(name) is not None or (name == "rgb" and self._dataset(JPEG_OFFSETS) is not None)

    def __len__(self) -> int:
        return int(self._require("timestamps").shape[0])

    @cached_property
    def window_start(self) -> NDArray[np.int64]:
        """First frames (W) of the windows; follows from the file's length (`verify` compares it with what is stored)."""
        return window_starts(len(self), self.window_length, int(self.attribute("stride")))

    @cached_property
    def points(self) -> NDArray[np.int64]:
        """Points per window (W); zeros without tracks."""
        if not self.has("tracks/offsets"):
            return np.zeros(len(self.window_start), np.int64)
        offsets = self.array("tracks/offsets")
        return np.asarray(offsets[1:] - offsets[:-1])

    @cached_property
    def hands_whole(self) -> NDArray[np.bool_]:
        """(W, 2): left and right hand valid at every step of the window."""
        count, length, stride = len(self.points), self.window_length, int(self.attribute("stride"))
        if not self.has("hands/valid") or not count:
            return np.zeros((count, 2), bool)
        valid = self.array("hands/valid")
        reached = np.zeros((len(valid) + 1, 2), np.int64)
        np.cumsum(valid, axis=0, out=reached[1:])
        last = (count - 1) * stride + 1
        return np.asarray(reached[length : length + last : stride] - reached[:last:stride] == length)

    def array(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array as stored, by its name in the layout; small arrays are read once and are not writable."""
        whole = self._whole.get(name)
        if whole is None:
            dataset = self._require(name)
            if dataset.nbytes > _CACHED_BYTES:
                return self._large(dataset, where)
            whole = self._whole[name] = _read_whole(dataset)
        return whole[where]

    def rgb(self, frames: Frames) -> NDArray[np.uint8]:
        """Images u8 (n, 3, S, S)."""
        if self._dataset("rgb") is not None:
            return self._rows("rgb", frames)
        offsets = self.array(JPEG_OFFSETS)
        numbers = np.arange(len(self))[frames]
        codes = (self.array(JPEG_BYTES, slice(offsets[t], offsets[t + 1])) for t in numbers)
        return np.stack([decode_jpeg(code) for code in codes])

    def depth(self, frames: Frames) -> NDArray[np.float32]:
        """z f32 (n, S, S), 0 invalid; clipped to the file's limits where lengths are metres."""
        z = self._rows("depth", frames).astype(np.float32)
        if self.depth_range_m is not None:
            np.copyto(z, np.clip(z, *self.depth_range_m), where=z > 0)
        return z

    def tracks(self, window: int, run: slice = slice(None)) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """query (N, 3), displacement (L, N, 3) and visible (L, N) of one window, or of a run of its points."""
        offsets = self.array("tracks/offsets")
        start, stop, _ = run.indices(int(offsets[window + 1] - offsets[window]))
        part = slice(int(offsets[window]) + start, int(offsets[window]) + max(start, stop))
        displacement = self.array("tracks/displacement", (slice(None), part))
        if displacement.dtype == np.int16:
            displacement = decode_16_bit(displacement, self._require("tracks/displacement").attrs[UNIT])
        return self.array("tracks/query", part), displacement, self.array("tracks/visible", (slice(None), part))

    def _rows(self, name: str, frames: Frames) -> NDArray[Any]:
        if isinstance(frames, slice):
            return self.array(name, frames)
        return np.stack([self.array(name, int(t)) for t in frames])  # fancy indexing through h5py is slower than this

    def _dataset(self, name: str) -> h5py.Dataset | None:
        if name not in self._datasets:
            try:  # half the cost of asking the file for it; read-only, or h5py looks shape and dtype up at every read
                self._datasets[name] = h5py.Dataset(h5py.h5d.open(self._file.id, name.encode()), readonly=True)
            except KeyError:
                self._datasets[name] = None
        return self._datasets[name]

    def _require(self, name: str) -> h5py.Dataset:
        dataset = self._dataset(name)
        if dataset is None:
            raise KeyError(f"{self.path.name} holds no {name}; its parts are {self.attribute('parts')}")
        return dataset

    def _large(self, dataset: h5py.Dataset, where: Any) -> NDArray[Any]:
        if dataset.chunks is not None:
            return read_hdf5(dataset, where)
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        view = np.ndarray(dataset.shape, dataset.dtype, self._map, dataset.id.get_offset())
        return np.array(view[where])


def _read_whole(dataset: h5py.Dataset) -> NDArray[Any]:
    """All of a small array, not writable; cheaper than through h5py's selections."""
    out = np.empty(dataset.id.shape, dataset.id.dtype)
    try:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
    except (OSError, RuntimeError) as error:
        raise CorruptFile(f"{dataset.file.filename}: {dataset.name} cannot be read: {error}") from error
    out.flags.writeable = False
    return out
