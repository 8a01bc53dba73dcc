"""Conversion: one opened video to the frames, times and description of its `Clip`, in one pass and a few frames at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from stages.backend import Progress, Quality
from stages.ingest import IngestSettings
from stages.ingest.colour import Colour, frame_colour
from stages.ingest.cuts import CutFinder
from stages.ingest.decode import DamageFound, decode, decoder_threads
from stages.ingest.decode_checks import Seen, checks, refuse_useless
from stages.ingest.orientation import Orientation, frame_orientation
from stages.ingest.picture import PictureMaker
from stages.ingest.source import VideoSource, open_video_source
from stages.ingest.timing import Cadence, in_order, nearest
from videolift.artifacts import ClipWriter
from videolift.errors import BadInput, storage_errors_are_transient
from videolift.geometry import Float
from videolift.inputs.catalog import Video
from videolift.inputs.framing import Framing
from videolift.inputs.lens import Lens, read_lens
from videolift.inputs.named_cameras import NamedCamera
from videolift.shot_ranges import shots_of

# Frames: 4.7 MB at 512 x 384.
_CHUNK = 8
_PROGRESS_EVERY = 30


@dataclass(frozen=True)
class View:
    """How the frames of one video become the clip's; decided on its first frame.

    Attributes:
        stored_px: (W, H) as decoded.
        orientation, colour, framing: see their modules.
        K_given: f64 (3, 3) of the clip where a calibration was given or a known camera named.
    """

    stored_px: tuple[int, int]
    orientation: Orientation
    colour: Colour
    framing: Framing
    K_given: Float | None

    @classmethod
    def of(cls, frame: VideoFrame, source: VideoSource, settings: IngestSettings, lens: Lens | None) -> View:
        """From a video's first frame.

        Raises:
            BadInput: ``calibration``; it is of pictures of another shape.
        """
        stored = (frame.width, frame.height)
        turned = frame_orientation(frame)
        aspect = 1 / source.pixel_aspect if turned.transpose else source.pixel_aspect
        upright = turned.size(stored)
        framing = Framing.fit(upright, (settings.width, settings.height), settings.fit, aspect)
        K_given = None
        if lens is not None:
            if lens.size_px is not None:
                shape = lens.size_px[0] / lens.size_px[1]
                # of an anamorphic video the calibration's pictures may be as stored or as shown
                if all(abs(shape / (upright[0] / upright[1] * pixels) - 1) > 0.01 for pixels in (1.0, float(aspect))):
                    text = "the calibration is for {}x{} px, the video is {}x{} px upright".format(*lens.size_px, *upright)
                    remedy = "Calibrate with pictures of the whole frame, upright, of any size but the same shape."
                    raise BadInput("calibration", text, remedy)
            framing = framing.corrected(lens) if lens.distorts else framing
            K_given = framing.map_intrinsics(lens.K, lens.size_px)
        return cls(stored, turned, colour=frame_colour(frame), framing=framing, K_given=K_given)


def convert(video: Video, settings: IngestSettings, threads: int, out: ClipWriter, progress: Progress) -> Quality:
    """Decodes one video into ``out``; see `stages.backend.Backend.process` for errors."""
    path = Path(video.path)
    # a calibration of this very camera goes before the camera that the row names
    lens = read_lens(video.calib) if video.calib is not None else None
    if lens is None and video.camera is not None:
        lens = NamedCamera.from_row(video.camera).lens
    # several threads make other pictures of a damaged stream on every run, so damage begins again with one
    for count in (threads, 1):
        with (
            storage_errors_are_transient(f"reading {path.name}"),
            open_video_source(path, lambda: progress(0, 1)) as source,
            suppress(DamageFound),
        ):
            return _Conversion(settings, video, source, lens, out=out, progress=progress).run(count)
        out.discard()
    raise AssertionError("one thread raises no DamageFound")


class _Conversion:
    """One video on its way; exists so that counts, header and view need not be handed from function to function."""

    def __init__(
        self, settings: IngestSettings, video: Video, source: VideoSource, lens: Lens | None, out: ClipWriter, progress: Progress
    ) -> None:
        self.settings, self.video, self.source, self.lens, self.out, self.progress = settings, video, source, lens, out, progress
        # Some containers state no rate; ours then serves for the times of frames without a timestamp, and for nothing else.
        rate = source.fps_header or settings.fps
        tick = float(source.stream.time_base or Fraction(1, 1000))
        self.seen = Seen(Cadence(frame_s=1 / rate, tick_s=tick))
        self.cuts = CutFinder() if settings.cuts else None
        self.decoded = 0
        length = source.duration_s or 0.0
        start = video.start_s or 0.0
        end = length if video.end_s is None else min(video.end_s, length)
        self.total = max(1, math.ceil(max(0.0, end - start) * min(settings.fps, rate)))

    def run(self, threads: int) -> Quality:
        start = None if self.video.start_s is None else self.source.start_s + self.video.start_s
        end = None if self.video.end_s is None else self.source.start_s + self.video.end_s
        size = self.source.stream.codec_context
        threads = decoder_threads(threads, size.width, size.height)
        frames = decode(self.source, threads=threads, from_s=start, damage=self.seen.damage)
        timed = self._watch(in_order(frames, self.seen.cadence), end)
        # timestamps are rounded to ticks, but a container may also count in whole frames
        rounding_s = min(self.seen.cadence.tick_s, 0.1 * self.seen.cadence.frame_s)
        chosen = nearest(timed, self.settings.fps, start_s=start, end_s=end, tolerance_s=rounding_s)
        view = self._write(chosen)
        refuse_useless(
            self.seen,
            self.source,
            start_s=self.video.start_s,
            end_s=self.video.end_s,
            black_below=self.settings.black_below,
        )
        assert view is not None  # refuse_useless has raised where no frame was kept
        self._describe(view)
        shot = np.zeros(self.seen.kept, np.int32) if self.cuts is None else self.cuts.shot_of_frame()
        self.out.append(shot=shot)
        shots = shots_of(shot)
        sentences = list(checks(self.seen, self.source, self.settings.fps))
        if view.orientation.off_deg > 1:
            turned = f"the container turns it by {view.orientation.off_deg:.1f} degrees off a right angle"
            sentences.append(f"{turned}; that part was left as it is")
        if self.lens is not None and self.lens.size_px is None:
            sentences.append("the calibration names no size; it was taken for one of {} x {} px".format(*view.framing.source_px))
        if len(shots) > 1:
            first = ", ".join(str(one.first) for one in shots[1:11])
            sentences.append(f"{len(shots)} shots; cuts before frames {first}{' and later' if len(shots) > 11 else ''}")
        visible, whole = view.framing.visible_px(), view.framing.source_px
        figures = {
            "frames_decoded": float(self.decoded),
            "seconds": self.seen.covered_s - (self.video.start_s or 0.0),
            "fps_measured": self.seen.cadence.fps,
            "visible_share": visible[2] * visible[3] / (whole[0] * whole[1]),
            "brightest": self.seen.brightest,
            "corrupt_packets": float(self.seen.damage.corrupt_packets),
            "frames_left_out": float(self.seen.damage.left_out),
            "shots": float(len(shots)),
        }
        return Quality(self.seen.kept, tuple(sentences), figures)

    def _watch(self, frames: Iterable[tuple[float, VideoFrame]], end: float | None) -> Iterator[tuple[float, VideoFrame]]:
        for seconds, frame in frames:
            self.decoded += 1
            if self.decoded % _PROGRESS_EVERY == 0:
                self.progress(self.seen.kept, max(self.total, self.seen.kept))
            shown = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
            self.seen.covered_s = seconds + max(shown, self.seen.cadence.frame_s) - self.source.start_s
            self.seen.interlaced += frame.interlaced_frame
            yield seconds, frame
            if end is not None and seconds >= end:
                return

    def _write(self, chosen: Iterable[tuple[float, VideoFrame]]) -> View | None:
        view: View | None = None
        maker: PictureMaker | None = None
        pictures: list[NDArray[np.uint8]] = []
        times: list[float] = []
        for seconds, frame in chosen:
            if maker is None or view is None:
                view = View.of(frame, self.source, self.settings, self.lens)
                maker = PictureMaker(view.framing, view.orientation, view.colour)
            pictures.append(maker.picture(frame))
            times.append(seconds)
            if self.cuts is not None:
                self.cuts.add(pictures[-1])
            self.seen.brightest = max(self.seen.brightest, float(pictures[-1].mean()) / 255)
            self.seen.kept += 1
            self.seen.rescaled = maker.rescaled
            # A few at a time: a video is never held as a whole.
            if len(pictures) == _CHUNK:
                self._flush(pictures, times)
        if pictures:
            self._flush(pictures, times)
        return view

    def _flush(self, pictures: list[NDArray[np.uint8]], times: list[float]) -> None:
        self.out.append_frames(np.stack(pictures), np.array(times))
        pictures.clear()
        times.clear()
        self.progress(self.seen.kept, max(self.total, self.seen.kept))

    def _describe(self, view: View) -> None:
        source, cadence = self.source, self.seen.cadence
        self.out.describe(
            # A slower source keeps its own rate; within 1 % it is rounding.
            fps=min(self.settings.fps, cadence.fps) if cadence.fps < 0.99 * self.settings.fps else self.settings.fps,
            framing=view.framing.to_attrs(),
            source={
                "sha256": source.sha256,
                "bytes": source.bytes,
                "container": source.demuxer,
                "codec": source.stream.codec_context.name,
                "rotation_deg": view.orientation.rotation_deg,
                "mirrored": view.orientation.mirrored,
                "pixel_aspect": float(source.pixel_aspect),
                "vfr": cadence.variable,
                "fps_header": source.fps_header,
                "fps_measured": cadence.fps,
                "size_px": list(view.stored_px),
                "crop_px": list(view.framing.visible_px()),
                "colour": view.colour.attrs(),
                **({"camera": source.camera} if source.camera else {}),
                "start_s": self.video.start_s,
                "end_s": self.video.end_s,
                "first_pts_s": source.first_pts_s if self.video.start_s else cadence.seconds[0],
                "clock_start_s": source.start_s,
            },
        )
        if self.settings.fit == "pad":
            self.out.describe(fit="pad")
        if view.K_given is not None:
            self.out.describe(K_given=view.K_given.tolist())
            if self.video.camera is not None:
                self.out.describe(K_source=self.video.camera["how"])
