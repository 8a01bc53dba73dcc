"""One packaged file, opened lazily for random access, whatever its storage profile.

Arrays come as the default profile holds them: JPEG frames and 16-bit displacements of ``tiny`` are decoded, arrays of ``fast`` are
read through a memory map. Opening reads a few attributes and nothing else. The file need not be trusted: see
`videolift.dataset.stored`.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.depth import FLOAT16_MAX
from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION, METRE_SCALES, PER_POINT, expected_shape, promised_arrays
from videolift.dataset.profiles import PROFILES, image_size_px
from videolift.dataset.stored import StoredArrays
from videolift.dataset.windows import window_starts
from videolift.errors import CorruptFile
from videolift.shot_ranges import NO_SHOT, FrameRange, shots_of, true_ranges, unbroken_ranges

if TYPE_CHECKING:
    from typing import Self  # Python 3.11; trainers may have 3.10

FrameIndex = slice | NDArray[np.integer]
Value = TypeVar("Value")
_MAX_FRAMES = 1 << 32  # four years at 30 fps; times the pixels of the largest image it still fits an int64


@lru_cache(maxsize=8)
def _depth_table(range_m: tuple[float, float] | None) -> NDArray[np.float32]:
    """What every float16 of stored depth becomes; looking it up takes half as long as numpy's conversion and clipping."""
    z = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    if range_m is not None:
        np.copyto(z, np.clip(z, *range_m), where=z > 0)
    return z


class PackagedFile:
    """Random access to one packaged file; a context manager. Not for use in two threads at once.

    Args:
        path: of the file.
        checked: compare every chunk's checksum at every read, not only when it is first read; and in files of the ``fast``
            profile, whose arrays HDF5 does not check, each array's when it is first read, which reads the whole array once.

    Raises:
        CorruptFile: missing, truncated, not complete, of another format or version; on reading, when a checksum does not match or
            the file is not what it says it is.
    """

    checks_shapes = True
    """False in verification, where an array of another shape is a finding and not the end."""

    def __init__(self, path: Path | str, *, checked: bool = False) -> None:
        self.path = Path(path)
        self.stored = StoredArrays(self.path, DATASET_FORMAT, DATASET_VERSION, checked=checked)
        """Its arrays as its profile stores them."""
        try:
            name = self.attribute_of_type("profile", str)
            if name not in PROFILES:
                raise CorruptFile(f"{self.path}: profile is {name!r}, this videolift reads {', '.join(PROFILES)}")
        except CorruptFile:
            self.close()
            raise
        self.profile = PROFILES[name]
        # Arrays whose shape was compared with the others: once, and not at every read.
        self._sound: set[str] = set()
        self.stored.fields = {field.name: field for field in self.profile.fields}

    def close(self) -> None:
        """Closes the file; safe to call twice. Arrays returned earlier stay valid."""
        self.stored.close()

    def rest(self) -> None:
        """Gives back descriptors, and keeps what is known of the file for the next `wake`."""
        self.stored.rest()

    def wake(self) -> bool:
        """Opens a file that rests; False if another one lies there by now."""
        return self.stored.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PackagedFile({self.path.name})"

    def attribute(self, name: str, default: Any = None) -> Any:
        """One attribute, decoded."""
        return self.stored.attribute(name, default)

    def attributes(self) -> dict[str, Any]:
        """All attributes, decoded."""
        return self.stored.attributes()

    def attribute_of_type(self, name: str, kind: type[Value]) -> Value:
        """One attribute that must be there.

        Raises:
            CorruptFile: missing, or of another type.
        """
        value = self.attribute(name)
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind):
            raise CorruptFile(f"{self.path}: attribute {name} is {value!r:.100}, expected {kind.__name__}")
        return value

    @cached_property
    def scale(self) -> str:
        """What lengths are worth; metres for `METRE_SCALES`."""
        return self.attribute_of_type("scale", str)

    @cached_property
    def depth_range_m(self) -> tuple[float, float] | None:
        """(depth_min, depth_max) where lengths are metres, else None."""
        if self.scale not in METRE_SCALES:
            return None
        near_m, far_m = (self.attribute_of_type(name, float) for name in ("depth_min_m", "depth_max_m"))
        if not 0 < near_m < far_m <= FLOAT16_MAX:
            raise CorruptFile(f"{self.path}: depth_min_m, depth_max_m are {near_m}, {far_m}")
        return near_m, far_m

    @cached_property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of its images."""
        return image_size_px(self.stored)

    @cached_property
    def window_length(self) -> int:
        """Frames per window."""
        return self._count("window_length")

    @cached_property
    def stride(self) -> int:
        """Frames from one window to the next."""
        return self._count("stride")

    def has(self, name: str) -> bool:
        """True if the file holds that array of the layout."""
        return self.shape(name) is not None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an array of the layout, None where the file does not hold it."""
        return self.profile.shape(self.stored, name)

    def __len__(self) -> int:
        shape = self.shape("timestamps")
        if shape is None:
            raise CorruptFile(f"{self.path}: it holds no timestamps")
        return shape[0]

    @cached_property
    def shot(self) -> NDArray[np.int32]:
        """The shot (T) of each frame, -1 within a fade or a dissolve; files of older releases are one shot."""
        return self.array("shot") if self.has("shot") else np.zeros(len(self), np.int32)

    @cached_property
    def shot_begins(self) -> NDArray[np.int64]:
        """First frame (T) of the shot that each frame is in; its own where it is in none."""
        begins = np.arange(len(self))
        for one in shots_of(self.shot):
            begins[one.first : one.end] = one.first
        return begins

    @property
    def unbroken(self) -> list[FrameRange]:
        """Stretches of frames without a cut and without a gap in time."""
        return unbroken_ranges(self.array("timestamps"), self.attribute_of_type("fps", float), self.shot)

    @property
    def hands_known(self) -> tuple[list[FrameRange], list[FrameRange]] | None:
        """Stretches in which wrist and joints of the left hand are known, and the camera; the right one's; None without both."""
        if not (self.has("hands/T_camera_wrist") and self.has("camera/T_camera_world")):
            return None
        known = self.array("hands/valid") & self.array("camera/pose_valid")[:, None]
        for name in ("hands/T_camera_wrist", "hands/joints_camera"):
            known &= np.isfinite(self.array(name)).all((2, 3))
        return true_ranges(known[:, 0]), true_ranges(known[:, 1])

    @cached_property
    def window_start(self) -> NDArray[np.int64]:
        """First frames (W) of the windows; follows from the file's shots (`verify` compares it with what is stored)."""
        stated = self.attribute("shots", [{}])
        if not isinstance(stated, list) or not all(isinstance(one, dict) for one in stated):
            raise CorruptFile(f"{self.path}: attribute shots is {stated!r:.100}, expected a list of shots")
        if self.shot.max(initial=0) >= len(stated):
            raise CorruptFile(f"{self.path}: frames are of shot {self.shot.max()}, there are {len(stated)}")
        refused = [number for number, one in enumerate(stated) if "refused" in one]
        shot = np.where(np.isin(self.shot, refused), np.int32(NO_SHOT), self.shot)
        return window_starts(len(self), self.window_length, self.stride, shot)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(W + 1) window w holds points offsets[w]:offsets[w + 1]; zeros without tracks."""
        windows = len(self.window_start)
        if not self.has("tracks/offsets"):
            return np.zeros(windows + 1, np.int64)
        offsets = self.array("tracks/offsets")
        # Unchecked they could reach into other windows, and a reader would hand out their points.
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise CorruptFile(f"{self.path}: offsets do not cut points into {windows} windows")
        return offsets

    @cached_property
    def points(self) -> NDArray[np.int64]:
        """Points per window (W); zeros without tracks."""
        return np.diff(self.offsets)

    @cached_property
    def hands_whole(self) -> NDArray[np.bool_]:
        """(W, 2): left and right hand valid at every step of the window."""
        starts, length = self.window_start, self.window_length
        if not self.has("hands/valid") or not len(starts):
            return np.zeros((len(starts), 2), bool)
        valid = self.array("hands/valid")
        # Running counts: one subtraction per window, whatever its length.
        reached = np.zeros((len(valid) + 1, 2), np.int64)
        np.cumsum(valid, axis=0, out=reached[1:])
        return np.asarray(reached[starts + length] - reached[starts] == length)

    def array(self, name: str, where: Any = ...) -> NDArray[Any]:
        """Part of an array of the layout; small arrays are read once and are not writable.

        Raises:
            KeyError: the file does not hold it, and does not say that it does.
            CorruptFile: it cannot be read.
        """
        try:
            if self.checks_shapes and name not in self._sound:
                shape = self.shape(name)
                if shape is not None and not name.startswith("stats/"):
                    points = int(self.offsets[-1]) if name in PER_POINT else 0
                    windows = len(self.window_start) if name.startswith(("tracks/", "hands/window_")) else 0
                    lengths = {"frames": len(self), "windows": windows, "points": points, "window_length": self.window_length}
                    expected = expected_shape(name, size_px=self.size_px, **lengths)
                    # An array not as long as the others say: an index would leave it, or miss its end.
                    if shape != expected:
                        raise CorruptFile(f"{self.path}: {name} is {shape}, expected {expected}")
                self._sound.add(name)
            return self.profile.read(self.stored, name, where)
        except KeyError:
            # A part that a video lacks is the caller's mistake; one that the file says it holds is the file's.
            parts = [str(part) for part in self.attribute_of_type("parts", list)]
            if name in promised_arrays(parts, older=self.attribute("size_px") is None):
                raise CorruptFile(f"{self.path}: it holds no {name}, its parts are {parts}") from None
            raise KeyError(f"{self.path.name} holds no {name}; its parts are {parts}") from None

    def rgb(self, frames: FrameIndex) -> NDArray[np.uint8]:
        """Images u8 (n, 3, S, S)."""
        return self._rows("rgb", frames)

    def depth(self, frames: FrameIndex) -> NDArray[np.float32]:
        """z f32 (n, S, S), 0 invalid; clipped to the file's limits where lengths are metres."""
        half = self._rows("depth", frames)
        return np.take(_depth_table(self.depth_range_m), half.view(np.uint16), mode="clip")

    def tracks(self, window: int, run: slice = slice(None)) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """query (N, 3), displacement (L, N, 3) and visible (L, N) of one window, or of a run of its points."""
        offsets = self.offsets
        start, stop, _ = run.indices(int(offsets[window + 1] - offsets[window]))
        part = slice(int(offsets[window]) + start, int(offsets[window]) + max(start, stop))
        both = (slice(None), part)
        return self.array("tracks/query", part), self.array("tracks/displacement", both), self.array("tracks/visible", both)

    def _count(self, name: str) -> int:
        value = self.attribute_of_type(name, int)
        if not 0 < value < _MAX_FRAMES:
            raise CorruptFile(f"{self.path}: attribute {name} is {value}")
        return value

    def _rows(self, name: str, frames: FrameIndex) -> NDArray[Any]:
        if isinstance(frames, slice):
            return self.array(name, frames)
        return np.stack([self.array(name, int(t)) for t in frames])  # fancy indexing through h5py is slower than this
