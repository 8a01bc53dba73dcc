"""Hands by WiLoR: boxes, sides by vote over time, then MANO poses in the clip's own camera and metres.

Converted here: WiLoR sees every hand as a right one, so a left hand's joints are mirrored and its rotations become M R M; the
joints already contain the global rotation and are not turned again; the wrist's place comes from `placement`. The model and its
detector run in their own interpreter (`wilor_worker`), which is where their licences stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.hands import HandsSettings
from stages.hands.clip_camera import ClipCamera, clip_camera
from stages.hands.identity import Detection, assign_sides, link, without_duplicates
from stages.hands.placement import locate_wrist, wrists_by_one_method
from stages.hands.temporal import Series, median_betas, steady, write_series
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.segments import CALL_FRAMES, even_segments, in_calls, resumable
from videolift.artifacts import METHODS, SIDES, ArtifactWriter, Clip, HandsWriter
from videolift.config import Count, Positive, Share
from videolift.geometry import Float, mirror_points, mirror_rotation
from videolift.isolation import Arrays
from videolift.pool import Device

WORKER = Path(__file__).with_name("wilor_worker.py")
_BOX_FIELDS = ("frame", "box", "score", "right")
_POSE_FIELDS = ("joints", "global_orient", "hand_pose", "betas", "keypoints_px")


@dataclass(frozen=True)
class HandBoxes:
    """The detected hands of one side, in order of frames.

    Attributes:
        frame: (n).
        box: (n, 4) x1 y1 x2 y2, pixels.
        score: (n).
        side_known: (n).
    """

    frame: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float64]
    side_known: NDArray[np.bool_]


@dataclass(frozen=True)
class HandPoses:
    """What the model says of one side's boxes, turned into that side's own geometry.

    Attributes:
        joints_m: (n, 21, 3) from the wrist, in the camera's axes.
        R_camera_wrist: (n, 3, 3).
        mano_pose: (n, 15, 3, 3).
        betas: (n, 10).
        keypoints_px: (n, 21, 2).
    """

    joints_m: Float
    R_camera_wrist: Float
    mano_pose: Float
    betas: Float
    keypoints_px: Float

    @classmethod
    def of(cls, reply: Arrays, rows: NDArray[np.intp], side: str) -> HandPoses:
        """From some rows of the worker's arrays, in which every hand is a right one."""
        values = {name: reply[name][rows].astype(np.float64) for name in _POSE_FIELDS}
        # Relative to the wrist: where that is, `placement` says.
        joints: Float = values["joints"] - values["joints"][:, :1]
        R: Float = values["global_orient"]
        pose: Float = values["hand_pose"]
        if side == "left":
            joints, R, pose = mirror_points(joints), mirror_rotation(R), mirror_rotation(pose)
        return cls(joints, R, mano_pose=pose, betas=values["betas"], keypoints_px=values["keypoints_px"])


class WilorSettings(ModelSettings):
    """WiLoR hands."""

    weights: str = Field("wilor_final", description="a name in thirdparty/models.yaml, or a file of yours")
    detector: str = Field("wilor_detector", description="likewise, the hand detector")
    mano: str = Field("mano_right", description="likewise, MANO_RIGHT.pkl (needs the licence click)")
    min_confidence: Share = Field(0.3, description="of the detector")
    rescale: Positive = Field(2.0, description="crop size relative to the box, as upstream's demo")
    batch_crops: Count = Field(64, description="crops per forward pass, over frames and hands; halved on out of memory")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


class WilorHands(ModelBackend):
    """The ``wilor`` backend."""

    name: ClassVar[str] = "wilor"
    settings_model: ClassVar[type[WilorSettings]] = WilorSettings
    presets: ClassVar[tuple[str, ...]] = ("gpu",)
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "wilor"
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25)
    writer: ClassVar[type[ArtifactWriter]] = HandsWriter
    _settings: HandsSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hashes."""
        away = {"weights", "detector", "mano", "batch_crops", "python", "checkout"}
        own = self._settings.of(WilorSettings).model_dump(mode="json", exclude=away)
        time = {"max_gap": self._settings.max_gap, "max_speed_m_s": self._settings.max_speed_m_s}
        return {**own, **time, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """The repository it runs from, and the user's own folder for it."""
        return {"WiLoR": self._settings.of(WilorSettings).checkout}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        own = self._settings.of(WilorSettings)
        return [own.weights, own.detector, own.mano]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        own = self._settings.of(WilorSettings)
        weights, detector, mano = map(str, require_weights(self._store, self.weights))
        checkout = self._store.checkout("wilor", "WiLoR", own.checkout)
        files = {"weights": weights, "detector": detector, "mano": mano}
        self._start(WORKER, device, {"paths": [str(checkout)], "device": torch_device(device), **files})

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Finds both hands in every frame; none in view is a result like any other. See `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, HandsWriter)
        clip, settings = inputs.clip, self._settings
        camera = clip_camera(clip, inputs.depth)
        passes = TwoPasses(self._call, clip, out, settings, shrink, progress)
        sides = boxes_by_side(passes.boxes())
        series, betas, method = place_hands(len(clip), sides, passes.poses(sides), camera)
        found = steady(series, clip.pts_seconds, max_gap=settings.max_gap, max_speed_m_s=settings.max_speed_m_s)
        write_series(found, median_betas(betas, found.valid & ~found.interpolated), out)
        how = {"K": camera.K.tolist(), "K_source": camera.intrinsics}
        out.describe(backend=self.name, wrist_method=method, has_mano=True, has_joints=True, **how)
        figures = {f"{side}_valid_share": float(found.valid[:, i].mean()) for i, side in enumerate(SIDES)}
        figures["interpolated_share"] = float(found.interpolated.mean())
        checks = ["no hand in view"] if np.isnan(found.score).all() else []
        if camera.intrinsics == "assumed":
            checks.append(f"the focal length is assumed ({camera.K[0, 0]:.0f} px): distances are rough")
        elif camera.depth_m is None:
            checks.append("depth is not in metres: distances rest on the model's hand size, about 10 % off")
        return Quality(len(found.valid), tuple(checks), figures)


class TwoPasses:
    """The two passes over the frames: boxes, then poses. Segments that a killed attempt had finished are not done again."""

    def __init__(
        self,
        call: Callable[[Mapping[str, Any], Arrays], Arrays],
        clip: Clip,
        out: HandsWriter,
        settings: HandsSettings,
        shrink: float,
        progress: Progress,
    ) -> None:
        self._call, self._clip, self._out, self._settings, self._progress = call, clip, out, settings, progress
        self._frames = max(1, round(CALL_FRAMES * shrink))
        self._crops = max(1, round(settings.of(WilorSettings).batch_crops * shrink))

    def boxes(self) -> Arrays:
        """Boxes of all frames; ``frame`` counts from the clip's first."""
        meta = {"do": "detect", "min_confidence": self._settings.of(WilorSettings).min_confidence, "batch_frames": self._frames}

        def look(first: int, last: int) -> Arrays:
            return self._call(meta, {"rgb": self._clip[first:last]})

        return self._walk("boxes", look, frames_before=0)

    def poses(self, sides: tuple[HandBoxes, HandBoxes]) -> tuple[HandPoses, HandPoses]:
        """The model's poses for the boxes of both sides."""
        frame = np.concatenate([boxes.frame for boxes in sides])
        box = np.concatenate([boxes.box for boxes in sides]).astype(np.float32)
        right = np.repeat(np.arange(2, dtype=np.float32), [len(boxes.frame) for boxes in sides])
        meta = {"do": "pose", "rescale": self._settings.of(WilorSettings).rescale, "batch_crops": self._crops}

        def look(first: int, last: int) -> Arrays:
            rows = np.flatnonzero((frame >= first) & (frame < last))
            here = {"frame": (frame[rows] - first).astype(np.int32), "box": box[rows], "right": right[rows]}
            reply = self._call(meta, {"rgb": self._clip[first:last], **here})
            return {**reply, "row": rows, "frame": here["frame"]}

        reply = self._walk("poses", look, frames_before=len(self._clip))
        # Rows come back in order of frames, over both sides.
        order = np.argsort(reply["row"])
        left, right_rows = order[: len(sides[0].frame)], order[len(sides[0].frame) :]
        return HandPoses.of(reply, left, "left"), HandPoses.of(reply, right_rows, "right")

    def _walk(self, name: str, look: Callable[[int, int], Arrays], *, frames_before: int) -> Arrays:
        def reported(first: int, last: int) -> Arrays:
            reply = look(first, last)
            self._progress(frames_before + last, 2 * len(self._clip))
            return reply

        segments = even_segments(len(self._clip), max(self._frames, self._settings.segment_s * self._clip.fps))
        parts = list(resumable(self._out, name, segments, lambda start, end: in_calls(start, end, self._frames, reported)))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def boxes_by_side(found: Arrays) -> tuple[HandBoxes, HandBoxes]:
    """Left and right hands out of all boxes: duplicates dropped, sides by the vote of whole tracks, before the model sees them.

    The model takes the side it is told, and a hand mirrored by mistake is a wrong hand; single frames are often mislabelled.
    """
    by_frame: dict[int, list[Detection]] = {}
    for frame, (x1, y1, x2, y2), score, right in zip(*(found[name] for name in _BOX_FIELDS), strict=True):
        # The detector gives no keypoints; four corners move as a hand does.
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
        by_frame.setdefault(int(frame), []).append(Detection(int(frame), corners, float(score), float(right)))
    kept = [hand for frame in sorted(by_frame) for hand in without_duplicates(by_frame[frame])]
    left, right = assign_sides(link(kept))
    return _boxes(left), _boxes(right)


def _boxes(hands: list[Detection]) -> HandBoxes:
    corners = np.array([np.concatenate([hand.keypoints_px.min(0), hand.keypoints_px.max(0)]) for hand in hands]).reshape(-1, 4)
    return HandBoxes(
        np.array([hand.frame for hand in hands], np.int64),
        corners,
        np.array([hand.score for hand in hands], np.float64),
        np.array([hand.side_known for hand in hands], bool),
    )


def place_hands(
    frames: int, sides: tuple[HandBoxes, HandBoxes], poses: tuple[HandPoses, HandPoses], camera: ClipCamera
) -> tuple[Series, Float, dict[str, str | None]]:
    """Hands before anything is done about time, betas (T, 2, 10), and the method that placed each side's wrist."""
    series, betas = Series.empty(frames), np.full((frames, 2, 10), np.nan)
    methods: dict[str, str | None] = {}
    for i, (boxes, pose) in enumerate(zip(sides, poses, strict=True)):
        depth = [None if camera.depth_m is None else camera.depth_m[int(k)] for k in boxes.frame]
        joints, uv = list(pose.joints_m), list(pose.keypoints_px)
        places = [locate_wrist(j, u, camera.K, z) for j, u, z in zip(joints, uv, depth, strict=True)]
        wrists, method = wrists_by_one_method(places, joints, uv, camera.K)
        methods[SIDES[i]] = method if len(joints) else None
        for n, (k, wrist) in enumerate(zip(boxes.frame, wrists, strict=True)):
            series.score[k, i], series.keypoints_px[k, i] = boxes.score[n], uv[n]
            series.side_known[k, i] = boxes.side_known[n]
            # The hand was seen, so score and pixels stay; only its place in space is not known.
            if wrist is None:
                continue
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = pose.R_camera_wrist[n], wrist
            series.T_camera_wrist[k, i], series.valid[k, i] = T, True
            series.method[k, i] = METHODS.index(method)
            series.joints_camera[k, i], series.mano_pose[k, i] = joints[n] + wrist, pose.mano_pose[n]
            betas[k, i] = pose.betas[n]
    return series, betas, methods


BACKEND = WilorHands
