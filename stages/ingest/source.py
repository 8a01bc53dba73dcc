"""VideoSource: a path that claims to be a video, opened without trusting it, as a container with one video stream and its header.

Only regular files are opened, never waiting on a FIFO or a device; FFmpeg sees a file object and one demuxer, chosen by the first
bytes, so no name is ever taken for a URL and no playlist can fetch anything. Frames are not decoded here. Each refusal is a
`BadInput` with a code of its own.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container.input import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from videolift.errors import BadInput

MAX_SIDE_PX = 16384
MAX_FRAME_PIXELS = 1 << 26
"""11520 x 5760 still fits; a frame beyond is taken for a decompression bomb."""
MIN_SIDE_PX = 16
MAX_ASPECT = 8
_BUFFER_BYTES = 1 << 18
# Progress is told once a block: even a slow disk reads 16 MB sooner than a pool gives up waiting for a sign of life.
_HASH_BYTES = 1 << 24
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid")
_NOT_IN_NAMES, _LONGEST_NAME = re.compile(r"[^A-Za-z0-9._+-]+"), 40
_CONVERT = "Convert it: ffmpeg -i INPUT -c:v libx264 -crf 16 OUTPUT.mp4"
_FILES = "List regular files."
_SHRINK = "Make it smaller: ffmpeg -i INPUT -vf scale=1920:-2 OUTPUT.mp4"
_REPLACE = "Copy or export it again from where it came from, or remove it from the list of videos."


@dataclass(frozen=True)
class VideoSource:
    """An opened video.

    Attributes:
        container, stream: PyAV's; the stream's decoder is not open yet.
        demuxer: ``mov``, ``matroska`` or ``avi``.
        sha256, bytes: of the file.
        duration_s: from ``start_s`` to the end of the last frame by the header, None where it says nothing.
        exact: the duration is the video stream's own, not that of the longest stream.
        start_s: timestamp from which players count, seconds; that of the container's earliest stream.
        first_pts_s: timestamp of the video's first frame by the header.
        fps_header: frames per second by the header, None where it says nothing.
        pixel_aspect: width / height of a stored pixel.
        camera: make and model as the container names them, None where it does not.
    """

    container: InputContainer
    stream: VideoStream
    demuxer: str
    sha256: str
    bytes: int
    duration_s: float | None
    exact: bool
    start_s: float
    first_pts_s: float
    fps_header: float | None
    pixel_aspect: Fraction
    camera: str | None


@contextmanager
def open_video_source(path: Path, progress: Callable[[], None]) -> Iterator[VideoSource]:
    """Opens ``path`` for decoding; ``progress`` is called while its hash is computed.

    Raises:
        BadInput: missing, not_a_file, unreadable, empty_file, not_a_video, truncated, audio_only, no_video_stream,
            unsupported_codec, too_large, too_small.
    """
    with _open_regular(path) as file:
        demuxer = _demuxer(file.read(16), path.name)
        digest, size = hashlib.sha256(), 0
        file.seek(0)
        while block := file.read(_HASH_BYTES):
            digest.update(block)
            size += len(block)
            progress()
        with _open_container(file, demuxer, path.name) as container:
            stream = _checked_stream(container, file, demuxer, path.name)
            first_s = float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0
            start_s = container.start_time / av.time_base if container.start_time is not None else first_s
            # A file that was cut off is recognised by its length, if the header gives one.
            duration_s, exact = _duration(container, stream, demuxer, start_s=start_s, first_s=first_s)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            # As QuickTime, Android and plain tags have them; what a stranger wrote is cut to harmless letters.
            tags, camera = container.metadata, []
            for what, android in (("make", "manufacturer"), ("model", "model")):
                keys = (f"com.apple.quicktime.{what}", f"com.android.{android}", what)
                stated = next((tags[key] for key in keys if tags.get(key)), "")
                camera.append(_NOT_IN_NAMES.sub(" ", stated)[:_LONGEST_NAME].strip())
            yield VideoSource(
                container=container,
                stream=stream,
                demuxer=demuxer,
                sha256=digest.hexdigest(),
                bytes=size,
                duration_s=duration_s,
                exact=exact,
                start_s=start_s,
                first_pts_s=first_s,
                fps_header=float(stream.average_rate) if stream.average_rate else None,
                # a factor beyond 4 is taken for a damaged header, not for anamorphic video
                pixel_aspect=aspect if Fraction(1, 4) <= aspect <= 4 else Fraction(1),
                camera=" ".join(camera).strip() or None,
            )


def probe(path: Path) -> None:
    """Raises what `open_video_source` would, from the header alone."""
    with _open_regular(path) as file:
        demuxer = _demuxer(file.read(16), path.name)
        with _open_container(file, demuxer, path.name) as container:
            _checked_stream(container, file, demuxer, path.name)


def _checked_stream(container: InputContainer, file: BinaryIO, demuxer: str, name: str) -> VideoStream:
    stream = _video_stream(container, name)
    if not stream.codec_context.width:
        # a decoder that refuses a size forgets it; without any decoder the container's own figures are left
        with _open_container(file, demuxer, name, codec_whitelist="none") as undecoded:
            context = _video_stream(undecoded, name).codec_context
            if context.width:
                _check_size(context.width, context.height, name)
        raise BadInput("undecodable", f"{name}: the size of its frames cannot be read", _REPLACE)
    _check_size(stream.codec_context.width, stream.codec_context.height, name)
    return stream


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BadInput("missing", f"{path.name}: no such file", _REPLACE) from error
    except PermissionError as error:
        raise BadInput("unreadable", f"{path.name} may not be opened by this user", "Make it readable.") from error
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENODEV, errno.ENOTDIR):
            raise
        raise BadInput("not_a_file", f"{path.name} is not a regular file", _FILES) from error
    try:
        # of the open file, not of its name: what the name means may change in between
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
            kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
            raise BadInput("not_a_file", f"{path.name} is not a regular file but {kind}", _FILES)
        if status.st_size == 0:
            raise BadInput("empty_file", f"{path.name} has 0 bytes", _REPLACE)
        # unbuffered: FFmpeg reads through a buffer of its own
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _demuxer(head: bytes, name: str) -> str:
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    text = f"{name} starts with {head[:12]!r}: no mp4, mov, mkv, webm or avi"
    raise BadInput("not_a_video", text, f"Remove it from the list. If it is a video in another container: {_CONVERT}")


@contextmanager
def _open_container(file: BinaryIO, demuxer: str, name: str, **more: str) -> Iterator[InputContainer]:
    # max_pixels also holds for the frames that FFmpeg decodes while it looks for the streams' properties
    options = {"max_pixels": str(MAX_FRAME_PIXELS), "protocol_whitelist": "", "format_whitelist": demuxer} | more
    try:
        file.seek(0)
        container = av.open(file, "r", format=demuxer, options=options, metadata_errors="replace", buffer_size=_BUFFER_BYTES)
    except FFmpegError as error:
        text = f"{name} begins like {demuxer} but its index cannot be read ({error.strerror}): cut off, or damaged"
        raise BadInput("truncated", text, _REPLACE) from error
    with container:
        yield container


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    # a cover picture of a song is a video stream of one frame
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        code = "audio_only" if "audio" in kinds else "no_video_stream"
        raise BadInput(code, f"{name} holds {', '.join(kinds) or 'no streams'} and no video", "Remove it from the list of videos.")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise BadInput("unsupported_codec", f"{name}: no decoder for its video stream", _CONVERT)
    return stream


def _check_size(width: int, height: int, name: str) -> None:
    shape = f"{name}: its frames are {width}x{height} px"
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_FRAME_PIXELS:
        raise BadInput(
            "too_large",
            f"{shape}; at most {MAX_SIDE_PX} px per side and {MAX_FRAME_PIXELS} px in all are decoded",
            _SHRINK,
        )
    if min(width, height) < MIN_SIDE_PX:
        raise BadInput("too_small", f"{shape}; at least {MIN_SIDE_PX} px per side are needed", _REPLACE)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadInput("too_large", f"{shape}; sides may differ by a factor of {MAX_ASPECT} at most", "Crop or pad it.")


def _duration(
    container: InputContainer, stream: VideoStream, demuxer: str, *, start_s: float, first_s: float
) -> tuple[float | None, bool]:
    """Seconds from the video's start to its end by the header, and whether that is the video stream's own length."""
    if demuxer != "matroska":
        if not stream.duration or not stream.time_base:
            return None, False
        return first_s - start_s + float(stream.duration * stream.time_base), True
    # a tag of the track, else the longest track's; both are times of an end on a clock that begins at 0
    clock = stream.metadata.get("DURATION", "").split(":")
    if len(clock) == 3:
        with suppress(ValueError):
            return float(clock[0]) * 3600 + float(clock[1]) * 60 + float(clock[2]) - start_s, True
    return (container.duration / av.time_base - start_s if container.duration else None), len(container.streams) == 1
