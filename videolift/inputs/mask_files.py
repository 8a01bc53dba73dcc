"""Mask files: what a user may give as masks, opened without trusting it, as one u8 image of instance ids per number.

An npz is read as a zip of plain arrays (never unpickled, its header checked before any pixel), images and videos must be
lossless: an id that is off by one names another object. One image is held at a time. `videolift.inputs.masks` says what they
mean for a clip.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from videolift.errors import BadInput

MAX_MASK_PIXELS = 1 << 26
"""11520 x 5760; a larger image is taken for a decompression bomb."""
IMAGES = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
CODECS = ("ffv1", "png", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "qtrle", "gif")
"""Video codecs that keep every value."""
_WHOLE = ("gray", "pal8", "rgb24", "bgr24", "bgr0", "0rgb", "gbrp", "bgra", "rgba", "argb")
"""Pixel formats that do: no chroma at half size, no limited range."""
_FORMAT = "Give u8 instance ids as an npz of shape (T, H, W) or (H, W), a folder of PNG images, or a lossless video (FFV1, grey)."


class MaskFile(ABC):
    """Images u8 (h, w) by index; a context manager.

    Attributes:
        frames: number of images.
        seconds: presentation times f64 (frames) from the first image on, None where the file has none.
    """

    frames: int
    seconds: NDArray[np.float64] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = ExitStack()

    @abstractmethod
    def read(self, index: int) -> NDArray[np.uint8]:
        """One image.

        Raises:
            BadInput: ``mask``; damaged, or not instance ids.
        """

    def close(self) -> None:
        """Closes what is open."""
        self._open.close()


def open_mask_file(path: Path) -> MaskFile:
    """The masks at ``path``: a folder of images, an npz, or a video.

    Raises:
        BadInput: ``mask``; missing, of another kind, lossy, damaged, not u8.
    """
    if path.is_dir():
        return _Images(path)
    file = _open_regular(path)
    # By content: a suffix does not say what a decoder would be handed.
    head = file.read(16)
    file.seek(0)
    if head[:4] == b"PK\x03\x04":
        return _Npz(path, file)
    demuxer = _demuxer(head)
    if demuxer is None:
        file.close()
        raise unusable_mask(path, f"is not an npz, a folder or a mov, mkv or avi video (it starts with {head[:8]!r})")
    return _Movie(path, file, demuxer)


def unusable_mask(path: Path, problem: str) -> BadInput:
    """The error for masks that cannot be used."""
    return BadInput("mask", f"the mask {path.name} {problem}", _FORMAT)


class _Npz(MaskFile):
    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path)
        self._open.enter_context(file)
        try:
            archive = self._open.enter_context(zipfile.ZipFile(file))
            arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            named = [arrays[name] for name in ("mask", "masks", "instance") if name in arrays]
            if not named and len(arrays) != 1:
                raise ValueError(f"it holds {', '.join(sorted(arrays)[:5])}, none of them named mask")
            member = (named or list(arrays.values()))[0]
            self._stream: IO[bytes] = self._open.enter_context(archive.open(member))
            # Parsed here: `np.load` would set aside memory for whatever shape the header claims.
            version = np.lib.format.read_magic(self._stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy version {version}")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, order, dtype = read(self._stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, zlib.error, RuntimeError) as error:
            self.close()
            raise unusable_mask(path, f"cannot be read: {error}") from error
        self._start = self._stream.tell()
        self.frames, self._shape = (1, shape) if len(shape) == 2 else (shape[0] if shape else 0, shape[1:])
        if dtype not in (np.dtype("u1"), np.dtype("?")) or order or len(shape) not in (2, 3) or not np.prod(shape) > 0:
            self.close()
            raise unusable_mask(path, f"holds {dtype} of shape {shape}{' in column order' if order else ''}")
        size, stored = int(np.prod(self._shape)), member.file_size - self._start
        if size > MAX_MASK_PIXELS or size * self.frames != stored:
            self.close()
            raise unusable_mask(path, f"claims shape {shape} and holds {stored} bytes")
        self._size = size

    def read(self, index: int) -> NDArray[np.uint8]:
        try:
            # Going back in a zip means unpacking it from the start again; images are asked for in order.
            self._stream.seek(self._start + index * self._size)
            data = self._stream.read(self._size)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise unusable_mask(self.path, f"is damaged at image {index}: {error}") from error
        if len(data) != self._size:
            raise unusable_mask(self.path, f"ends within image {index}")
        return np.frombuffer(data, np.uint8).reshape(self._shape)


class _Images(MaskFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        files = sorted((entry for entry in path.iterdir() if not entry.name.startswith(".")), key=_natural)
        self._files = [file for file in files if file.suffix.lower() in IMAGES]
        self.frames = len(self._files)
        if not self._files:
            kinds = sorted({file.suffix.lower() for file in files})
            raise unusable_mask(path, f"is a folder without {', '.join(IMAGES)}; it holds {', '.join(kinds) or 'nothing'}")

    def read(self, index: int) -> NDArray[np.uint8]:
        path = self._files[index]
        try:
            # Only these decoders: Pillow knows dozens, and some start other programs.
            with _open_regular(path) as file, Image.open(file, formats=sorted(set(IMAGES.values()))) as image:
                if image.width * image.height > MAX_MASK_PIXELS:
                    raise unusable_mask(path, f"has {image.width} x {image.height} pixels, at most {MAX_MASK_PIXELS} are read")
                return _ids(path, np.asarray(image))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise unusable_mask(path, f"cannot be read: {error}") from error


class _Movie(MaskFile):
    def __init__(self, path: Path, file: BinaryIO, demuxer: str) -> None:
        super().__init__(path)
        self._open.enter_context(file)
        self._file, self._demuxer = file, demuxer
        self._decoder: Iterator[VideoFrame] = iter(())
        self._next = 0
        try:
            with self._container() as container:
                stream = container.streams.video[0]
                if stream.codec_context.name not in CODECS or stream.codec_context.pix_fmt not in _WHOLE:
                    kind = f"{stream.codec_context.name} {stream.codec_context.pix_fmt}"
                    raise unusable_mask(path, f"is {kind}, which is not lossless")
                packets = [packet for packet in container.demux(stream) if packet.size]
                times = [float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None]
            if not packets or len(times) != len(packets):
                raise unusable_mask(path, f"has {len(packets)} images, {len(times)} of them with a time")
            self.seconds = np.sort(times) - min(times)
        except (FFmpegError, IndexError) as error:
            self.close()
            raise unusable_mask(path, f"cannot be read: {error}") from error
        except BadInput:
            self.close()
            raise
        self.frames = len(self.seconds)

    def read(self, index: int) -> NDArray[np.uint8]:
        # A decoder only goes forward: for an earlier image it starts over.
        if index < self._next:
            self._decoder, self._next = self._decode(), 0
        elif self._next == 0:
            self._decoder = self._decode()
        try:
            for frame in self._decoder:
                self._next += 1
                if self._next == index + 1:
                    if frame.format.name == "pal8":
                        return np.array(frame.to_ndarray()[0])  # the index into the palette is the id
                    return _ids(self.path, frame.to_ndarray(format="gray" if frame.format.name == "gray" else "rgb24"))
        except FFmpegError as error:
            raise unusable_mask(self.path, f"is damaged at image {self._next}: {error}") from error
        raise unusable_mask(self.path, f"ends before image {index}")

    def _container(self) -> av.container.InputContainer:
        self._file.seek(0)
        # The file was opened as a regular one; without the whitelists what it holds could still make FFmpeg open others.
        options = {"max_pixels": str(MAX_MASK_PIXELS), "protocol_whitelist": "", "format_whitelist": self._demuxer}
        return av.open(self._file, "r", format=self._demuxer, options=options)

    def _decode(self) -> Iterator[VideoFrame]:
        with self._container() as container:
            yield from container.decode(container.streams.video[0])


def _ids(path: Path, image: NDArray[Any]) -> NDArray[np.uint8]:
    # Many tools save a grey image as RGB.
    if image.ndim == 3 and image.shape[2] in (3, 4) and (image[..., :3] == image[..., :1]).all():
        image = image[..., 0]
    if image.ndim != 2:
        raise unusable_mask(path, "has colours; ids are one grey value or palette index per pixel")
    if image.dtype.kind not in "bui" or (image.size and not 0 <= int(image.min()) <= int(image.max()) <= 255):
        raise unusable_mask(path, f"holds {image.dtype} from {image.min()} to {image.max()}; ids are 0 to 255")
    return image.astype(np.uint8)


def _open_regular(path: Path) -> BinaryIO:
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unusable_mask(path, f"cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unusable_mask(path, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def _demuxer(head: bytes) -> str | None:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def _natural(path: Path) -> tuple[list[int | str], str]:
    parts: list[int | str] = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
    return parts, path.name
