"""Colour: decoded frames of any matrix, range, depth and transfer as planes of R, G, B, and those as 8-bit BT.709.

libswscale does matrix, range and chroma (exact to half a code value with the flags below, the same on every processor); what is
wider or brighter than BT.709 is decoded to 16 bits and brought down here in numpy, after resizing. Size and orientation are not
its business. What a file does not say is assumed as players do, and named in `Colour.assumed`.

Sources: ITU-R BT.2100-2 tables 4 (PQ) and 5 (HLG, display of 1000 cd/m2, gamma 1.2); ITU-R BT.2390-11 section 5.4.1 (tone curve);
ITU-R BT.2408-7 (reference white 203 cd/m2); ITU-R BT.2087-0 (BT.2020 from BT.709 primaries); ITU-R BT.1886 (display gamma 2.4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

Matrix = Literal["bt709", "bt601", "bt2020", "smpte240m", "fcc", "rgb"]
Transfer = Literal["sdr", "pq", "hlg"]

_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
# AVColorSpace, ITU-T H.273 table 4
_MATRICES: dict[int, Matrix] = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_SWSCALE = {
    "bt709": Colorspace.ITU709,
    "bt601": Colorspace.ITU601,
    "bt2020": Colorspace.BT2020,
    "smpte240m": Colorspace.SMPTE240M,
    "fcc": Colorspace.FCC,
    "rgb": Colorspace.ITU709,
}
_TRANSFERS: dict[int, Transfer] = {int(ColorTrc.SMPTE2084): "pq", int(ColorTrc.ARIB_STD_B67): "hlg"}

WHITE_16 = 65280
"""libswscale's white in 16-bit RGB: 255 << 8 (it gives 65283; the rest is clipped)."""
REFERENCE_WHITE = 203.0
"""cd/m2 that become white of an 8-bit picture (BT.2408)."""
HLG_PEAK = PQ_PEAK = 1000.0
"""cd/m2 of the display HLG is shown on, and of PQ masters that do not state their brightest pixel."""
BT2020_TO_BT709 = np.linalg.inv(
    np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]], np.float64)
).astype(np.float32)
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


@dataclass(frozen=True)
class Colour:
    """How a frame's numbers mean colours.

    Attributes:
        matrix: of Y'CbCr; ``rgb`` for none.
        full_range: 0..255 instead of 16..235.
        transfer: ``sdr``, ``pq`` or ``hlg``.
        wide: BT.2020 primaries.
        peak: brightest pixel in cd/m2 for pq and hlg, None for sdr.
        assumed: which of matrix, range the file does not state.
    """

    matrix: Matrix
    full_range: bool
    transfer: Transfer = "sdr"
    wide: bool = False
    peak: float | None = None
    assumed: tuple[str, ...] = ()

    @property
    def deep(self) -> bool:
        """True if 8 bits per channel do not hold it until it is toned down."""
        return self.transfer != "sdr" or self.wide

    def attrs(self) -> dict[str, Any]:
        """JSON-able form for the clip's ``source`` attribute."""
        return {
            "matrix": self.matrix,
            "range": "full" if self.full_range else "limited",
            "transfer": self.transfer,
            "primaries": "bt2020" if self.wide else "bt709",
            "peak_cd_m2": self.peak,
            "assumed": list(self.assumed),
        }


def frame_colour(frame: VideoFrame) -> Colour:
    """The colour of a decoded frame.

    An unstated matrix is BT.709 from 1280 columns or 577 rows on, BT.601 below, as in players; an unstated range is limited, or
    full for RGB and the yuvj formats. BT.601's primaries are taken for BT.709's, which they nearly are.
    """
    name = frame.format.name
    is_rgb = frame.format.is_rgb or name == "pal8"
    matrix = "rgb" if is_rgb else _MATRICES.get(frame.colorspace)
    full = True if is_rgb or name.startswith("yuvj") else {1: False, 2: True}.get(int(frame.color_range))
    assumed = tuple(key for key, value in (("matrix", matrix), ("range", full)) if value is None)
    if matrix is None:
        matrix = "bt709" if frame.width >= 1280 or frame.height > 576 else "bt601"
    transfer = _TRANSFERS.get(int(frame.color_trc), "sdr")
    # PQ and HLG come with BT.2020 primaries, also where a file forgets to say so.
    wide = int(frame.color_primaries) == ColorPrimaries.BT2020 or transfer != "sdr"
    peak = {"sdr": None, "hlg": HLG_PEAK, "pq": PQ_PEAK}[transfer]
    light = side_data(frame, Type.CONTENT_LIGHT_LEVEL) if transfer == "pq" else None
    if light is not None:
        # MaxCLL is the first of its two numbers; 0 stands for unknown (CTA-861.3)
        stated = struct.unpack("=I", light[:4])[0]
        peak = float(stated) if REFERENCE_WHITE < stated <= 10000 else PQ_PEAK
    return Colour(matrix, bool(full), transfer, wide=wide, peak=peak, assumed=assumed)


def side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """What the container or the stream attached to a decoded frame, None without it."""
    attached: Any = frame.side_data  # PyAV's own types know only one kind
    try:
        return bytes(attached[kind])
    except KeyError:
        return None


class RgbReader:
    """Turns frames into planes R, G, B of the stored size: u8, or u16 with `WHITE_16` as white where `Colour.deep`."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def planes(self, frame: VideoFrame, colour: Colour) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Three arrays (H, W), views of one new picture."""
        picture = self._reformatter.reformat(
            frame,
            format="gbrp16le" if colour.deep else "gbrp",
            src_colorspace=_SWSCALE[colour.matrix],
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG if colour.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_FLAGS,
            threads=1,
        )
        dtype = np.dtype("<u2" if colour.deep else "u1")
        # FFmpeg pads rows to ``line_size``; gbrp stores its planes in the order G, B, R
        green, blue, red = (
            np.frombuffer(memoryview(plane), dtype).reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width]
            for plane in picture.planes
        )
        return red, green, blue


def to_bt709(rgb: NDArray[Any], colour: Colour) -> NDArray[np.uint8]:
    """8-bit BT.709 (..., 3) of what `RgbReader` gave (..., 3); u8 passes through."""
    if not colour.deep:
        picture: NDArray[np.uint8] = rgb
        return picture
    light = _linear_table(colour.transfer)[np.minimum(rgb, WHITE_16)]
    if colour.transfer == "hlg":
        # HLG codes the scene's light; 0.2 is the display's gamma 1.2 less one, of luminance alone so that hues stay
        scene_luminance = light @ _LUMINANCE_2020
        light = light * (HLG_PEAK * np.power(np.maximum(scene_luminance, 1e-9), 0.2))[..., None].astype(np.float32)
    if colour.transfer != "sdr":
        # one factor per pixel, from its brightest channel: a curve per channel would change the hue
        brightest = light.max(-1, keepdims=True)
        # the curve is smooth in the square root of light; 4096 steps leave an error below a tenth of a code value
        grid, factor = _tone_table(colour.peak or PQ_PEAK)
        toned = light * np.interp(np.sqrt(brightest), grid, factor).astype(np.float32)
        light = toned / np.float32(REFERENCE_WHITE)
    bt709 = np.clip(light @ BT2020_TO_BT709.T, 0, 1)
    codes_709: NDArray[np.uint8] = np.rint(np.power(bt709, np.float32(1 / 2.4)) * np.float32(255)).astype(np.uint8)
    return codes_709


@lru_cache(maxsize=4)
def _linear_table(transfer: Transfer) -> NDArray[np.float32]:
    signal = np.arange(WHITE_16 + 1) / WHITE_16
    light = signal**2.4 if transfer == "sdr" else {"pq": pq_to_light, "hlg": hlg_to_scene}[transfer](signal)
    return np.asarray(light, np.float32)


@lru_cache(maxsize=4)
def _tone_table(peak: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    grid = np.linspace(0.0, np.sqrt(10000.0), 4096)
    light = np.maximum(grid**2, 1e-6)
    return grid, tone_curve(light, peak) / light


def pq_to_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ signal 0..1 to cd/m2 (BT.2100 table 4, EOTF)."""
    root = signal ** (1 / 78.84375)
    return 10000.0 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def light_to_pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `pq_to_light`."""
    power = (light / 10000.0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_to_scene(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """HLG signal 0..1 to scene light 0..1 (BT.2100 table 5, inverse OETF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def tone_curve(light: NDArray[np.float64], peak: float, white: float = REFERENCE_WHITE) -> NDArray[np.float64]:
    """Light in cd/m2 up to ``peak`` to at most ``white``: identity below a knee, a Hermite spline above, in PQ (BT.2390 5.4.1)."""
    source_white = light_to_pq(np.array(peak))
    signal = np.minimum(light_to_pq(light) / source_white, 1.0)
    target = light_to_pq(np.array(white)) / source_white
    knee = 1.5 * target - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * target
    return pq_to_light(np.where(signal < knee, signal, spline) * source_white)
