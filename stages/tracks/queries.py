"""Query points: where tracks start in a window's first image.

A grid, at random, or inside the user's masks; a pure function of settings, video, window and mask, so that a resumed run asks
for the same points. Points sit on pixel centres: depth is then read, not mixed. Knows no depth and no tracker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.tracks import TracksSettings
from videolift.errors import BadInput

WINDOW_SETTINGS = frozenset({"seed", "window_length", "stride", "query", "points", "mask_erode_px"})
"""Settings of the stage that decide which windows and points there are, whatever tracks them."""


@dataclass(frozen=True, repr=False)
class Queries:
    """Query points of one window.

    Attributes:
        uv_px: f32 (N, 2), whole numbers, x then y.
        label: u8 (N), mask id under the point, 0 none.
    """

    uv_px: NDArray[np.float32]
    label: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        return f"Queries({len(self)} points, labels {sorted(set(self.label.tolist()))})"


def window_queries(
    settings: TracksSettings, *, video: str, window_start: int, size_px: tuple[int, int], mask: NDArray[np.uint8] | None
) -> Queries:
    """Query points of one window, about ``settings.points`` of them.

    Args:
        settings: ``query``, ``points``, ``mask_erode_px``, ``seed``.
        video: the video's id, part of the seed.
        window_start: frame of the window's first image, likewise.
        size_px: (W, H) of the clip.
        mask: u8 (H, W) instance ids in that image, None where the user gave none.

    Raises:
        BadInput: ``query: mask`` without a mask.
    """
    width, height = size_px
    if settings.query == "mask":
        if mask is None:
            text = "tracks.query is mask, but this video has no mask"
            raise BadInput("no_mask", text, "Name one in the CSV's mask column, or set tracks.query to grid or random.")
        uv = in_mask(mask, settings.points, settings.mask_erode_px, generator(settings.seed or 0, video, window_start))
    elif settings.query == "random":
        uv = at_random(width, height, settings.points, generator(settings.seed or 0, video, window_start))
    else:
        uv = grid_pixels(width, height, settings.points)
    label = np.zeros(len(uv), np.uint8) if mask is None else mask[uv[:, 1], uv[:, 0]]
    return Queries(uv.astype(np.float32), label)


def generator(seed: int, video: str, window_start: int) -> np.random.Generator:
    """The generator of one window: other windows and videos draw other points, another run draws the same."""
    # The id's hash, not Python's own, which differs from process to process.
    words = np.frombuffer(hashlib.sha256(video.encode()).digest(), np.uint32)
    return np.random.default_rng([seed, window_start, *words.tolist()])


def grid_pixels(width: int, height: int, points: int) -> NDArray[np.int64]:
    """Pixels (N, 2) on a square grid with about ``points`` of them, centred in the image."""
    # Square cells whatever the image's shape.
    step = max(1.0, float(np.sqrt(width * height / points)))
    axes = []
    for length in (width, height):
        count = max(1, int(length / step))
        axes.append(np.floor((np.arange(count) + 0.5) * length / count).astype(np.int64))
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def at_random(width: int, height: int, points: int, random: np.random.Generator) -> NDArray[np.int64]:
    """``points`` different pixels (N, 2), or all of them if there are fewer, in reading order."""
    # In reading order, so that neighbouring points read neighbouring pixels.
    chosen = np.sort(random.choice(width * height, size=min(points, width * height), replace=False))
    return np.stack([chosen % width, chosen // width], axis=-1)


def in_mask(mask: NDArray[np.uint8], points: int, erode_px: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Up to ``points`` different pixels (N, 2) inside the instances of ``mask`` (H, W), each eroded by ``erode_px``.

    An instance is eroded where it meets another one or the background, not at the image's border. Empty where nothing is left.
    """
    # Eroded first: at a silhouette flow and depth are the background's as often as the object's.
    inside = np.flatnonzero(eroded(mask, erode_px))
    chosen = np.sort(random.choice(inside, size=min(points, len(inside)), replace=False))
    return np.stack([chosen % mask.shape[1], chosen // mask.shape[1]], axis=-1)


def eroded(mask: NDArray[np.uint8], erode_px: int) -> NDArray[np.uint8]:
    """Instance ids (H, W) with every instance shrunk by ``erode_px``; 0 elsewhere."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erode_px + 1, 2 * erode_px + 1))
    # A pixel survives where the smallest and the largest id around it are its own.
    own = (cv2.erode(mask, disc, borderType=cv2.BORDER_REPLICATE) == mask) & (
        cv2.dilate(mask, disc, borderType=cv2.BORDER_REPLICATE) == mask
    )
    return np.where(own, mask, 0).astype(np.uint8)
