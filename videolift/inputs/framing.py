"""Framing: where a clip's pixels lie in the upright image of its source; resize, lens correction and crop as one geometry.

Ingest decides it once per video and stores it in the clip's attributes. What was measured in the source's view, at any
resolution (depth maps, masks, intrinsics, points), is mapped into the clip with `Framing.from_attrs`. Rotation and mirroring come
before it: the upright image is what a player shows, except that its pixels may not be square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.geometry import Float, crop_intrinsics, resize_intrinsics, resize_pixels
from videolift.inputs.lens import Lens

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Framing:
    """Upright source image -> resized image -> (undistorted and) cut out clip. All sizes are (W, H) in pixels.

    Attributes:
        source_px: the upright image as decoded.
        resized_px: it, resized; the ratio per axis is resized / source, exactly; pixels are square then (not with stretch).
        offset_px: (left, top) of the clip in the resized image.
        clip_px: the clip.
        lens: of the resized image, where a calibration with distortion was given; the clip is then a pinhole's with ``K_clip``.
        K_clip: f64 (3, 3), with ``lens`` only.
    """

    source_px: Size
    resized_px: Size
    offset_px: tuple[int, int]
    clip_px: Size
    lens: Lens | None = None
    K_clip: Float | None = None

    @classmethod
    def fit(
        cls, source_px: Size, clip_px: Size, fit: Literal["auto", "crop", "stretch", "pad"], pixel_aspect: Fraction = Fraction(1)
    ) -> Framing:
        """The framing of a video without lens correction.

        Args:
            source_px: upright image.
            clip_px: the size asked for. ``auto`` swaps it where the video stands and this lies, or the reverse.
            fit: ``auto`` and ``crop`` cover the clip and cut the rest away evenly; ``stretch`` cuts nothing; nor does
                ``pad``: at the scale of ``auto`` the clip has the video's shape, and packaging pads it to a square.
            pixel_aspect: width / height of one pixel of the upright image.
        """
        shown_w, shown_h = source_px[0] * pixel_aspect, Fraction(source_px[1])
        # One of the two is upright, the other lies on its side.
        if fit in ("auto", "pad") and (shown_w - shown_h) * (clip_px[0] - clip_px[1]) < 0:
            clip_px = (clip_px[1], clip_px[0])
        if fit == "stretch":
            return cls(source_px, clip_px, (0, 0), clip_px)
        # The larger of the two covers the clip; the smaller one would leave bars.
        scale = max(clip_px[0] / shown_w, clip_px[1] / shown_h)
        if fit == "pad":
            whole_px = (round(shown_w * scale), round(shown_h * scale))
            return cls(source_px, whole_px, (0, 0), whole_px)
        # Rounding must not leave the image a pixel short of the clip.
        resized = (max(clip_px[0], round(shown_w * scale)), max(clip_px[1], round(shown_h * scale)))
        return cls(source_px, resized, ((resized[0] - clip_px[0]) // 2, (resized[1] - clip_px[1]) // 2), clip_px)

    def corrected(self, lens: Lens) -> Framing:
        """The same framing with a lens correction.

        Raises:
            BadInput: ``calibration``; see `Lens.pinhole`.
        """
        at_resized = lens.resized(self.resized_px)
        K_clip = at_resized.pinhole(self.clip_px, self.offset_px)
        return replace(self, lens=at_resized, K_clip=K_clip)

    def map_intrinsics(self, K: ArrayLike, size_px: Size | None = None) -> Float:
        """``K`` (3, 3) of the source's view as the clip's (3, 3).

        Args:
            K: pixels of an image of ``size_px`` (None: `source_px`) that shows the same view.
            size_px: (W, H).

        With a lens correction the clip's camera is `K_clip` whatever ``K`` is.
        """
        if self.K_clip is not None:
            return self.K_clip.copy()
        return crop_intrinsics(resize_intrinsics(K, size_px or self.source_px, self.resized_px), *self.offset_px)

    def map_pixels(self, uv_px: ArrayLike, size_px: Size | None = None) -> Float:
        """Pixels (..., 2) of an image of ``size_px`` (None: `source_px`) of the same view as the clip's pixels (..., 2)."""
        resized = resize_pixels(uv_px, size_px or self.source_px, self.resized_px)
        if self.lens is not None and self.K_clip is not None:
            return self.lens.undistort(resized, self.K_clip)
        mapped: Float = resized - np.array(self.offset_px)
        return mapped

    def unmap_pixels(self, uv_px: ArrayLike, size_px: Size | None = None) -> Float:
        """Inverse of `map_pixels`: the clip's pixels (..., 2) as those of an image of ``size_px`` of the same view."""
        return resize_pixels(self.resized_pixels(uv_px), self.resized_px, size_px or self.source_px)

    def resized_pixels(self, uv_px: ArrayLike) -> Float:
        """The clip's pixels (..., 2) as pixels of the resized image."""
        if self.lens is not None and self.K_clip is not None:
            return self.lens.distort(uv_px, self.K_clip)
        resized: Float = np.asarray(uv_px, np.float64) + np.array(self.offset_px)
        return resized

    def holds(self, uv_px: ArrayLike) -> NDArray[np.bool_]:
        """Which of the clip's pixels (..., 2) lie in the source's picture, whether or not the clip shows them."""
        resized = self.resized_pixels(uv_px)
        return np.asarray(((resized >= -0.5) & (resized < np.array(self.resized_px) - 0.5)).all(-1))

    def map_nearest(self, image: NDArray[Any]) -> NDArray[Any]:
        """An image (h, w, ...) of the same view and any size, cut to the clip (H, W, ...) by its nearest pixels.

        For depth and masks. Without a lens it is INTER_NEAREST_EXACT and a crop (equal but for exact ties between two
        pixels); what a lens fetches from outside is 0.
        """
        height, width = image.shape[:2]
        x, y = np.arange(self.clip_px[0]), np.arange(self.clip_px[1])
        if self.lens is None:
            columns = _nearest(x + self.offset_px[0], width, self.resized_px[0])
            cut: NDArray[Any] = image[_nearest(y + self.offset_px[1], height, self.resized_px[1])[:, None], columns[None]]
            return cut
        uv = np.floor(self.unmap_pixels(np.stack(np.meshgrid(x, y), -1), (width, height)) + 0.5).astype(np.int64)
        inside = ((uv >= 0) & (uv < (width, height))).all(-1)
        out: NDArray[Any] = image[np.clip(uv[..., 1], 0, height - 1), np.clip(uv[..., 0], 0, width - 1)]
        out[~inside] = 0
        return out

    def visible_px(self) -> tuple[float, float, float, float]:
        """(left, top, width, height) of the clip in `source_px` pixels, before lens correction; left = 0 is the image's edge."""
        x, y = (self.source_px[i] / self.resized_px[i] for i in (0, 1))
        return self.offset_px[0] * x, self.offset_px[1] * y, self.clip_px[0] * x, self.clip_px[1] * y

    def to_attrs(self) -> dict[str, Any]:
        """JSON-able form, the clip's attribute ``framing``."""
        out: dict[str, Any] = {name: list(getattr(self, name)) for name in ("source_px", "resized_px", "offset_px", "clip_px")}
        if self.lens is not None and self.K_clip is not None:
            lens = {"K": self.lens.K.tolist(), "distortion": list(self.lens.distortion), "model": self.lens.model}
            out |= {"lens": lens, "K_clip": self.K_clip.tolist()}
        return out

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Framing:
        """The framing stored in a clip's ``attrs``."""
        stored = attrs["framing"]
        source, resized, offset, clip = (
            (int(stored[name][0]), int(stored[name][1])) for name in ("source_px", "resized_px", "offset_px", "clip_px")
        )
        if "lens" not in stored:
            return cls(source, resized, offset, clip)
        values = stored["lens"]
        lens = Lens(np.array(values["K"], np.float64), resized, tuple(values["distortion"]), values["model"])
        return cls(source, resized, offset, clip, lens=lens, K_clip=np.array(stored["K_clip"], np.float64))


def _nearest(position: NDArray[np.int64], size_from: int, size_to: int) -> NDArray[np.int64]:
    # floor((p + 1/2) * from / to) in integers: no rounding error decides between two pixels
    return (2 * position + 1) * size_from // (2 * size_to)
