"""Names, dtypes and shapes of the packaged file ``h5_dataset/{video}.hdf5``, and of its view of a clip.

The one place that knows where something is stored; writer, reader, verify and exports take it from here. How values come about is
in `videolift.dataset.windows` (geometry) and `videolift.dataset.statistics.accumulators` (accumulators).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.fields import BITSHUFFLE, Field
from videolift.dataset.quality import SCORES
from videolift.geometry import Float, crop_intrinsics, resize_intrinsics

DATASET_FORMAT, DATASET_VERSION = "videolift.dataset", 1
SUFFIX = ".hdf5"

HAND_FRAME_FIELDS = ("valid", "interpolated", "score", "keypoints_px", "T_camera_wrist", "joints_camera", "mano_pose")
"""Per-frame arrays of `videolift.artifacts.Hands`, stored under ``hands/`` by the same names."""
HAND_ORIGIN_FIELDS = ("method", "side_known")
"""Likewise, how each wrist was placed and whether its side is known; files of older releases lack them."""
HAND_WORLD_FIELDS = ("T_world_wrist", "world_valid")
"""Wrists with the camera's motion taken out; likewise."""
HAND_WINDOW_FIELDS = ("window_query_uvd", "window_displacement_uvd", "window_query_rot6d", "window_displacement_rot6d")

FIELDS: tuple[Field, ...] = (
    # One chunk per frame: a sample reads a few of many. A lossless codec saves some 10 % of real RGB and takes longer than reading.
    Field("rgb", "u1", (-1, 3, None, None), chunk=1),
    Field("depth", "f2", (-1, None, None), chunk=1, codec=BITSHUFFLE),
    Field("timestamps", "f8", (-1,), chunk=1024),
    Field("shot", "i4", (-1,), chunk=1024),
    Field("camera/intrinsics", "f4", (3, 3)),
    Field("camera/T_camera_world", "f4", (-1, 4, 4), chunk=256),
    Field("camera/pose_valid", "?", (-1,), chunk=1024),
    Field("tracks/window_start", "i8", (-1,), chunk=1024),
    Field("tracks/offsets", "i8", (-1,), chunk=1024),
    # 512 points per chunk were the knee when measured: 0.35 ms per whole window and 0.03 ms per run of 32 points; at 1024 0.36 and
    # 0.08, at 256 0.41 and 0.02 and 2 % more bytes. Steps come first, so that a window is one run of columns.
    Field("tracks/query", "f4", (-1, 3), chunk=1024, codec=BITSHUFFLE),
    Field("tracks/displacement", "f4", (None, -1, 3), chunk=512, codec=BITSHUFFLE),
    Field("tracks/visible", "?", (None, -1), chunk=4096, codec=BITSHUFFLE),
    Field("tracks/label", "u1", (-1,), chunk=8192, codec=BITSHUFFLE),
    Field("tracks/pose9d", "f4", (-1, None, 9), chunk=64),
    Field("hands/valid", "?", (-1, 2), chunk=1024),
    Field("hands/interpolated", "?", (-1, 2), chunk=1024),
    Field("hands/score", "f4", (-1, 2), chunk=1024),
    Field("hands/keypoints_px", "f4", (-1, 2, 21, 2), chunk=64, codec=BITSHUFFLE),
    Field("hands/T_camera_wrist", "f4", (-1, 2, 4, 4), chunk=64, codec=BITSHUFFLE),
    Field("hands/joints_camera", "f4", (-1, 2, 21, 3), chunk=64, codec=BITSHUFFLE),
    Field("hands/mano_pose", "f4", (-1, 2, 15, 3, 3), chunk=64, codec=BITSHUFFLE),
    Field("hands/betas", "f4", (2, 10)),
    Field("hands/method", "u1", (-1, 2), chunk=1024),
    Field("hands/side_known", "?", (-1, 2), chunk=1024),
    Field("hands/T_world_wrist", "f4", (-1, 2, 4, 4), chunk=64, codec=BITSHUFFLE),
    Field("hands/world_valid", "?", (-1, 2), chunk=1024),
    Field("hands/window_query_uvd", "f4", (-1, 2, 3), chunk=256),
    Field("hands/window_displacement_uvd", "f4", (-1, 2, None, 3), chunk=64, codec=BITSHUFFLE),
    Field("hands/window_query_rot6d", "f4", (-1, 2, 6), chunk=256),
    Field("hands/window_displacement_rot6d", "f4", (-1, 2, None, 6), chunk=64, codec=BITSHUFFLE),
    Field("masks/instance", "u1", (-1, None, None), chunk=1, codec=BITSHUFFLE),
    *(Field(f"quality/{name}", "f4", (-1,), chunk=1024) for name, score in SCORES.items() if score.per_frame),
    Field("stats/layout", "u1", (None,)),
    Field("stats/moments", "i8", (None,)),
    Field("stats/extrema", "f4", (None, 2)),
    Field("stats/bins", "u4", (None,)),
    Field("stats/counts", "i8", (None,)),
)
"""Every dataset of the ``default`` profile. A part that a video does not have leaves its group out."""

_GROUPS_OF_PART = {"depth": {"depth", "camera"}, "tracks": {"tracks"}, "hands": {"hands"}, "mask": {"masks"}}
_SHAPES = {field.name: field.shape for field in FIELDS}
PER_POINT = ("tracks/query", "tracks/displacement", "tracks/visible", "tracks/label")
"""Arrays that grow with the points of all windows."""
_IMAGES = ("rgb", "depth", "masks/instance")
STATISTICS_OF = "visible steps"
"""Attribute ``statistics_of``: what the statistics of displacements count. Files without it counted hidden steps too."""
METRE_SCALES = ("metric", "hand", "assumed")
"""Values of ``scale`` under which lengths are metres."""


def promised_arrays(parts: Iterable[str], *, older: bool = False) -> set[str]:
    """Arrays of `FIELDS` that a file with these parts holds; scores under ``quality/`` depend on what could be measured.

    An ``older`` file, one that names no ``size_px``, says neither how wrists were placed nor where they are in the world.
    """
    groups = {"rgb", "timestamps", "stats"}.union(*(_GROUPS_OF_PART.get(part, set()) for part in parts))
    names = {field.name for field in FIELDS if field.name.partition("/")[0] in groups}
    absent: tuple[str, ...] = (*HAND_ORIGIN_FIELDS, *HAND_WORLD_FIELDS) if older else ()
    # Without poses hands are known in each frame's own camera and nowhere else.
    if "camera" not in groups:
        absent += (*HAND_WINDOW_FIELDS, *HAND_WORLD_FIELDS)
    return names - {f"hands/{name}" for name in absent}


def expected_shape(
    name: str, *, frames: int, windows: int, points: int, size_px: tuple[int, int], window_length: int
) -> tuple[int, ...]:
    """Shape of an array of `FIELDS`, those under ``stats/`` aside, in a file of so many frames, windows and points."""
    if name in PER_POINT:
        length = points
    elif name.startswith(("tracks/", "hands/window_")):
        length = windows + (name == "tracks/offsets")
    else:
        length = frames
    # None is an axis whose length the file chooses: an image's sides, or a window's steps.
    free = iter(size_px[::-1] if name in _IMAGES else (window_length,))
    return tuple(length if n == -1 else next(free) if n is None else n for n in _SHAPES[name])


@dataclass(frozen=True)
class PackagedView:
    """The part of a clip's image that is packaged, resized. Where it reaches beyond the image it is padded with zeros.

    Attributes:
        left_px, top_px, width_px, height_px: the part, in the clip's image; left_px or top_px below 0 where it is padded.
        size_px: (width, height) of the packaged image.
    """

    left_px: int
    top_px: int
    width_px: int
    height_px: int
    size_px: tuple[int, int]

    @classmethod
    def of(
        cls, clip_px: tuple[int, int], size: int, view: Literal["square", "full"] = "square", *, padded: bool = False
    ) -> PackagedView:
        """The view of a clip of ``clip_px`` (width, height) whose shorter side becomes ``size`` pixels.

        Args:
            clip_px: the clip's image.
            size: pixels.
            view: ``full`` is the whole image; ``square`` its largest centred square.
            padded: the square holds the whole image instead, with bars.
        """
        width, height = clip_px
        if view == "full":
            scale = size / min(clip_px)  # the longer side is rounded to whole pixels; K takes the same rounding
            return cls(0, 0, width, height, (round(width * scale), round(height * scale)))
        side = max(clip_px) if padded else min(clip_px)
        return cls((width - side) // 2, (height - side) // 2, side, side, (size, size))

    @classmethod
    def from_attribute(cls, stored: Mapping[str, Any]) -> PackagedView:
        """From a file's attribute ``view``; files of older releases hold a square's side and size."""
        if "side_px" in stored:
            side, size = int(stored["side_px"]), int(stored["size"])
            return cls(int(stored["left_px"]), int(stored["top_px"]), side, side, (size, size))
        left, top, width, height = (int(stored[name]) for name in ("left_px", "top_px", "width_px", "height_px"))
        return cls(left, top, width, height, (int(stored["size_px"][0]), int(stored["size_px"][1])))

    def intrinsics(self, K: ArrayLike) -> Float:
        """``K`` (3, 3) of the clip's image as that of the packaged one, f64."""
        cropped = crop_intrinsics(K, self.left_px, self.top_px)
        return resize_intrinsics(cropped, (self.width_px, self.height_px), self.size_px)

    def pixels(self, uv_px: ArrayLike) -> Float:
        """Pixels (..., 2) of the clip's image as those of the packaged one, f64."""
        scale = np.array(self.size_px) / [self.width_px, self.height_px]
        offset = (0.5 - np.array([self.left_px, self.top_px])) * scale - 0.5
        return np.asarray(np.asarray(uv_px, np.float64) * scale + offset)

    def cut(self, images: NDArray[Any]) -> NDArray[Any]:
        """The part out of images (n, H, W, ...); a view of them unless it is padded."""
        low = max(self.top_px, 0), max(self.left_px, 0)
        high = self.top_px + self.height_px, self.left_px + self.width_px
        inside = images[:, low[0] : high[0], low[1] : high[1]]
        before = -min(self.top_px, 0), -min(self.left_px, 0)
        bars = [(before[i], high[i] - low[i] - inside.shape[1 + i]) for i in (0, 1)]  # what the slice above could not reach
        if not any(map(any, bars)):
            return inside
        return np.pad(inside, [(0, 0), *bars, *[(0, 0)] * (images.ndim - 3)])
