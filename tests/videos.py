"""Video files for tests, written with PyAV: any codec, colour, timestamps, orientation; a few dozen small frames each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

MATRICES = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}
_SPACES = {"bt709": 1, "bt601": 6, "bt2020": 9, None: 2}
_PRIMARIES = {"bt709": 1, "bt601": 6, "bt2020": 9, None: 2}
_TRANSFERS = {"bt709": 1, "pq": 16, "hlg": 18, None: 2}


@dataclass(frozen=True)
class Tags:
    """Colour as written into the file; None leaves it unspecified."""

    matrix: str | None = "bt709"
    full_range: bool | None = False
    primaries: str | None = "bt709"
    transfer: str | None = "bt709"


def moving_pattern(frames: int, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """RGB u8 (T, H, W, 3): soft coloured blobs that wander, so that every frame and every corner is its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(width, height)
    out = np.full((frames, height, width, 3), 60.0)
    for _ in range(5):
        centre, speed, colour = rng.uniform(0, 1, 2), rng.uniform(-0.4, 0.4, 2), rng.uniform(40, 160, 3)
        for t in range(frames):
            cx, cy = (centre + speed * t / max(frames, 1)) % 1
            out[t] += np.exp(-((x - cx) ** 2 + (y - cy * height / width) ** 2) / 0.02)[..., None] * colour
    return np.clip(out, 0, 255).astype(np.uint8)


def numbered_frames(frames: int, width: int = 64, height: int = 48) -> np.ndarray:
    """RGB u8 (T, H, W, 3): eight upright bars, dark or bright, are the frame's number in binary; see `frame_number`."""
    bits = np.arange(frames)[:, None] >> np.arange(8) & 1
    bars = np.repeat(np.where(bits, 210, 50), width // 8, axis=1).astype(np.uint8)
    return np.repeat(np.repeat(bars[:, None, :, None], height, 1), 3, 3)


def frame_number(rgb: np.ndarray) -> np.ndarray:
    """Numbers i64 (T) of frames made by `numbered_frames`, however scaled."""
    bars = rgb.mean((1, 3)).reshape(len(rgb), 8, -1).mean(2)
    return (bars > 130) @ (1 << np.arange(8))


def rgb_to_yuv444(rgb: np.ndarray, matrix: str, *, full_range: bool, bits: int = 8) -> np.ndarray:
    """R'G'B' 0..1 (H, W, 3) to integer Y'CbCr (3, H, W), by the definition (H.273)."""
    kr, kb = MATRICES[matrix]
    red, green, blue = np.moveaxis(np.asarray(rgb, np.float64), -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scale, top = 2 ** (bits - 8), 2**bits - 1
    if full_range:
        planes = [luma * top, *(c * top + 128 * scale for c in chroma)]
    else:
        planes = [(luma * 219 + 16) * scale, *((c * 224 + 128) * scale for c in chroma)]
    return np.clip(np.rint(np.stack(planes)), 0, top).astype(np.uint16 if bits > 8 else np.uint8)


def yuv_frame(planes: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    """A frame of a planar 4:4:4 format from planes (3, H, W)."""
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // planes.itemsize), planes.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


def write_video(
    path: Path,
    frames: Iterable[np.ndarray | av.VideoFrame],
    *,
    fps: int | Fraction = 30,
    pts_s: Sequence[float] | None = None,
    time_base: Fraction = Fraction(1, 90000),
    codec: str = "libx264",
    pix_fmt: str = "yuv444p",
    container: str | None = None,
    tags: Tags = Tags(),  # noqa: B008  frozen
    pixel_aspect: Fraction | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio_s: float = 0.0,
) -> Path:
    """Writes ``frames`` (RGB u8 (H, W, 3), or frames already in ``pix_fmt``) and returns ``path``.

    ``pts_s`` are seconds per frame (None: evenly at ``fps``); ``rotation`` is (degrees, hflip, vflip) of the display matrix.
    H.264 is lossless (4:4:4, qp 0) unless ``options`` say otherwise.
    """
    lossless = {"libx264": {"qp": "0", "preset": "ultrafast"}, "libx265": {"x265-params": "lossless=1:log-level=error"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container, options=container_options or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=lossless.get(codec, {}) if options is None else options)
        sound = file.add_stream("aac", rate=16000) if audio_s else None
        context = stream.codec_context
        context.thread_count = 1
        if pts_s is not None:
            context.time_base = time_base
        first = True
        for number, image in enumerate(frames):
            frame = image if isinstance(image, av.VideoFrame) else _convert(image, pix_fmt, tags)
            if first:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                _tag(context, tags)
                if pixel_aspect is not None:
                    context.sample_aspect_ratio = pixel_aspect
                if rotation is not None:
                    stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
                first = False
            _tag(frame, tags)
            frame.time_base = time_base if pts_s is not None else 1 / Fraction(fps)
            frame.pts = number if pts_s is None else round(pts_s[number] / time_base)
            file.mux(stream.encode(frame))
        if sound is not None:
            _write_sound(file, sound, audio_s)
        file.mux(stream.encode())
    return path


def write_sound(path: Path, seconds: float) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as file:
        _write_sound(file, file.add_stream("aac", rate=16000), seconds)
    return path


def _write_sound(file: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(16000 * seconds), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def _convert(rgb: np.ndarray, pix_fmt: str, tags: Tags) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    space = {"bt601": Colorspace.ITU601, "bt2020": Colorspace.BT2020}.get(tags.matrix or "bt601", Colorspace.ITU709)
    wide = ColorRange.JPEG if tags.full_range else ColorRange.MPEG
    return frame.reformat(format=pix_fmt, dst_colorspace=space, src_color_range=ColorRange.JPEG, dst_color_range=wide)


def _tag(target: av.VideoCodecContext | av.VideoFrame, tags: Tags) -> None:
    target.colorspace = _SPACES[tags.matrix]
    target.color_primaries = _PRIMARIES[tags.primaries]
    target.color_trc = _TRANSFERS[tags.transfer]
    target.color_range = {None: 0, False: 1, True: 2}[tags.full_range]
