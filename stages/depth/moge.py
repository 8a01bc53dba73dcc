"""Metric depth by MoGe v2, frame by frame, with one field of view and a steady scale; the camera from its motion in the image.

For tripods, and for short clips in which a SLAM system cannot start. A camera that stands still has identity poses, one that moves
gets those of structure from motion, brought to metres by comparing its points with the depth. The model runs in its own interpreter
(`moge_worker`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs, Progress, Quality
from stages.depth.motion.features import FeatureTracks, features_of
from stages.depth.motion.gates import measure_motion
from stages.depth.motion.trajectory import NoTrajectory, solve_trajectory
from stages.depth.plane import rotations
from stages.depth.steady_scale import log_factors, ranges, sample, triangulate
from stages.models.model_process import ModelBackend, require_weights, torch_device, weights_identity
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.config import DepthSettings
from videolift.geometry import pinhole, transform
from videolift.pool import Device
from videolift.store import atomic_file

WORKER = Path(__file__).with_name("moge_worker.py")
_SAMPLES = 24
"""Frames whose field of view is estimated; the median is taken."""
_SEND = 32
"""Frames per call."""


@dataclass(frozen=True)
class Path3d:
    """How the camera moved.

    Attributes:
        T_camera_world: (T, 4, 4); in metres only after `with_unit`.
        valid: (T).
        pose: static, rotation or sfm.
        notes: sentences for people.
    """

    T_camera_world: NDArray[np.float64]
    valid: NDArray[np.bool_]
    pose: Literal["static", "rotation", "sfm"]
    notes: tuple[str, ...]


class MogeDepth(ModelBackend):
    """The ``moge`` backend."""

    name: ClassVar[str] = "moge"
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = "moge"
    device: ClassVar[Literal["cpu", "cuda"]] = "cuda"
    deterministic: ClassVar[bool] = False
    shrinks: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25, 0.125)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter
    _settings: DepthSettings

    def identity(self) -> dict[str, Any]:
        """The settings that change a result, and the weights' hash."""
        away = {"weights", "batch_frames", "python", "checkout", "utils3d"}
        own = self._settings.moge.model_dump(mode="json", exclude=away)
        poses = {"seed": self._settings.seed, "sfm": self._settings.sfm.model_dump(mode="json")}
        return {**own, **poses, "weights": weights_identity(self._store, self.weights)}

    @property
    def checkouts(self) -> dict[str, str | None]:
        """Repositories it runs from, and the user's own folder for each."""
        return {"MoGe": self._settings.moge.checkout, "utils3d": self._settings.moge.utils3d}

    @property
    def weights(self) -> list[str]:
        """Names or paths of what it reads."""
        return [self._settings.moge.weights]

    def load(self, device: Device) -> None:
        """Starts the model; see `stages.backend.Backend.load`."""
        (weights,) = require_weights(self._store, self.weights)
        paths = [str(self._store.checkout("moge", name, override)) for name, override in self.checkouts.items()]
        self._start(WORKER, device, {"paths": paths, "weights": str(weights), "device": torch_device(device)})

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        return _Work(self._infer, inputs.clip, out, self._settings, shrink, progress).run()

    def _infer(self, rgb: NDArray[np.uint8], hfov_deg: float | None, batch: int) -> dict[str, NDArray[Any]]:
        meta = {"hfov_deg": hfov_deg, "resolution_level": self._settings.moge.resolution_level, "batch_frames": batch}
        return self._call(meta, {"rgb": rgb})


class _Work:
    """One clip on its way."""

    def __init__(
        self, infer: Any, clip: Clip, out: DepthWriter, settings: DepthSettings, shrink: float, progress: Progress
    ) -> None:
        self.infer, self.clip, self.out, self.settings, self.report = infer, clip, out, settings, progress
        self.batch = max(1, round(settings.moge.batch_frames * shrink))
        self.frames, self.size_px = len(clip), (clip.width, clip.height)
        self.folder = (out.segments or out.scratch()) / "moge"

    def run(self) -> Quality:
        K, intrinsics = self.camera()
        bounds = list(segments(self.frames, self.settings.segment_s * self.clip.fps))
        for start, end in bounds:
            self.infer_segment(start, end, K)
        wanted = self.settings.sfm.features
        tracks = features_of(self.clip, self.out, wanted, lambda k: self.report(self.frames + k, 3 * self.frames))
        path = self.path(tracks, K)
        factors, metres = self.scale(tracks, path, K)
        E = path.T_camera_world.copy()
        E[:, :3, 3] *= metres
        for start, end in bounds:
            for first in range(start, end, _SEND):
                part = slice(first, min(first + _SEND, end))
                depth = self.depth(start)[first - start : part.stop - start].astype(np.float32) * factors[part, None, None]
                self.out.append_frames(depth, E[part], path.valid[part])
                self.report(2 * self.frames + part.stop, 3 * self.frames)
        figures = {"hfov_deg": hfov_of(K, self.size_px[0]), "flicker": float(np.std(np.log(factors))), "metres_per_unit": metres}
        self.out.put(K=K)
        self.out.declare(backend="moge", tier="B", scale="metric", pose=path.pose, intrinsics=intrinsics, **figures)
        return Quality(self.frames, path.notes, figures)

    def camera(self) -> tuple[NDArray[np.float64], Literal["given", "estimated"]]:
        """One K for the video: given, fixed by the settings, or from the median of the model's estimates."""
        if "K_given" in self.clip.attrs:
            return np.array(self.clip.attrs["K_given"], np.float64), "given"
        fixed = self.settings.moge.hfov_deg
        if fixed is not None:
            return camera_of(fixed, self.size_px), "given"
        chosen = np.unique(np.linspace(0, self.frames - 1, min(_SAMPLES, self.frames)).round().astype(int))
        estimates = self.infer(np.stack([self.clip[int(k)] for k in chosen]), None, self.batch)["hfov_deg"]
        return camera_of(float(np.median(estimates)), self.size_px), "estimated"

    def infer_segment(self, start: int, end: int, K: NDArray[np.float64]) -> None:
        """Depth of a segment, kept across a kill."""
        place = self._place(start)
        if place.exists():
            return
        parts = []
        for first in range(start, end, _SEND):
            last = min(first + _SEND, end)
            parts.append(self.infer(self.clip[first:last], hfov_of(K, self.size_px[0]), self.batch)["depth"].astype(np.float16))
            self.report(last, 3 * self.frames)
        with atomic_file(place) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(parts))

    def depth(self, start: int) -> NDArray[np.float16]:
        """Depth (n, H, W) of the segment that begins at ``start``, not read until it is used."""
        depth: NDArray[np.float16] = np.load(self._place(start), mmap_mode="r")
        return depth

    def _place(self, start: int) -> Path:
        return self.folder / f"{start:09d}.npy"

    def path(self, tracks: FeatureTracks, K: NDArray[np.float64]) -> Path3d:
        """How the camera moved, by the gates of structure from motion with the model's own K."""
        still = np.tile(np.eye(4), (self.frames, 1, 1))
        motion = measure_motion(tracks, [K], self.settings.sfm)
        if motion is None:
            return Path3d(still, np.zeros(self.frames, bool), "sfm", ("too few corners to follow: poses are unknown",))
        kind = motion.kind(self.settings.sfm)
        if kind == "static":
            return Path3d(still, np.ones(self.frames, bool), "static", ())
        if kind == "rotation":
            return Path3d(*rotations(tracks, K), "rotation", ("the camera only turns",))
        found = solve_trajectory(
            tracks,
            self.size_px,
            K,
            given=True,
            rotation_px=motion.rotation_px,
            settings=self.settings.sfm,
            seed=self.settings.seed or 0,
            folder=self.out.scratch(),
            progress=lambda: self.report(2 * self.frames, 3 * self.frames),
        )
        if isinstance(found, NoTrajectory):
            note = "the camera moves, but no reconstruction is believed: depth is kept, poses are unknown"
            return Path3d(still, np.zeros(self.frames, bool), "sfm", (note, *found.reasons))
        return Path3d(found.T_camera_world, found.valid, "sfm", found.notes)

    def scale(self, tracks: FeatureTracks, path: Path3d, K: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Factors of the frames' depth (T), and metres per unit of the poses."""
        if not path.valid.any():
            return np.ones(self.frames), 1.0
        points = triangulate(tracks, path.T_camera_world, path.valid, K) if path.pose == "sfm" else None
        frame, corner, value = [], [], []
        for start, end in segments(self.frames, self.settings.segment_s * self.clip.fps):
            depth = self.depth(start)
            for k in range(start, end):
                if path.valid[k]:
                    ids, log_value = _log_values(tracks.frame(k), depth[k - start], path.T_camera_world[k], points, K)
                    frame.append(np.full(len(ids), k))
                    corner.append(ids if points is None else np.zeros(len(ids), np.int64))
                    value.append(log_value)
        frames, corners, values = np.concatenate(frame), np.concatenate(corner), np.concatenate(value)
        factors = log_factors(frames, corners, values, self.frames)
        metres = float(np.exp(np.median(values + factors[frames]))) if points and len(values) else 1.0
        return np.exp(factors), metres


def _log_values(
    seen: tuple[NDArray[np.int32], NDArray[np.float32]],
    depth: NDArray[np.floating],
    T_camera_world: NDArray[np.float64],
    points: dict[int, NDArray[np.float64]] | None,
    K: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Ids (n) and logarithms (n) of what should not change: a corner's range, or its depth over its triangulated depth."""
    ids, uv = seen
    z = sample(depth, uv)
    if points is None:
        value = ranges(uv, z, K)
    else:
        known = np.array([points.get(int(i), (np.nan, np.nan, np.nan)) for i in ids]).reshape(-1, 3)
        value = z / transform(T_camera_world, known)[:, 2]
    good = np.isfinite(value) & (value > 0)
    return ids[good], np.log(value[good])


def segments(frames: int, length: float) -> Iterator[tuple[int, int]]:
    """(start, end) of stretches of about ``length`` frames that cover a clip."""
    step = max(1, round(length))
    return ((start, min(start + step, frames)) for start in range(0, frames, step))


def camera_of(hfov_deg: float, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """K (3, 3) of a horizontal field of view; upstream's centre 0.5 W of pixel edges is (W - 1) / 2 of our pixel centres."""
    return np.asarray(pinhole(size_px[0] / 2 / float(np.tan(np.radians(hfov_deg) / 2)), *size_px))


def hfov_of(K: NDArray[np.float64], width_px: int) -> float:
    """The horizontal field of view, degrees, that the model is told."""
    return float(np.degrees(2 * np.arctan(width_px / 2 / K[0, 0])))


BACKEND = MogeDepth
