"""Tracks: 3D point tracks of every window, in the window's first camera, as one long list of points cut by offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.base import Artifact, ArtifactWriter
from videolift.artifacts.fields import BITSHUFFLE, Field

_FIELDS = (
    Field("window_start", "i8", (-1,)),
    Field("frames_tracked", "i8", (-1,)),
    Field("points", "i8", (-1,)),
    # Time before points, so that a window is one block. 512 points: larger chunks pack no better and cost more when few
    # points are read.
    Field("xyz_cam0", "f4", (None, -1, 3), chunk=512, codec=BITSHUFFLE),
    Field("uv_px", "f4", (None, -1, 2), chunk=512, codec=BITSHUFFLE),
    Field("visible", "?", (None, -1), chunk=4096, codec=BITSHUFFLE),
    Field("valid3d", "?", (None, -1), chunk=4096, codec=BITSHUFFLE),
    Field("label", "u1", (-1,), chunk=8192, codec=BITSHUFFLE),
)
# Kept apart: not every backend measures them, and a file without them is whole.
_LOGIT = Field("visibility_logit", "f4", (None, -1), chunk=4096, codec=BITSHUFFLE)
_RETURN = Field("forward_backward_px", "f4", (-1,))


@dataclass(frozen=True, repr=False)
class Window:
    """Tracks of one window: F frames tracked at most, N points."""

    start: int
    """Frame index of the window's first image."""
    frames_tracked: int
    """Frames tracked; arrays are NaN and False beyond."""
    xyz_cam0: NDArray[np.float32]
    """(F, N, 3) points in the window's first camera, unit of the depth."""
    uv_px: NDArray[np.float32]
    """(F, N, 2) pixels in frame k's own image."""
    visible: NDArray[np.bool_]
    """(F, N)"""
    valid3d: NDArray[np.bool_]
    """(F, N) False where no measured depth lies behind xyz."""
    label: NDArray[np.uint8]
    """(N) mask id under the query point, 0 none."""
    visibility_logit: NDArray[np.float32] | None = None
    """(F, N) where the model gives one."""
    forward_backward_px: float | None = None
    """Median distance from their start of points followed to where they were last seen and back, pixels of the clip. NaN: not
    measured in this window; None: the backend measures it in no window."""

    def __repr__(self) -> str:
        return f"Window(start={self.start}, frames_tracked={self.frames_tracked}, points={self.xyz_cam0.shape[1]})"


class TracksWriter(ArtifactWriter):
    """Writes `Tracks` window by window, in order of start; attributes ``window_length, stride, query, seed, backend``."""

    FORMAT, VERSION, ROWS = "videolift.tracks", 1, "window_start"
    FIELDS = (*_FIELDS, _LOGIT, _RETURN)

    def append_window(self, window: Window) -> None:
        """Adds a window; every window of one artifact has the same F. No points at all is allowed."""
        arrays: dict[str, ArrayLike] = {
            "window_start": [window.start],
            "frames_tracked": [window.frames_tracked],
            "points": [window.xyz_cam0.shape[1]],
        }
        for name in ("xyz_cam0", "uv_px", "visible", "valid3d", "label"):
            arrays[name] = getattr(window, name)
        if window.visibility_logit is not None:
            arrays["visibility_logit"] = window.visibility_logit
        if window.forward_backward_px is not None:
            arrays["forward_backward_px"] = [window.forward_backward_px]
        self.append(**arrays)

    def _complete_fields(self, file: h5py.File) -> None:
        # A video without any window still needs its arrays: a file that lacks one does not open.
        length = int(self.attributes["window_length"])
        empty: dict[str, Any] = {
            "xyz_cam0": (length, 0, 3),
            "uv_px": (length, 0, 2),
            "visible": (length, 0),
            "valid3d": (length, 0),
        }
        for field in _FIELDS:
            if field.name not in file:
                self._append(field, np.zeros(empty.get(field.name, (0,)), field.dtype))


class Tracks(Artifact):
    """Windows by index: ``tracks[w]`` is a `Window`; ``len(tracks)`` windows."""

    FORMAT, VERSION, FIELDS = "videolift.tracks", 1, _FIELDS

    def _validate(self) -> None:
        points = self.read("points")
        self.offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(points)]).astype(np.int64)
        """(W + 1) window w holds points offsets[w]:offsets[w + 1]."""
        # On opening: a window cut out by wrong offsets would hold the points of another one.
        total = int(self.offsets[-1])
        names = ["xyz_cam0", "uv_px", "visible", "valid3d"] + (["visibility_logit"] if self.has_logits else [])
        for name in names:
            self._require(self.array(name).shape[1] == total, f"{name} holds {self.array(name).shape[1]} points, not {total}")
        self._require(self.array("label").shape[0] == total, "label and points differ in length")
        if _RETURN.name in self._file:
            self._require(self.array(_RETURN.name).shape == points.shape, "forward_backward_px and windows differ in length")

    @property
    def has_logits(self) -> bool:
        """True where the model gave visibility logits."""
        return _LOGIT.name in self._file

    @property
    def forward_backward_px(self) -> NDArray[np.float32]:
        """(W) as `Window.forward_backward_px`; NaN where it was not measured."""
        return self.read(_RETURN.name) if _RETURN.name in self._file else np.full(len(self), np.nan, np.float32)

    @property
    def window_start(self) -> NDArray[np.int64]:
        """(W) frame index of each window's first image."""
        return self.read("window_start")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, window: int) -> Window:
        window = range(len(self))[window]
        return self.windows(window, window + 1)[0]

    def windows(self, start: int, stop: int) -> list[Window]:
        """Windows ``start`` to ``stop``, read in one piece: chunks that two of them share are decoded once."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        both = (slice(None), slice(first, last))
        names = ["xyz_cam0", "uv_px", "visible", "valid3d"] + (["visibility_logit"] if self.has_logits else [])
        arrays = {name: self.read(name, both) for name in names}
        starts, tracked = (self.read(name, slice(start, stop)) for name in ("window_start", "frames_tracked"))
        missed = self.forward_backward_px[start:stop].tolist() if _RETURN.name in self._file else [None] * (stop - start)
        label, found = self.read("label", both[1]), []
        for i in range(stop - start):
            part = slice(int(self.offsets[start + i]) - first, int(self.offsets[start + i + 1]) - first)
            cut = {name: array[:, part] for name, array in arrays.items()} | {"label": label[part]}
            found.append(Window(int(starts[i]), int(tracked[i]), forward_backward_px=missed[i], **cut))
        return found
