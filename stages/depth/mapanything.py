"""Metric depth and camera by MapAnything: the clip in overlapping stretches through one network, joined into one world.

Code and the default weights are free for commercial use, and nothing is compiled. All frames of a stretch are seen together; the
first stretch's camera is kept for the video. The model runs in its own interpreter (`mapanything_worker`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.motion.camera_path import CameraPath
from stages.depth.networks.joining import DepthStretch, StretchWalk, stretches
from stages.depth.writing import finish_depth
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.segments import SavedArrays, resumable
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.config import Count
from videolift.errors import BadInput
from videolift.geometry import Float, field_of_view_deg, invert_pose
from videolift.pool import Device

MAPANYTHING_WORKER = Path(__file__).with_name("mapanything_worker.py")
MapAnythingCall = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]], Progress], dict[str, NDArray[Any]]]
"""The model; see `stages.models.model_process.ModelBackend._call`."""


class MapAnythingSettings(ModelSettings):
    """MapAnything: metric depth and camera pose, code and weights Apache-2.0."""

    weights: str = Field("facebook/map-anything-apache", description="a name in thirdparty/models.yaml, or a folder of yours")
    stretch_frames: Count = Field(100, ge=60, description="frames seen together; halved on out of memory, at least 60")
    side_px: Count = Field(518, description="longer side of the frames in the network")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")


class MapAnythingDepth(ModelBackend):
    """The ``mapanything`` backend."""

    name: ClassVar[str] = "mapanything"
    settings_model: ClassVar[type[MapAnythingSettings]] = MapAnythingSettings
    presets: ClassVar[tuple[str, ...]] = ("permissive",)
    version: ClassVar[int] = 1
    env: ClassVar[str | None] = "mapanything"
    device: ClassVar[Literal["cpu", "cuda", "any"]] = "any"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5)
    """Shorter stretches: the same video, joined more often."""
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hash."""
        own = self._settings.of(MapAnythingSettings).model_dump(mode="json", exclude={"weights", "python", "checkout"})
        return {**own, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """Repositories it runs from, and the user's own folder for the first."""
        return {"map-anything": self._settings.of(MapAnythingSettings).checkout, "UniCeption": None, "dinov2": None}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.of(MapAnythingSettings).weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        (weights,) = require_weights(self._store, self.weights)
        # In the order of `checkouts`.
        upstream, uniception, dinov2 = (str(self._store.checkout(self.name, *named)) for named in self.checkouts.items())
        meta = {"paths": [upstream, uniception], "dinov2": dinov2, "weights": str(weights), "device": torch_device(device)}
        self._start(MAPANYTHING_WORKER, device, meta)

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works through the clip stretch by stretch; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        made = _MapAnythingClip(self._call, inputs.clip, out, self._settings.of(MapAnythingSettings), shrink, progress).run()
        return replace(made, checks=(*self.notes, *made.checks))


class _MapAnythingClip:
    """One clip on its way."""

    def __init__(
        self, infer: MapAnythingCall, clip: Clip, out: DepthWriter, settings: MapAnythingSettings, shrink: float, progress: Progress
    ) -> None:
        self.infer, self.clip, self.out, self.settings, self.progress = infer, clip, out, settings, progress
        self.length = round(settings.stretch_frames * shrink)
        self.walk = StretchWalk(out, len(clip), self._estimate)

    def run(self) -> Quality:
        def remaining(done: int) -> list[tuple[int, int]]:
            return stretches(len(self.clip), self.length, self.settings.stretch_frames, done=done)

        def estimate(start: int, end: int) -> SavedArrays:
            stretch = self.walk.joined(start, end)
            self.out.append_frames(stretch.depth, invert_pose(stretch.T_world_camera), np.ones(len(stretch.depth), bool))
            # Counted here: the artifact is not read again for two numbers.
            counts = np.array([(stretch.depth > 0).sum(), stretch.depth.size], np.int64)
            return {"T_world_camera": stretch.T_world_camera, "K": stretch.K, "counts": counts}

        parts = list(resumable(self.out, "stretch", remaining, estimate, commits=True))
        if not any(part["counts"][0] for part in parts):
            raise BadInput("no_depth", "MapAnything gave no depth in any frame", "For this video set depth: {backend: moge}.")
        # The first stretch's camera is the video's: later ones were given it.
        T_world_camera, K = np.concatenate([part["T_world_camera"] for part in parts]), parts[0]["K"]
        known, pixels = np.sum([part["counts"] for part in parts], axis=0)
        camera = self.clip.known_camera()
        intrinsics = "estimated" if camera is None else camera[1]
        path = CameraPath(invert_pose(T_world_camera), np.ones(len(self.clip), bool), K, pose="slam", intrinsics=intrinsics)
        figures = {
            "hfov_deg": field_of_view_deg(K[0, 0], self.clip.width),
            "depth_known": float(known / pixels),
            "stretches": float(len(parts)),
        }
        return finish_depth(self.out, path, (), backend="mapanything", tier="B", scale="metric", figures=figures)

    def _estimate(self, start: int, end: int, before: DepthStretch | None) -> DepthStretch:
        """Frames [start, end) in a world of their own; with the camera of those before, if any."""
        known = self.clip.known_camera()
        # A stretch with another focal length could not be joined by poses and one scale.
        given = before.K.tolist() if before is not None else None if known is None else known[0].tolist()

        def report(done: int, of: int) -> None:
            # Counts layers of the network: a sign of life, no progress, since all frames are done at once at the end.
            self.progress(start, len(self.clip))

        reply = self.infer({"K": given, "side_px": self.settings.side_px}, {"rgb": self.clip[start:end]}, report)
        self.progress(end, len(self.clip))
        K = np.array(given, np.float64) if given is not None else median_camera(reply["intrinsics"], self.clip.width)
        return DepthStretch(reply["depth"].astype(np.float32), reply["T_world_camera"].astype(np.float64), K)


def median_camera(intrinsics: NDArray[np.floating], width_px: int) -> Float:
    """K (3, 3) of a video from the cameras (n, 4) [fx, fy, cx, cy] found frame by frame.

    Raises:
        BadInput: it is no camera.
    """
    fx, fy, cx, cy = np.median(intrinsics, axis=0)
    if not (np.isfinite([fx, fy, cx, cy]).all() and min(fx, fy) > 0.1 * width_px):
        text = f"MapAnything finds a camera with fx {fx:.0f}, fy {fy:.0f}, cx {cx:.0f}, cy {cy:.0f} pixels, which no camera has"
        raise BadInput("field_of_view", text, "Name a calibration in the table of videos, or set depth: {backend: moge} for it.")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


BACKEND = MapAnythingDepth
