"""RGB frames to an H.264 mp4, one by one: tagged BT.709, one encoder thread, no dates, so that equal frames give equal bytes.

For clips of the sample, previews and exports. Knows nothing of what the frames show; decoding is ingest's.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

_BT709 = 1
_EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""libswscale's default is a code value too dark and differs between processors."""


class H264Writer:
    """A context manager; leaving it ends the file.

    Args:
        path: of the mp4; any suffix.
        size_px: (W, H), both even.
        fps: frames per second.
        crf: x264's quality, 0 lossless to 51.
        preset: x264's speed; a faster one takes less time and more bytes.
        key_every: frames from one key frame to the next; None leaves it to x264, which puts them up to 250 apart.
    """

    def __init__(
        self,
        path: Path,
        size_px: tuple[int, int],
        fps: float,
        *,
        crf: int,
        preset: str = "fast",
        key_every: int | None = None,
    ) -> None:
        if size_px[0] % 2 or size_px[1] % 2:
            raise ValueError(f"size is {size_px[0]} x {size_px[1]}; H.264 with 4:2:0 colour needs even numbers")
        # x264's macroblock tree gives other bytes on every run, even on one thread
        options = {"crf": str(crf), "preset": preset, "x264-params": "threads=1:mbtree=0"}
        if key_every is not None:
            options["g"] = str(key_every)
        flags = {"fflags": "+bitexact", "movflags": "+faststart"}
        self._container = av.open(str(path), "w", format="mp4", container_options=flags)
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size_px, "yuv420p"
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = ColorRange.MPEG

    def write(self, rgb: NDArray[np.uint8]) -> None:
        """Adds a frame, u8 (H, W, 3)."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        # Converted as it is tagged: libswscale would take BT.601, and players show other colours than were written.
        target = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        frame = frame.reformat(format="yuv420p", interpolation=_EXACT, **target)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
