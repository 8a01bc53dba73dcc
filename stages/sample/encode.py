"""RGB frames to an H.264 file: tagged BT.709, one encoder thread, no dates, so that equal frames give equal bytes.

Used for the sample's clips; knows nothing of what the frames show.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

_BT709 = 1


def write_h264(path: Path, rgb: NDArray[np.uint8], fps: float, *, crf: int = 12) -> None:
    """Writes frames u8 (T, H, W, 3), H and W even, as an mp4 at ``path``; ``crf`` is x264's quality, 0 lossless to 51."""
    height, width = rgb.shape[1:3]
    # x264's macroblock tree gives other bytes on every run, even on one thread
    options = {"crf": str(crf), "preset": "fast", "x264-params": "threads=1:mbtree=0"}
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = ColorRange.MPEG
        for image in rgb:
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
