"""Decode: packets of one stream to frames in presentation order with their timestamps; damage is counted, never fatal by itself.

Knows nothing of what the frames are for. Timestamps are the container's own, in seconds, and may be wrong; that is for
`stages.ingest.timing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from stages.ingest.source import MAX_PIXELS, Source
from stages.ingest.timing import Timed

_THREAD_BYTES = 256 << 20


@dataclass
class Damage:
    """What could not be decoded.

    Attributes:
        packets: seen.
        corrupt_packets: refused by the decoder, or marked by the demuxer.
        corrupt_frames: decoded with errors, and left out.
        read_error: why reading stopped before the end of the file; empty if it did not.
    """

    packets: int = 0
    corrupt_packets: int = 0
    corrupt_frames: int = 0
    read_error: str = ""

    @property
    def found(self) -> bool:
        """True if anything was damaged."""
        return bool(self.corrupt_packets or self.corrupt_frames or self.read_error)


def decoder_threads(threads: int, width: int, height: int) -> int:
    """Threads for a decoder, each of which holds frames of its own: within ``threads``, 16, and 256 MB of frames."""
    return max(1, min(threads, 16, _THREAD_BYTES // (3 * width * height)))


def decode(source: Source, *, threads: int, from_s: float | None, damage: Damage) -> Iterator[Timed[VideoFrame]]:
    """Frames from the key frame at or before ``from_s`` (seconds of the source's clock; None: all) to the end.

    Args:
        source: freshly opened.
        threads: see `decoder_threads`.
        from_s: where to seek; a container without a usable index is decoded from its beginning.
        damage: counted into.
    """
    context = source.stream.codec_context
    context.thread_type = "AUTO"
    context.thread_count = decoder_threads(threads, context.width, context.height)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    if from_s is not None and from_s > source.start_s:
        _seek(source, from_s)
    for packet in _packets(source, damage):
        try:
            frames = source.stream.decode(packet)
        except EndOfFile:
            return
        except FFmpegError:
            damage.corrupt_packets += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.corrupt_frames += 1
            else:
                yield Timed(_seconds(frame), frame)


def _packets(source: Source, damage: Damage) -> Iterator[Packet | None]:
    packets = source.container.demux(source.stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            damage.read_error = str(error.strerror)
            yield None  # flushes the decoder
            return
        damage.packets += packet.size > 0
        damage.corrupt_packets += packet.is_corrupt
        yield packet


def _seek(source: Source, seconds: float) -> None:
    base = source.stream.time_base
    target = round(seconds / base) if base else 0
    try:
        source.container.seek(target, stream=source.stream)
    except FFmpegError:
        source.container.seek(0)


def _seconds(frame: VideoFrame) -> float | None:
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)
