"""Clip: a video's frames as every later stage sees them; resampled, upright, cropped, 8-bit BT.709."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.base import Artifact, ArtifactWriter
from videolift.artifacts.codecs import residual_decode, residual_encode
from videolift.artifacts.depth import Intrinsics
from videolift.artifacts.fields import ZSTD, Field

_FIELDS = (
    # One frame per chunk: frames are read in any order.
    Field("rgb_residual", "u1", (-1, 3, None, None), chunk=1, codec=ZSTD),
    Field("pts_seconds", "f8", (-1,)),
    Field("shot", "i4", (-1,), optional=True),
)


class ClipWriter(ArtifactWriter):
    """Writes a `Clip`; attributes ``source``, ``fps`` and others."""

    FORMAT, VERSION, FIELDS, ROWS = "videolift.clip", 1, _FIELDS, "pts_seconds"

    def append_frames(self, rgb: ArrayLike, pts_seconds: ArrayLike) -> None:
        """Adds frames: ``rgb`` u8 (n, H, W, 3), ``pts_seconds`` f64 (n)."""
        self.append(rgb_residual=residual_encode(np.asarray(rgb, np.uint8)), pts_seconds=pts_seconds)


class Clip(Artifact):
    """RGB frames u8 (T, H, W, 3) and their times; index like an array: ``clip[3]``, ``clip[10:20]``."""

    FORMAT, VERSION, FIELDS = "videolift.clip", 1, _FIELDS

    def _validate(self) -> None:
        for name in ("rgb_residual", "shot"):
            self._require(name not in self or self.array(name).shape[0] == len(self), f"{name} and pts_seconds differ in length")

    def __len__(self) -> int:
        return int(self.array("pts_seconds").shape[0])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.array("rgb_residual").shape[2])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.array("rgb_residual").shape[3])

    @property
    def fps(self) -> float:
        """Frames per second the clip was resampled to."""
        return float(self.attrs["fps"])

    def known_camera(self) -> tuple[NDArray[np.float64], Intrinsics] | None:
        """K (3, 3) in pixels of the clip and how it is known, where ingest was told of a camera."""
        if "K_given" not in self.attrs:
            return None
        return np.array(self.attrs["K_given"], np.float64), self.attrs.get("K_source", "given")

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """Presentation times in the source, seconds, f64 (T), increasing."""
        return self.read("pts_seconds")

    @property
    def shot(self) -> NDArray[np.int32]:
        """(T) number of each frame's shot, -1 within a fade or a dissolve; 0 throughout in files that did not record it."""
        return self.read("shot") if "shot" in self else np.zeros(len(self), np.int32)

    @property
    def cut_from(self) -> tuple[int, int]:
        """(first frame, frames) in the clip of the whole video, where this is one shot of it; else (0, T)."""
        cut = self.attrs.get("cut_from", {"first": 0, "frames": len(self)})
        return int(cut["first"]), int(cut["frames"])

    def __getitem__(self, frames: int | slice) -> NDArray[np.uint8]:
        """RGB of one frame (H, W, 3) or of a slice (n, H, W, 3)."""
        if isinstance(frames, (int, np.integer)):
            frames = range(len(self))[frames]
        # Decoding works in place, and what `read` gives is a copy of its own.
        return residual_decode(self.read("rgb_residual", frames))
