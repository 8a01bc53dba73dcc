"""rgbd: depth that a sensor measured, cut to the clip's view; camera poses as given, or found from image and depth. Tier A, metres.

Every value is checked on its way in (`depth_file`, `sensor`); nothing is filled in. Given poses are compared with what the images
show, because poses given the wrong way round would poison a dataset silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Backend, Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.depth_file import DepthFile
from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import FeatureTracks, clip_features, follow_features
from stages.depth.motion.grey import GreyFrames
from stages.depth.motion.observing import observe_camera
from stages.depth.motion.odometry import follow_on_depth, measure_agreement
from stages.depth.sensor import SensorDepth
from stages.depth.sfm_settings import SfmSettings
from stages.depth.writing import finish_depth, write_frames
from stages.segments import SavedArrays, kept
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.artifacts.depth import Intrinsics
from videolift.config import Block
from videolift.errors import BadInput
from videolift.geometry import Float
from videolift.pool import Device

_PASSES = 3
_SPANS, _SPAN_FRAMES = 6, 6
"""Stretches of the clip in which given poses are compared with the images, and their length."""


class RgbdSettings(Block):
    """Depth that comes with the video (npz)."""

    pose: Literal["auto", "given", "sfm", "static"] = Field(
        "auto", description="auto: extrinsics in the file if there, else static if the camera does not move, else sfm"
    )


class RgbdDepth(Backend):
    """The backend; see the module."""

    name: ClassVar[str] = "rgbd"
    settings_model: ClassVar[type[RgbdSettings]] = RgbdSettings
    row_file: ClassVar[str | None] = "depth"
    version: ClassVar[int] = 1
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1,)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter

    def __init__(self, settings: DepthSettings, *, root: Path) -> None:
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """How poses are found, and the settings of `sfm` that this uses."""
        sfm = self._settings.of(SfmSettings).model_dump(mode="json", include={"features", "static_px"})
        return {"rgbd": self._settings.of(RgbdSettings).model_dump(mode="json"), "sfm": sfm}

    def load(self, device: Device) -> None:
        """Takes the device's threads for following corners."""
        cv2.setNumThreads(device.threads)

    def close(self) -> None:
        """Nothing is held between videos."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`.

        Raises:
            BadInput: no_depth_file, depth_file, and depth_ with frames, view, unit, empty, intrinsics or extrinsics.
        """
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        if inputs.video.depth is None:
            remedy = "Name an npz in the table's column depth, or use another depth.backend for this video (overrides)."
            raise BadInput("no_depth_file", f"{inputs.video.id} has no depth file, which depth.backend rgbd reads", remedy)
        clip = inputs.clip
        with DepthFile(inputs.video.depth) as file:
            sensor = SensorDepth(file, clip, Path(inputs.video.path), lambda: progress(0, _PASSES * len(clip)))
            return _RgbdClip(clip, sensor, out, self._settings, progress).run()


class _RgbdClip:
    """One clip on its way."""

    def __init__(self, clip: Clip, sensor: SensorDepth, out: DepthWriter, settings: DepthSettings, progress: Progress) -> None:
        self.clip, self.sensor, self.out, self.settings, self.report = clip, sensor, out, settings, progress
        self.frames = len(clip)
        # the sensor's own intrinsics belong to its depth; a calibration of the video stands in for them
        camera: tuple[Float, Intrinsics] | None = clip.known_camera() if sensor.K is None else (sensor.K, "given")
        if camera is None:
            text = "the depth file has no intrinsics and the video no calibration"
            remedy = "Add intrinsics to the npz, or name a calibration in the table's column calib."
            raise BadInput("depth_intrinsics", text, remedy)
        self.K, self.intrinsics = camera

    def run(self) -> Quality:
        path = self.path()
        share = write_frames(
            self.out,
            self.sensor.__getitem__,
            path,
            segment=self.settings.segment_s * self.clip.fps,
            report=lambda done: self.report(2 * self.frames + done, _PASSES * self.frames),
        )
        if share == 0:
            # Only now: depth is read frame by frame, and all of it has been written.
            text = "no pixel of the depth file is a positive number within the clip's view"
            raise BadInput("depth_empty", text, "Give depths in metres; 0 and NaN mean unknown.")
        figures = path.figures | {"valid_share": share, "registered_share": float(path.valid.mean())}
        return finish_depth(self.out, path, path.notes, backend="rgbd", tier="A", scale="metric", figures=figures)

    def path(self) -> CameraPath:
        """Camera poses as ``depth.rgbd.pose`` says."""
        wanted, given = self.settings.of(RgbdSettings).pose, self.sensor.T_camera_world
        if wanted == "given" and given is None:
            remedy = "Add extrinsics (T, 4, 4), world to camera, or set depth.rgbd.pose to auto."
            raise BadInput("depth_extrinsics", "depth.rgbd.pose is given, but the depth file has no extrinsics", remedy)
        if given is not None and wanted in ("auto", "given"):
            return self.given(given)
        # What "static" says goes into the notes: nothing has checked it.
        standing = CameraPath.standing(
            self.frames, self.K, self.intrinsics, "the camera is taken to stand still, as depth.rgbd.pose says"
        )
        if wanted == "static":
            return standing
        own = self.settings.of(SfmSettings)
        tracks = clip_features(self.clip, self.out, own.features, lambda k: self.report(k, _PASSES * self.frames))
        if wanted == "auto":
            return observe_camera(tracks, standing, [self.K], own, follow=lambda: self.followed(tracks))
        return self.followed(tracks)

    def given(self, T_camera_world: Float) -> CameraPath:
        """The extrinsics of the file, compared with the images."""
        valid = np.asarray(np.isfinite(T_camera_world).all((1, 2)))
        agreement = measure_agreement(self.spans(), self.sensor, self.K, T_camera_world)
        if agreement is not None and agreement.inverted:
            text = (
                f"with the extrinsics as given corners are {agreement.given_px:.1f} px off, inverted {agreement.inverted_px:.1f} px"
            )
            raise BadInput(
                "depth_extrinsics", f"{text}: they are camera to world", "Give world to camera: np.linalg.inv(extrinsics)."
            )
        notes = [] if valid.all() else [f"{int((~valid).sum())} of {self.frames} given poses are not finite, hence invalid"]
        if agreement is not None and agreement.wrong:
            notes.append(
                f"given poses and images disagree by {agreement.given_px:.1f} px (median): check their unit, axes and times"
            )
        figures = {} if agreement is None else {"extrinsics_px": agreement.given_px}
        # The artifact's poses are finite; which of them mean something is said by valid.
        T = np.where(valid[:, None, None], T_camera_world, np.eye(4))
        return CameraPath(T, valid, self.K, pose="given", intrinsics=self.intrinsics, notes=tuple(notes), figures=figures)

    def followed(self, tracks: FeatureTracks) -> CameraPath:
        """Poses found by placing every frame on the sensor's depth, in metres."""

        def follow() -> SavedArrays:
            T, valid = follow_on_depth(tracks, self.sensor, self.K, lambda k: self.report(self.frames + k, _PASSES * self.frames))
            return {"T_camera_world": T, "valid": valid}

        poses = kept(self.out, "poses", follow)
        note = f"camera followed on sensor depth: {int(poses['valid'].sum())} of {self.frames} frames placed"
        found = poses["T_camera_world"], poses["valid"]
        return CameraPath(*found, self.K, pose="sfm", intrinsics=self.intrinsics, notes=(note,))

    def spans(self) -> Iterator[tuple[int, FeatureTracks]]:
        # Short stretches: corners live through them, and whole clips need not be followed.
        length = min(_SPAN_FRAMES, self.frames)
        for first in np.unique(np.linspace(0, self.frames - length, _SPANS).astype(int)):
            span = GreyFrames(_Span(self.clip, int(first), length))
            wanted = self.settings.of(SfmSettings).features
            yield int(first), follow_features(span, wanted, lambda _: self.report(0, _PASSES * self.frames))


class _Span:
    """Some consecutive frames of a clip as if they were all of it."""

    def __init__(self, clip: Clip, first: int, length: int) -> None:
        self._clip, self._first, self._length = clip, first, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        return self._clip[self._first + frame]


BACKEND = RgbdDepth
