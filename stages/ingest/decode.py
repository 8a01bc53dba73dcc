"""Decode: packets of one stream to frames in presentation order with their timestamps; damage is counted, never fatal by itself.

Decoders fill damaged pictures in and go on; what follows is smeared until the next key frame, and with several threads differs from
run to run (measured: H.264, HEVC, MPEG-4). So damage stops a threaded decoding with `DamageFound`, and with one thread every frame
from the damage to the next key frame is left out. What a decoder does not notice stays: HEVC notices one in three.
Timestamps are the container's own, in seconds, and may be wrong; that is for `stages.ingest.timing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from stages.ingest.source import MAX_FRAME_PIXELS, VideoSource
from stages.ingest.timing import Timed

_THREAD_BYTES = 256 << 20
# No decoder of H.264 or HEVC holds more than 16 frames back, so no more can wait for the reference that is shown after them.
_MAX_WAITING = 16


class DamageFound(Exception):
    """A decoding with several threads met damage; begin again with one."""


@dataclass
class Damage:
    """What could not be decoded.

    Attributes:
        packets: seen.
        corrupt_packets: refused by the decoder, or marked by the demuxer.
        left_out: frames decoded with errors or after one, up to the next key frame.
        read_error: why reading stopped before the end of the file; empty if it did not.
    """

    packets: int = 0
    corrupt_packets: int = 0
    left_out: int = 0
    read_error: str = ""

    @property
    def found(self) -> bool:
        """True if anything was damaged."""
        return bool(self.corrupt_packets or self.left_out or self.read_error)


def decoder_threads(threads: int, width: int, height: int) -> int:
    """Threads for a decoder, each of which holds frames of its own: within ``threads``, 16, and 256 MB of frames."""
    return max(1, min(threads, 16, _THREAD_BYTES // (3 * width * height)))


def decode(source: VideoSource, *, threads: int, from_s: float | None, damage: Damage) -> Iterator[Timed[VideoFrame]]:
    """Frames from the key frame at or before ``from_s`` (seconds of the source's clock; None: all) to the end.

    Args:
        source: freshly opened.
        threads: see `decoder_threads`.
        from_s: where to seek; a container without a usable index is decoded from its beginning.
        damage: counted into.

    Raises:
        DamageFound: with more than one thread only.
    """
    context = source.stream.codec_context
    context.thread_type = "FRAME"
    context.thread_count = threads
    # without explode the HEVC decoder reports even less
    context.options = {"max_pixels": str(MAX_FRAME_PIXELS)} | ({"err_detect": "explode"} if context.name == "hevc" else {})
    if from_s is not None and from_s > source.start_s:
        base = source.stream.time_base
        try:
            source.container.seek(round(from_s / base) if base else 0, stream=source.stream)
        except FFmpegError:
            source.container.seek(0)
    for frame in _undamaged(_decoded_packets(source, damage), damage):
        if threads > 1 and damage.found:
            raise DamageFound
        stamp = frame.pts if frame.pts is not None else frame.dts
        seconds = None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)
        yield Timed(seconds, frame)
    # damage in the last packets brings no frame to notice it by
    if threads > 1 and damage.found:
        raise DamageFound


_Step = tuple[list[VideoFrame], bool, int | None]
"""Frames of a packet, whether it is corrupt, its timestamp."""


def _undamaged(steps: Iterator[_Step], damage: Damage) -> Iterator[VideoFrame]:
    """Frames that no damage reaches. B-frames wait for the reference shown after them: it is decoded before them."""
    # Several packets may be waiting in the decoder, so a frame is known by its timestamp.
    whole, waiting, refused = True, list[VideoFrame](), set[int | None]()
    for frames, is_corrupt, pts in steps:
        if is_corrupt:
            damage.corrupt_packets += 1
            damage.left_out += len(waiting)
            whole, waiting = False, []
            refused.add(pts)
        for frame in frames:
            if frame.is_corrupt or frame.pts in refused:
                damage.left_out += len(waiting) + 1
                whole, waiting = False, []
            elif not (whole or frame.key_frame):
                damage.left_out += 1
            else:
                whole = True
                waiting.append(frame)
                # the bound keeps memory small where a stream marks all its frames as B
                if frame.pict_type != PictureType.B or len(waiting) > _MAX_WAITING:
                    yield from waiting
                    waiting = []
    yield from waiting


def _decoded_packets(source: VideoSource, damage: Damage) -> Iterator[_Step]:
    """What each packet brings out of the decoder, and at the end what the decoder still holds."""
    packets = source.container.demux(source.stream)
    packet: Packet[VideoStream] | None
    reading = True
    while reading:
        try:
            packet = next(packets)
            damage.packets += packet.size > 0
        except StopIteration:
            return  # the demuxer's last packet was an empty one, which emptied the decoder
        except FFmpegError as error:
            damage.read_error = str(error.strerror)
            packet, reading = None, False  # None empties the decoder
        pts = None if packet is None else packet.pts
        try:
            yield source.stream.decode(packet), packet is not None and packet.is_corrupt, pts
        except EndOfFile:
            yield [], False, pts
        except FFmpegError:
            yield [], True, pts
