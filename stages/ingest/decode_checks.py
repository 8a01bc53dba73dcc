"""Decode_checks: what was seen of a video while it was decoded, as a refusal or as sentences for the receipt.

Pure functions of counts; nothing here opens or decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from stages.ingest.decode import Damage
from stages.ingest.source import VideoSource
from stages.ingest.timing import WINDOW, Cadence
from videolift.errors import BadInput

MIN_COVERED = 0.98
"""Share of the header's duration that must decode."""
MIN_COVERED_INEXACT = 0.9
"""The same where the header only knows the longest stream, which may be sound."""
MAX_DAMAGED = 0.2
"""Share of packets or timestamps beyond which what is left is not worth learning from."""
MAX_GAP_S = 1.0
_REPLACE = "Copy or export it again from where it came from, or remove it from the list of videos."


@dataclass
class Seen:
    """Counts of one video's decoding.

    Attributes:
        cadence, damage: of the stream.
        kept: frames of the clip.
        brightest: largest mean of a kept frame, 0 to 1.
        covered_s: end of the last frame, seconds since the video's start.
        rescaled, interlaced: frames that changed size, or are two half pictures.
    """

    cadence: Cadence
    damage: Damage = field(default_factory=Damage)
    kept: int = 0
    brightest: float = 0.0
    covered_s: float = 0.0
    rescaled: int = 0
    interlaced: int = 0


def refuse_useless(seen: Seen, source: VideoSource, *, start_s: float | None, end_s: float | None, black_below: float) -> None:
    """Raises what makes the clip useless, the cause before its symptoms.

    Args:
        seen: of the whole decoding.
        source: its header.
        start_s, end_s: the part asked for, seconds since the video's start; None for its beginning and end.
        black_below: mean of the brightest frame, 0 to 1, below which the clip is black.

    Raises:
        BadInput: undecodable, truncated, corrupt, timestamps, empty_range, one_frame, black.
    """
    frames, damage = len(seen.cadence.seconds), seen.damage
    # without a frame and without damage, ``start`` may simply lie behind the end: that is empty_range below
    if frames == 0 and (start_s is None or damage.found):
        raise BadInput("undecodable", f"none of {damage.packets} packets could be decoded", _REPLACE)
    if frames > 0 and source.duration_s is not None:
        asked = source.duration_s if end_s is None else min(end_s, source.duration_s)
        share = MIN_COVERED if source.exact else MIN_COVERED_INEXACT
        # one frame of grace: a header may count up to the last frame's start or to its end
        if seen.covered_s < share * asked - seen.cadence.frame_s:
            text = f"{seen.covered_s:.2f} s of {source.duration_s:.2f} s decode; the file is cut off or damaged"
            remedy = f"{_REPLACE} To use what is there, set end to {max(seen.covered_s, 0):.2f} for it in the table of videos."
            raise BadInput("truncated", text, remedy)
    if damage.corrupt_packets + damage.left_out > MAX_DAMAGED * max(damage.packets, 1):
        text = f"{damage.corrupt_packets} corrupt packets and {damage.left_out} frames that depend on one, of {damage.packets}"
        raise BadInput("corrupt", f"{text}; at most {MAX_DAMAGED:.0%} are left out", _REPLACE)
    if seen.cadence.dropped > MAX_DAMAGED * (frames + seen.cadence.dropped):
        text = f"{seen.cadence.dropped} of {frames + seen.cadence.dropped} frames go back in time by more than {WINDOW} frames"
        raise BadInput("timestamps", text, "Give it new timestamps: ffmpeg -i INPUT -vf setpts=N/FRAME_RATE/TB OUTPUT.mp4")
    if seen.kept == 0:
        length = "unknown" if source.duration_s is None else f"{source.duration_s:.2f} s"
        text = f"no frame between start {start_s} and end {end_s} (seconds); the video's length is {length}"
        raise BadInput("empty_range", text, "Correct start and end in the table of videos.")
    if frames == 1:
        raise BadInput("one_frame", "it has a single frame", "Remove it: a still picture has no motion.")
    if seen.kept == 1:
        raise BadInput(
            "one_frame", "one frame is left at ingest.fps", "Raise ingest.fps for it (overrides), or give a longer video."
        )
    if seen.brightest < black_below:
        text = f"its brightest frame has a mean of {seen.brightest:.3f}, ingest.black_below is {black_below}"
        raise BadInput("black", text, "Remove it, or lower ingest.black_below for it (overrides).")


def checks(seen: Seen, source: VideoSource, fps: float) -> Iterator[str]:
    """Sentences a person should read about a video that was kept."""
    cadence, damage = seen.cadence, seen.damage
    if damage.corrupt_packets or damage.left_out:
        yield f"{damage.corrupt_packets} corrupt packets, {damage.left_out} frames left out up to the next key frame"
    if damage.read_error:
        yield f"reading stopped before the end of the file: {damage.read_error}"
    if cadence.guessed:
        yield f"{cadence.guessed} frames had no timestamp; theirs were set by the header's {1 / cadence.frame_s:.3g} fps"
    if cadence.moved:
        yield f"timestamps were not in order; {cadence.moved} were exchanged with their neighbours'"
    if cadence.dropped:
        yield f"{cadence.dropped} frames went back in time and were left out"
    if cadence.fps < 0.99 * fps:
        yield f"the source has {cadence.fps:.3g} fps, less than ingest.fps {fps:g}: every frame was kept once"
    if cadence.longest_gap_s > MAX_GAP_S:
        yield f"one frame is shown for {cadence.longest_gap_s:.2f} s"
    if seen.rescaled:
        yield f"{seen.rescaled} frames have another size than the first and were scaled to it"
    if seen.interlaced:
        yield f"{seen.interlaced} frames are interlaced and were not deinterlaced"
    if source.fps_header and abs(cadence.fps / source.fps_header - 1) > 0.05:
        yield f"the header says {source.fps_header:.3g} fps, its timestamps {cadence.fps:.3g}"
