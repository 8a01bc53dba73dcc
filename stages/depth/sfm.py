"""sfm: depth, poses and focal length from the motion of the camera alone; where that cannot be observed, the plane prior says so.

Corners are followed through the clip, gates ask whether the camera moved enough to see depth, keyframes are mapped, and every
frame is triangulated against its neighbours. The unit is arbitrary, such that the median valid depth is 1. Tier C; D for the prior.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs, Progress, Quality
from stages.depth.motion.dense import DenseDepth, sampled_frames
from stages.depth.motion.features import FeatureTracks, features_of
from stages.depth.motion.gates import Motion, measure_motion, plausible_cameras
from stages.depth.motion.trajectory import NoTrajectory, Trajectory, solve_trajectory
from stages.depth.plane import Prior, plane_depth, rotations
from stages.depth.writing import write_frames
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.config import DepthSettings
from videolift.geometry import pinhole
from videolift.pool import Device

_PASSES = 3
"""Following, mapping, triangulating: equal parts of the progress shown."""


class SfmDepth:
    """The backend; see the module."""

    name: ClassVar[str] = "sfm"
    version: ClassVar[int] = 2
    env: ClassVar[str | None] = None
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1,)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter

    def __init__(self, settings: DepthSettings, *, root: Path) -> None:
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings of structure from motion, and the seed."""
        return {"seed": self._settings.seed, "sfm": self._settings.sfm.model_dump(mode="json")}

    def load(self, device: Device) -> None:
        """Takes the device's threads for optical flow; mapping uses one, so that equal work gives equal bytes."""
        cv2.setNumThreads(device.threads)

    def close(self) -> None:
        """Nothing is held between videos."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`. Never `BadInput`: what cannot be observed becomes a prior."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        return _Work(inputs.clip, out, self._settings, progress).run()


class _Work:
    """One clip on its way."""

    def __init__(self, clip: Clip, out: DepthWriter, settings: DepthSettings, progress: Progress) -> None:
        self.clip, self.out, self.settings, self.report = clip, out, settings, progress
        self.frames, self.size_px = len(clip), (clip.width, clip.height)
        given = clip.attrs.get("K_given")
        self.K_given = None if given is None else np.array(given, np.float64)

    def run(self) -> Quality:
        kept = self.out.load_part("trajectory")
        seen = Trajectory.from_arrays(kept) if kept is not None else self.observe()
        return self.write_prior(seen) if isinstance(seen, Prior) else self.write_measured(seen)

    def observe(self) -> Trajectory | Prior:
        """Poses from motion, or the prior where the gates refuse them."""
        own = self.settings.sfm
        K_guess = pinhole(own.focal_guess * max(self.size_px), *self.size_px) if self.K_given is None else self.K_given
        tracks = features_of(self.clip, self.out, own.features, lambda k: self.report(k, _PASSES * self.frames))
        cameras = plausible_cameras(*self.size_px, own) if self.K_given is None else [self.K_given]
        motion = measure_motion(tracks, cameras, own)
        kind = None if motion is None else motion.kind(own)
        if motion is None or kind != "moving":
            return _prior_of_motion(tracks, motion, K_guess, own.static_px)
        solved = solve_trajectory(
            tracks,
            self.size_px,
            K_guess,
            given=self.K_given is not None,
            rotation_px=motion.rotation_px,
            settings=own,
            seed=self.settings.seed or 0,
            folder=self.out.scratch(),
            progress=lambda: self.report(self.frames, _PASSES * self.frames),
        )
        if isinstance(solved, NoTrajectory):
            reasons = "the camera moves, but no reconstruction is believed, so depth is an assumed plane and poses are unknown"
            return Prior(_still(self.frames), np.zeros(self.frames, bool), K_guess, "sfm", (reasons, *solved.reasons))
        self.out.save_part("trajectory", **solved.to_arrays())
        return solved

    def write_measured(self, trajectory: Trajectory) -> Quality:
        dense = DenseDepth(self.clip, trajectory, self.settings.sfm.max_relative_sigma)
        unit = self.unit(dense)
        T_camera_world = trajectory.T_camera_world.copy()
        T_camera_world[:, :3, 3] /= unit
        share = self.append(lambda k: dense[k] / np.float32(unit), T_camera_world, trajectory.valid)
        figures = trajectory.figures | {"valid_share": share, "hfov_deg": _hfov_deg(trajectory.K, self.size_px)}
        self.out.put(K=trajectory.K)
        self.out.declare(backend="sfm", tier="C", scale="arbitrary", pose="sfm", intrinsics=trajectory.intrinsics, **figures)
        return Quality(self.frames, trajectory.notes, figures)

    def unit(self, dense: DenseDepth) -> float:
        """Median valid depth of the sampled frames, in the trajectory's unit."""
        kept = self.out.load_part("unit")
        if kept is not None:
            return float(kept["depth"])
        for k in sampled_frames(self.frames):
            dense.sample(k)
            self.written(0)
        unit = dense.sampled_median()
        self.out.save_part("unit", depth=unit)
        return unit

    def write_prior(self, prior: Prior) -> Quality:
        own = self.settings.sfm

        def depth(k: int) -> NDArray[np.float32]:
            R = prior.T_camera_world[k, :3, :3]
            return plane_depth(prior.K, self.size_px, R, pitch_deg=own.plane_pitch_deg, depth_m=own.plane_depth_m)

        self.append(depth, prior.T_camera_world, prior.valid)
        figures = {"valid_share": 0.0, "registered_share": float(prior.valid.mean()), "hfov_deg": _hfov_deg(prior.K, self.size_px)}
        intrinsics = "assumed" if self.K_given is None else "given"
        self.out.put(K=prior.K)
        self.out.declare(backend="sfm", tier="D", scale="assumed", pose=prior.pose, intrinsics=intrinsics, **figures)
        return Quality(self.frames, prior.notes, figures)

    def append(
        self, depth: Callable[[int], NDArray[np.float32]], T_camera_world: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> float:
        segment = self.settings.segment_s * self.clip.fps
        return write_frames(self.out, depth, T_camera_world, valid, segment=segment, report=self.written)

    def written(self, frames: int) -> None:
        self.report(2 * self.frames + frames, _PASSES * self.frames)


def _prior_of_motion(tracks: FeatureTracks, motion: Motion | None, K: NDArray[np.float64], static_px: float) -> Prior:
    """The prior of a camera that stands, only turns, or sees nothing to follow."""
    frames = len(tracks)
    if motion is None:
        text = "too few corners to follow (a blank or blurred view): whether the camera moves is unknown, depth is an assumed plane"
        return Prior(_still(frames), np.zeros(frames, bool), K, "sfm", (text,))
    if motion.motion_px < static_px:
        text = f"the camera stands still ({motion.motion_px:.2f} px in {motion.gap} frames): depth is an assumed plane"
        return Prior(_still(frames), np.ones(frames, bool), K, "static", (text,))
    K_turning = K.copy()
    K_turning[(0, 1), (0, 1)] *= motion.focal_px / K[0, 0]
    T_camera_world, valid = rotations(tracks, K_turning)
    text = f"the camera only turns ({motion.rotation_px:.2f} px are left after the best rotation): depth is an assumed plane"
    return Prior(T_camera_world, valid, K_turning, "rotation", (text,))


def _still(frames: int) -> NDArray[np.float64]:
    return np.tile(np.eye(4), (frames, 1, 1))


def _hfov_deg(K: NDArray[np.float64], size_px: tuple[int, int]) -> float:
    return float(np.degrees(2 * np.arctan(size_px[0] / 2 / K[0, 0])))


BACKEND = SfmDepth
