"""Metric depth by MoGe v2, frame by frame, with one field of view and a steady scale; the camera from its motion in the image.

For tripods, and for short clips in which a SLAM system cannot start. A camera that stands still has identity poses, one that moves
gets those of structure from motion, brought to metres by comparing its points with the depth. The model runs in its own interpreter
(`moge_worker`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.backend import Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import FeatureTracks, clip_features
from stages.depth.motion.gates import Motion
from stages.depth.motion.observing import observe_camera
from stages.depth.motion.trajectory import solve_trajectory
from stages.depth.sfm_settings import SfmSettings
from stages.depth.steady_scale import corner_ranges, depth_at_corners, log_factors, triangulate_corners
from stages.depth.writing import finish_depth
from stages.models.model_process import ModelBackend, ModelSettings, require_weights, torch_device, weights_identity
from stages.segments import SavedArrays, even_segments, resumable
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.config import Count, Positive
from videolift.geometry import Float, field_of_view_deg, focal_of_field_of_view, pinhole, transform
from videolift.pool import Device

MOGE_WORKER = Path(__file__).with_name("moge_worker.py")
_SAMPLES = 24
"""Frames whose field of view is estimated; the median is taken."""
_SEND = 32
"""Frames per call."""
_PASSES = 3
"""The model, following corners, writing: equal parts of the progress shown."""
Infer = Callable[[NDArray[np.uint8], float | None, int], dict[str, NDArray[Any]]]
"""The model: frames (n, H, W, 3), a fixed field of view or None, frames per forward pass."""


class MogeSettings(ModelSettings):
    """MoGe v2: metric depth per frame."""

    weights: str = Field("Ruicheng/moge-2-vitl-normal", description="a name in thirdparty/models.yaml, or a file of yours")
    hfov_deg: Positive | None = Field(None, description="fixed horizontal field of view; none takes the median of its estimates")
    resolution_level: int = Field(9, ge=0, le=9, description="0 fast to 9 fine, upstream's scale")
    batch_frames: Count = Field(8, description="frames per forward pass; halved on out of memory")
    checkout: str | None = Field(None, description="a checkout of yours instead of the installed one")
    utils3d: str | None = Field(None, description="likewise, of the utils3d that it imports")


class MogeDepth(ModelBackend):
    """The ``moge`` backend."""

    name: ClassVar[str] = "moge"
    settings_model: ClassVar[type[MogeSettings]] = MogeSettings
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "moge"
    packages: ClassVar[tuple[str, ...]] = ("pycolmap",)
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25, 0.125)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hash."""
        away = {"weights", "batch_frames", "python", "checkout", "utils3d"}
        own = self._settings.of(MogeSettings).model_dump(mode="json", exclude=away)
        poses = {"seed": self._settings.seed, "sfm": self._settings.of(SfmSettings).model_dump(mode="json")}
        return {**own, **poses, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """Repositories it runs from, and the user's own folder for each."""
        return {"MoGe": self._settings.of(MogeSettings).checkout, "utils3d": self._settings.of(MogeSettings).utils3d}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.of(MogeSettings).weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        (weights,) = require_weights(self._store, self.weights)
        paths = [str(self._store.checkout("moge", name, override)) for name, override in self.checkouts.items()]
        self._start(MOGE_WORKER, device, {"paths": paths, "weights": str(weights), "device": torch_device(device)})

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        return _MogeClip(self._infer, inputs.clip, out, self._settings, shrink, progress).run()

    def _infer(self, rgb: NDArray[np.uint8], hfov_deg: float | None, batch: int) -> dict[str, NDArray[Any]]:
        meta = {"hfov_deg": hfov_deg, "resolution_level": self._settings.of(MogeSettings).resolution_level, "batch_frames": batch}
        return self._call(meta, {"rgb": rgb})


class _MogeClip:
    """One clip on its way."""

    def __init__(
        self, infer: Infer, clip: Clip, out: DepthWriter, settings: DepthSettings, shrink: float, progress: Progress
    ) -> None:
        self.infer, self.clip, self.out, self.settings, self.report = infer, clip, out, settings, progress
        self.batch = max(1, round(settings.of(MogeSettings).batch_frames * shrink))
        self.frames, self.size_px = len(clip), (clip.width, clip.height)
        self.K, self.intrinsics = self._camera()
        self.hfov_deg = field_of_view_deg(self.K[0, 0], clip.width)

    def run(self) -> Quality:
        for _ in self.depth_segments():
            pass  # the model first: what comes after it needs all frames
        wanted = self.settings.of(SfmSettings).features
        tracks = clip_features(self.clip, self.out, wanted, lambda k: self.report(self.frames + k, _PASSES * self.frames))
        path = self.path(tracks)
        factors, metres = self.scale(tracks, path)
        path = path.in_unit(1.0 / metres)
        start = 0
        for depth in self.depth_segments():
            for first in range(0, len(depth), _SEND):
                images = depth[first : first + _SEND].astype(np.float32)
                part = slice(start + first, start + first + len(images))
                self.out.append_frames(images * factors[part, None, None], path.T_camera_world[part], path.valid[part])
                self.report(2 * self.frames + part.stop, _PASSES * self.frames)
            start += len(depth)
        figures = {"hfov_deg": self.hfov_deg, "flicker": float(np.std(np.log(factors))), "metres_per_unit": metres}
        return finish_depth(self.out, path, path.notes, backend="moge", tier="B", scale="metric", figures=figures)

    def _camera(self) -> tuple[Float, Literal["given", "estimated"]]:
        """One K for the video: given, fixed by the settings, or from the median of the model's estimates."""
        if "K_given" in self.clip.attrs:
            return np.array(self.clip.attrs["K_given"], np.float64), "given"
        hfov_deg = self.settings.of(MogeSettings).hfov_deg
        intrinsics: Literal["given", "estimated"] = "given"
        if hfov_deg is None:
            chosen = np.unique(np.linspace(0, self.frames - 1, min(_SAMPLES, self.frames)).round().astype(int))
            estimates = self.infer(np.stack([self.clip[int(k)] for k in chosen]), None, self.batch)["hfov_deg"]
            hfov_deg, intrinsics = float(np.median(estimates)), "estimated"
        # upstream's centre 0.5 W of pixel edges is (W - 1) / 2 of our pixel centres
        return pinhole(focal_of_field_of_view(hfov_deg, self.size_px[0]), *self.size_px), intrinsics

    def depth_segments(self) -> Iterator[NDArray[np.float16]]:
        """The model's own depth (n, H, W), segment by segment; computed once, then read from disk."""
        remaining = even_segments(self.frames, self.settings.segment_s * self.clip.fps)
        return (part["depth"] for part in resumable(self.out, "depth", remaining, self._infer_segment))

    def _infer_segment(self, start: int, end: int) -> SavedArrays:
        parts = []
        for first in range(start, end, _SEND):
            last = min(first + _SEND, end)
            parts.append(self.infer(self.clip[first:last], self.hfov_deg, self.batch)["depth"].astype(np.float16))
            self.report(last, _PASSES * self.frames)
        return {"depth": np.concatenate(parts)}

    def path(self, tracks: FeatureTracks) -> CameraPath:
        """How the camera moved, by the gates of structure from motion with the model's own K."""
        own, standing = self.settings.of(SfmSettings), CameraPath.standing(self.frames, self.K, self.intrinsics)

        def solve(motion: Motion) -> CameraPath:
            return solve_trajectory(
                tracks,
                self.size_px,
                standing,
                fixed=True,
                motion=motion,
                settings=own,
                seed=self.settings.seed or 0,
                folder=self.out.scratch(),
                progress=lambda: self.report(2 * self.frames, _PASSES * self.frames),
            )

        return observe_camera(tracks, standing, [self.K], own, solve=solve)

    def scale(self, tracks: FeatureTracks, path: CameraPath) -> tuple[Float, float]:
        """Factors of the frames' depth (T), and metres per unit of the poses."""
        if not path.valid.any():
            return np.ones(self.frames), 1.0
        points = triangulate_corners(tracks, path.T_camera_world, path.valid, self.K) if path.pose == "sfm" else None
        frame, corner, value = [], [], []
        for k, depth in enumerate(image for segment in self.depth_segments() for image in segment):
            if path.valid[k]:
                ids, log_value = _log_values(tracks.frame(k), depth, path.T_camera_world[k], points, self.K)
                frame.append(np.full(len(ids), k))
                corner.append(ids if points is None else np.zeros(len(ids), np.int64))
                value.append(log_value)
        frames, corners, values = np.concatenate(frame), np.concatenate(corner), np.concatenate(value)
        factors = log_factors(frames, corners, values, self.frames)
        metres = float(np.exp(np.median(values + factors[frames]))) if points and len(values) else 1.0
        return np.exp(factors), metres


def _log_values(
    corners: tuple[NDArray[np.int32], NDArray[np.float32]],
    depth: NDArray[np.floating],
    T_camera_world: Float,
    points: dict[int, Float] | None,
    K: Float,
) -> tuple[NDArray[np.int32], Float]:
    """Ids (n) and logarithms (n) of what should not change: a corner's range, or its depth over its triangulated depth."""
    ids, uv = corners
    z = depth_at_corners(depth, uv)
    if points is None:
        value = corner_ranges(uv, z, K)
    else:
        known = np.array([points.get(int(i), (np.nan, np.nan, np.nan)) for i in ids]).reshape(-1, 3)
        value = z / transform(T_camera_world, known)[:, 2]
    good = np.isfinite(value) & (value > 0)
    return ids[good], np.log(value[good])


BACKEND = MogeDepth
