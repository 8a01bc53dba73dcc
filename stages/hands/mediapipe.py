"""Hands by MediaPipe, on a CPU: 2D keypoints from its own interpreter, wrists and joints from our geometry and the depth.

The image is looked at whole and in overlapping tiles, every frame by itself. Metric depth gives the wrist by Kabsch and the joints
that it sees; without it the wrist comes from the palm's usual size (PnP), and joints are not measured. MANO is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.hands import HandsSettings
from stages.hands.calls import CALL_FRAMES, in_calls
from stages.hands.clip_camera import ClipCamera, clip_camera
from stages.hands.identity import LINK_GAP, Detection, assign_sides, link, without_duplicates
from stages.hands.temporal import Series, steady, write_series
from stages.hands.wrist import WristFit, choose_tilts, fit_by_pnp, fit_on_depth, hand_size_px, joints_on_depth
from stages.models.environments import read_environment
from stages.models.model_process import ModelBackend, ModelSettings
from stages.segments import even_segments, resumable
from videolift.artifacts import SIDES, ArtifactWriter, Clip, HandsWriter
from videolift.config import Share
from videolift.geometry import Float
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
POOR_FIT = 0.06
"""A palm off by more than this share of the hand's size fits poorly (measured on photos: median 0.021, p90 0.047)."""


@dataclass(frozen=True)
class MeasuredHands:
    """Hands before anything is done about time.

    Attributes:
        series: what was measured.
        method: per side ``depth_kabsch`` or ``palm_pnp``, None for a side without a hand.
        residual_px: per side the median distance of the fitted palm from its keypoints, None likewise.
        poor_share: share of fits whose palm is off by more than `POOR_FIT` of the hand's size.
    """

    series: Series
    method: dict[str, str | None]
    residual_px: dict[str, float | None]
    poor_share: float


class MediapipeSettings(ModelSettings):
    """MediaPipe hands, on a CPU."""

    min_confidence: Share = Field(0.3, description="of the palm detector")
    min_presence: Share = Field(0.8, description="the second model's belief that it sees a hand; at 0.5 a dog's ears are hands")
    tiles: bool = Field(True, description="also look in 2 x 2 overlapping tiles; finds about twice the hands")
    fingers_away: bool = Field(True, description="of two palm tilts that fit, take the one with fingers pointing away (egocentric)")


class MediapipeHands(ModelBackend):
    """The ``mediapipe`` backend."""

    name: ClassVar[str] = "mediapipe"
    builds_env: ClassVar[bool] = True
    settings_model: ClassVar[type[MediapipeSettings]] = MediapipeSettings
    presets: ClassVar[tuple[str, ...]] = ("cpu", "permissive")
    version: ClassVar[int] = 1
    env: ClassVar[str | None] = "mediapipe"
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.25)
    writer: ClassVar[type[ArtifactWriter]] = HandsWriter
    _settings: HandsSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and MediaPipe's version: its models come with it."""
        pins = dict(pin.split("==") for pin in read_environment("mediapipe", self._root / "envs").pins)
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
        detections = self._detections(clip, out, max(1, round(CALL_FRAMES * shrink)), progress)
        sides = assign_sides([track for track in link(detections) if len(track) >= MIN_SEEN_S * clip.fps])
        measured = measure_hands(len(clip), sides, camera, fingers_away=settings.of(MediapipeSettings).fingers_away)
        series = steady(measured.series, clip.pts_seconds, max_gap=settings.max_gap, max_speed_m_s=settings.max_speed_m_s)
        write_series(series, np.full((2, 10), np.nan), out)  # the shape is MANO's, not measured
        out.describe(
            backend=self.name,
            wrist_method=measured.method,
            residual_px=measured.residual_px,
            K=camera.K.tolist(),
            K_source=camera.source,
            has_mano=False,
            has_joints=camera.depth_m is not None,
        )
        return _quality(series, measured, camera)

    def _detections(self, clip: Clip, out: HandsWriter, call_frames: int, progress: Progress) -> list[Detection]:
        """All detections; segments that a killed attempt had finished are not looked at again."""
        meta = {
            "regions": regions(clip.width, clip.height, tiles=self._settings.of(MediapipeSettings).tiles),
            "min_side_px": ENLARGE_PX,
        }

        def look(first: int, last: int) -> Arrays:
            return self._call(meta, {"rgb": clip[first:last]}, lambda done, total: progress(first + done, len(clip)))

        segments = even_segments(len(clip), max(call_frames, self._settings.segment_s * clip.fps))
        parts = resumable(out, "detections", segments, lambda start, end: in_calls(start, end, call_frames, look))
        return [hand for part in parts for hand in detections_of(part)]


def regions(width: int, height: int, *, tiles: bool) -> list[list[int]]:
    """Where to look, [left, top, right, bottom] in pixels: the whole image, then four overlapping tiles in its corners."""
    w, h = round(TILE_SHARE * width), round(TILE_SHARE * height)
    corners = [[x, y, x + w, y + h] for y in (0, height - h) for x in (0, width - w)]
    return [[0, 0, width, height], *(corners if tiles else [])]


def detections_of(arrays: Arrays) -> list[Detection]:
    """Hands of each frame, each once: as seen in the whole image if it was, else in the tile that is surest of it."""
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


def measure_hands(
    frames: int, sides: tuple[list[Detection], list[Detection]], camera: ClipCamera, *, fingers_away: bool
) -> MeasuredHands:
    """Wrists and joints of the detections of both sides.

    One method per side and video, so that a wrist does not jump between two that disagree: Kabsch where depth in metres shows
    the palm in at least half of the detections, palm PnP otherwise.
    """
    series = Series.empty(frames)
    method: dict[str, str | None] = {}
    residual_px: dict[str, float | None] = {}
    misfits: list[float] = []
    for i, (side, hands) in enumerate(zip(SIDES, sides, strict=True)):
        _see(series, i, hands, camera)
        fits = fits_on_depth(hands, series.joints_camera[:, i], camera.K, side)
        if 2 * len(fits) < len(hands):
            fits = fits_by_pnp(hands, camera.K, side, fingers_away=fingers_away)
        for frame, fit in fits.items():
            series.T_camera_wrist[frame, i], series.valid[frame, i] = fit.T_camera_wrist, True
            misfits.append(fit.residual_px / float(hand_size_px(series.keypoints_px[frame, i])))
        method[side] = next((fit.method for fit in fits.values()), None)
        residual_px[side] = round(float(np.median([fit.residual_px for fit in fits.values()])), 3) if fits else None
    return MeasuredHands(series, method, residual_px, float(np.mean(np.array(misfits) > POOR_FIT)) if misfits else 0.0)


def _see(series: Series, i: int, hands: list[Detection], camera: ClipCamera) -> None:
    for hand in hands:
        series.keypoints_px[hand.frame, i], series.score[hand.frame, i] = hand.keypoints_px, hand.score
        if camera.depth_m is not None:
            depth_m = camera.depth_m[hand.frame]
            series.joints_camera[hand.frame, i] = joints_on_depth(hand.keypoints_px, depth_m, camera.K)


def fits_on_depth(hands: list[Detection], joints_camera: Float, K: Float, side: str) -> dict[int, WristFit]:
    """Frame to pose by Kabsch for those detections of one side whose palm is seen in ``joints_camera`` (T, 21, 3)."""
    tried = {hand.frame: fit_on_depth(joints_camera[hand.frame], hand.keypoints_px, K, side) for hand in hands}
    return {frame: fit for frame, fit in tried.items() if fit is not None}


def fits_by_pnp(hands: list[Detection], K: Float, side: str, *, fingers_away: bool) -> dict[int, WristFit]:
    """Frame to pose by palm PnP for the detections of one side, tilts chosen along each stretch without a long gap."""
    tried = [(hand, fit_by_pnp(hand.keypoints_px, K, side)) for hand in hands]
    found = [(hand, fits) for hand, fits in tried if fits]
    gaps = np.diff([hand.frame for hand, _ in found]) > LINK_GAP + 1
    edges = [0, *(np.flatnonzero(gaps) + 1).tolist(), len(found)]
    chosen: dict[int, WristFit] = {}
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        stretch = found[first:last]
        sizes = [float(hand_size_px(hand.keypoints_px)) for hand, _ in stretch]
        best = choose_tilts([fits for _, fits in stretch], sizes, side, fingers_away=fingers_away)
        chosen |= {hand.frame: fit for (hand, _), fit in zip(stretch, best, strict=True)}
    return chosen


def _quality(series: Series, measured: MeasuredHands, camera: ClipCamera) -> Quality:
    """What a person should know of the result."""
    figures = {f"{side}_valid_share": float(series.valid[:, i].mean()) for i, side in enumerate(SIDES)}
    figures |= {"interpolated_share": float(series.interpolated.mean()), "poor_fit_share": measured.poor_share}
    checks = []
    if np.isnan(series.score).all():
        checks.append("no hand in view")
    if camera.source == "assumed":
        checks.append(f"the focal length is assumed ({camera.K[0, 0]:.0f} px): hand poses are rough")
    if measured.poor_share > 0.5:
        checks.append(f"{measured.poor_share:.0%} of the palms fit their keypoints poorly: hand poses are rough")
    return Quality(len(series.valid), tuple(checks), figures)


BACKEND = MediapipeHands
