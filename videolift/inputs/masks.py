"""Masks: the user's instance masks as the clip sees them, one u8 image (H, W) per frame of the clip.

Turns what `videolift.inputs.mask_files` opens into the clip's framing (nearest pixels, as for depth) and times. One mask may
stand for the whole clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import Clip
from videolift.errors import BadInput
from videolift.inputs.framing import Framing
from videolift.inputs.mask_files import MaskFile, open_mask_file

# Rounding both sides of an image 64 px high to whole pixels changes their ratio by up to 1.6 %.
_ASPECT_TOLERANCE = 0.02


class Masks:
    """``masks[k]`` is u8 (H, W), the instance ids in frame ``k`` of the clip, 0 for none."""

    def __init__(self, file: MaskFile, clip: Clip) -> None:
        self._file = file
        self._framing = Framing.from_attrs(clip.attrs)
        self._images = image_of_frame(file, clip.pts_seconds, clip.attrs)
        self._held: tuple[int, NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """Instance ids (H, W) of one frame.

        Raises:
            BadInput: ``mask``; damaged, or another view than the video's.
        """
        index = int(self._images[frame])
        # One image may stand for many frames; it is mapped once.
        if self._held is None or self._held[0] != index:
            image = self._file.read(index)
            height, width = image.shape
            ratio = width / height * self._framing.source_px[1] / self._framing.source_px[0]
            if abs(ratio - 1) > _ASPECT_TOLERANCE:
                size = "{} x {}".format(*self._framing.source_px)
                text = f"the mask is {width} x {height} px, the upright video {size}: not the same view"
                raise BadInput("mask", text, "Give masks of the whole video image, upright, at any resolution.")
            self._held = index, self._framing.map_nearest(image)
        return self._held[1]


def image_of_frame(file: MaskFile, pts_seconds: NDArray[np.float64], attrs: Mapping[str, Any]) -> NDArray[np.int64]:
    """Which image (T) of ``file`` belongs to each frame of a clip.

    One image stands for all frames; as many images as the clip has frames go one to one; a video goes by time; otherwise the images
    are those of all frames of a source with a constant frame rate.

    Args:
        file: the masks.
        pts_seconds: (T) of the clip, in the source's clock.
        attrs: of the clip.

    Raises:
        BadInput: ``mask``; another number of images.
    """
    cut = attrs.get("cut_from", {"first": 0, "frames": len(pts_seconds)})
    frames = int(cut["frames"])
    if file.frames in (1, frames):
        return np.arange(len(pts_seconds)) + int(cut["first"]) if file.frames == frames else np.zeros(len(pts_seconds), np.int64)
    source = attrs["source"]
    since_start = pts_seconds - float(source.get("first_pts_s", 0.0))
    if file.seconds is not None:
        # The nearer in time of the two masks around each frame.
        after = np.clip(np.searchsorted(file.seconds, since_start), 1, file.frames - 1)
        earlier = since_start - file.seconds[after - 1] < file.seconds[after] - since_start
        return after - earlier
    rate = float(source["fps_measured"])
    index = np.rint(since_start * rate).astype(np.int64)
    whole = source.get("end_s") is None and "cut_from" not in attrs
    # The clip ends at its last frame; up to one frame of the clip later, plus rounding, the source may still go on.
    unused = 2 + int(np.ceil(rate / float(attrs["fps"]))) if whole else file.frames
    if not source["vfr"] and index[0] >= 0 and index[-1] < file.frames <= index[-1] + unused:
        return index
    text = f"there are {file.frames} masks, {frames} frames in the clip and about {index[-1] + 1} in the video ({rate:.2f} fps)"
    remedy = "Give one mask, one per frame of the clip, one per frame of the video, or a video with its times."
    raise BadInput("mask", text, remedy)


@contextmanager
def open_masks(path: Path, clip: Clip) -> Iterator[Masks]:
    """Opens the masks that belong to ``clip``.

    Raises:
        BadInput: ``mask``; see `videolift.inputs.mask_files.open_mask_file`, or a number of images that does not fit.
    """
    file = open_mask_file(path)
    try:
        yield Masks(file, clip)
    finally:
        file.close()
