"""Hands by MediaPipe, on a CPU: 2D keypoints from its own interpreter, wrists and joints from our geometry and the depth.

The image is looked at whole and in overlapping tiles, every frame by itself, then every hand again from near by. What a frame's
wrist rests on is stored with it: measured depth, or the palm's size (PnP). Without metric depth joints are
not measured. MANO is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.hands import HandsSettings
from stages.hands.clip_camera import clip_camera
from stages.hands.identity import Detection, assign_sides, link, without_duplicates
from stages.hands.measured_hands import hands_quality, measure_hands
from stages.hands.second_look import LOOKS, HandView, agreed, the_hand
from stages.hands.temporal import steady, write_series
from stages.hands.whole_picture import MAX_HANDS_CUT_AWAY, cut_away_share
from stages.models.environments import read_environment
from stages.models.model_process import ModelBackend, ModelSettings
from stages.segments import CALL_FRAMES, even_segments, in_calls, kept, resumable
from videolift.artifacts import ArtifactWriter, Clip, HandsWriter
from videolift.config import Share
from videolift.geometry import Float
from videolift.inputs.video import Video
from videolift.isolation import Arrays
from videolift.pool import Device

MAX_HANDS = 4
"""Per region; a third and a fourth hand are told apart from the first two by time, then left out."""
TILE_SHARE = 0.6
"""Width and height of a tile as shares of the image: neighbours overlap by a third of a tile."""
ENLARGE_PX = 480
"""Smaller regions are enlarged to this shorter side; the palm detector misses hands of few pixels."""
MIN_SEEN_S = 0.3
"""A hand seen for less, all its frames together, is taken for chance."""


class MediapipeSettings(ModelSettings):
    """MediaPipe hands, on a CPU."""

    min_confidence: Share = Field(0.3, description="of the palm detector")
    min_presence: Share = Field(0.8, description="the second model's belief that it sees a hand; at 0.5 a dog's ears are hands")
    tiles: bool = Field(True, description="also look in 2 x 2 overlapping tiles; finds about twice the hands")
    fingers_away: bool = Field(True, description="the camera looks along the arms (egocentric): settles tilts and sides in doubt")


class MediapipeHands(ModelBackend):
    """The ``mediapipe`` backend."""

    name: ClassVar[str] = "mediapipe"
    builds_env: ClassVar[bool] = True
    settings_model: ClassVar[type[MediapipeSettings]] = MediapipeSettings
    presets: ClassVar[tuple[str, ...]] = ("cpu", "laptop", "permissive")
    version: ClassVar[int] = 5
    env: ClassVar[str | None] = "mediapipe"
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.25)
    writer: ClassVar[type[ArtifactWriter]] = HandsWriter
    _settings: HandsSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and MediaPipe's version: its models come with it."""
        pins = dict(pin.split("==") for pin in read_environment("mediapipe").pins)
        own = self._settings.of(MediapipeSettings).model_dump(mode="json", exclude={"python"})
        return {**own, "max_gap": self._settings.max_gap, "max_speed_m_s": self._settings.max_speed_m_s, "model": pins["mediapipe"]}

    def load(self, device: Device) -> None:
        """Starts MediaPipe in its own interpreter."""
        own = self._settings.of(MediapipeSettings)
        limits = {"min_confidence": own.min_confidence, "min_presence": own.min_presence, "max_hands": MAX_HANDS}
        self._start(Path(__file__).with_name("mediapipe_worker.py"), device, limits)

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Finds both hands in every frame; none in view is a result like any other.

        Raises:
            CorruptFile: clip and depth differ in length.
        """
        assert inputs.clip is not None
        assert isinstance(out, HandsWriter)
        clip, settings = inputs.clip, self._settings
        camera = clip_camera(clip, inputs.depth)
        call_frames = max(1, round(CALL_FRAMES * shrink))
        tiles = settings.of(MediapipeSettings).tiles
        meta = {"regions": regions(clip.width, clip.height, tiles=tiles), "min_side_px": ENLARGE_PX}

        def look(first: int, last: int) -> Arrays:
            return self._call(meta, {"rgb": clip[first:last]}, lambda done, total: progress(first + done, 2 * len(clip)))

        # Segments that a killed attempt had finished are not looked at again.
        segments = even_segments(len(clip), max(call_frames, settings.segment_s * clip.fps))
        parts = resumable(out, "detections", segments, lambda start, end: in_calls(start, end, call_frames, look))
        detections = [hand for part in parts for hand in detections_of(part)]
        # On the 2D detections alone: which hand is which rests on better keypoints then.
        detections = self._second_looks(clip, out, detections, K=camera.K, call_frames=call_frames, progress=progress)
        fingers_away = settings.of(MediapipeSettings).fingers_away
        sides = assign_sides(link(detections), MIN_SEEN_S * clip.fps, along_arms=fingers_away)
        measured = measure_hands(len(clip), sides, camera, fingers_away=fingers_away)
        series = steady(measured.series, clip.pts_seconds, max_gap=settings.max_gap, max_speed_m_s=settings.max_speed_m_s)
        write_series(series, np.full((2, 10), np.nan), out)  # the shape is MANO's, not measured
        out.describe(
            backend=self.name,
            wrist_method=measured.method,
            residual_px=measured.residual_px,
            apart_deg=None if np.isnan(measured.apart_deg) else measured.apart_deg,
            K=camera.K.tolist(),
            K_source=camera.intrinsics,
            has_mano=False,
            has_joints=camera.depth_m is not None,
        )
        quality = hands_quality(series, measured, camera)
        cut_away = self._cut_away(inputs.video, clip, out)
        if cut_away is None:
            return quality
        remedy = f"{cut_away:.0%} of the hands in the whole picture are cut away: set ingest.fit: pad, and create_h5.view: full"
        checks = (*quality.checks, remedy) if cut_away > MAX_HANDS_CUT_AWAY else quality.checks
        return Quality(quality.frames, checks, quality.figures | {"cut_away_share": cut_away})

    def _cut_away(self, video: Video, clip: Clip, out: HandsWriter) -> float | None:
        """Share of hands that the clip's frame cut away, see `cut_away_share`."""

        def detect(rgb: NDArray[np.uint8]) -> list[Detection]:
            tiles = self._settings.of(MediapipeSettings).tiles
            meta = {"regions": regions(rgb.shape[1], rgb.shape[0], tiles=tiles), "min_side_px": ENLARGE_PX}
            return detections_of(self._call(meta, {"rgb": rgb[None]}))

        def compute() -> dict[str, float]:
            share = cut_away_share(video, clip, out.scratch(), root=self._root, detect=detect)
            return {"share": np.nan if share is None else share}

        # Kept: the source is decoded once, also after a kill.
        share = float(kept(out, "whole", compute)["share"])
        return share if np.isfinite(share) else None

    def _second_looks(
        self, clip: Clip, out: HandsWriter, detections: list[Detection], *, K: Float, call_frames: int, progress: Progress
    ) -> list[Detection]:
        """The same hands, each looked at again."""
        frame = np.array([hand.frame for hand in detections])

        def look(start: int, end: int) -> Arrays:
            hands = [detections[i] for i in np.flatnonzero((frame >= start) & (frame < end))]
            # NaN where a hand is not found again.
            uv, right = np.full((len(hands), len(LOOKS), 21, 2), np.nan), np.full((len(hands), len(LOOKS)), np.nan)
            # One size at a time: pictures of one call must have one shape.
            for j, (grown, mirrored) in enumerate(LOOKS):
                for first in range(0, len(hands), call_frames):
                    some = hands[first : first + call_frames]
                    views = [HandView.of(hand.keypoints_px, K, grown, mirrored=mirrored) for hand in some]
                    pictures = np.stack([view.picture(clip[hand.frame]) for view, hand in zip(views, some, strict=True)])
                    side = views[0].side_px
                    reply = self._call({"regions": [[0, 0, side, side]], "min_side_px": side}, {"rgb": pictures})
                    for i, (hand, view) in enumerate(zip(some, views, strict=True)):
                        rows = np.flatnonzero(reply["frame"] == i)
                        found = [view.to_clip(reply["keypoints_px"][row].astype(np.float64)) for row in rows]
                        best = the_hand(hand, found)
                        if best is not None:
                            uv[first + i, j] = found[best]
                            # In a mirror it is less sure of the side (93 % right on tracked hands, 95 % otherwise).
                            right[first + i, j] = np.nan if mirrored else reply["right"][rows[best]]
            progress(len(clip) + end, 2 * len(clip))
            return {"keypoints_px": uv, "right": right}

        segments = even_segments(len(clip), max(call_frames, self._settings.segment_s * clip.fps))
        parts = list(resumable(out, "looks", segments, look))
        uv, right = (np.concatenate([part[name] for part in parts]) for name in ("keypoints_px", "right"))
        return [agreed(hand, uv[i], right[i]) for i, hand in enumerate(detections)]


def regions(width: int, height: int, *, tiles: bool) -> list[list[int]]:
    """Where to look, [left, top, right, bottom] in pixels: the whole image, then four overlapping tiles in its corners."""
    w, h = round(TILE_SHARE * width), round(TILE_SHARE * height)
    corners = [[x, y, x + w, y + h] for y in (0, height - h) for x in (0, width - w)]
    return [[0, 0, width, height], *(corners if tiles else [])]


def detections_of(arrays: Arrays) -> list[Detection]:
    """Hands of each frame, each once: as seen in the whole image if it was, else in the tile that is surest of it."""
    # The last key counts most: by frame, then the whole image before tiles, then the surest.
    order = np.lexsort((arrays["region"], -arrays["score"], arrays["region"] > 0, arrays["frame"]))
    found: dict[int, list[Detection]] = {}
    for i in order:
        hand = Detection(
            frame=int(arrays["frame"][i]),
            keypoints_px=arrays["keypoints_px"][i].astype(np.float64),
            score=float(arrays["score"][i]),
            right=float(arrays["right"][i]),
        )
        found.setdefault(hand.frame, []).append(hand)
    return [hand for hands in found.values() for hand in without_duplicates(hands)]


BACKEND = MediapipeHands
