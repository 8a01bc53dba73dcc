"""sfm: depth, poses and focal length from the motion of the camera alone; where that cannot be observed, the plane prior says so.

Corners are followed through the clip, gates ask whether the camera moved enough to see depth, keyframes are mapped, and every
frame is triangulated against its neighbours. The unit is arbitrary, such that the median valid depth is 1. Tier C; D for the prior.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.backend import Backend, Inputs, Progress, Quality
from stages.depth import DepthSettings
from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.dense import DenseDepth, sampled_frames
from stages.depth.motion.features import clip_features
from stages.depth.motion.motion_gates import Motion, plausible_cameras
from stages.depth.motion.observing import observe_camera
from stages.depth.motion.trajectory import solve_trajectory
from stages.depth.plane import plane_depth
from stages.depth.sfm_settings import SfmSettings
from stages.depth.writing import finish_depth, write_frames
from stages.segments import kept
from videolift.artifacts import ArtifactWriter, Clip, DepthWriter
from videolift.errors import BadInput
from videolift.geometry import field_of_view_deg, pinhole
from videolift.inputs.focal_curves import FocalCurve
from videolift.inputs.framing import Framing
from videolift.pool import Device

_PASSES = 3
"""Following, mapping, triangulating: equal parts of the progress shown."""


class SfmDepth(Backend):
    """The backend; see the module."""

    name: ClassVar[str] = "sfm"
    settings_model: ClassVar[type[SfmSettings]] = SfmSettings
    presets: ClassVar[tuple[str, ...]] = ("cpu",)
    version: ClassVar[int] = 4
    env: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ("pycolmap",)
    device: ClassVar[Literal["cpu", "cuda"]] = "cpu"
    deterministic: ClassVar[bool] = True
    shrinks: ClassVar[tuple[float, ...]] = (1,)
    writer: ClassVar[type[ArtifactWriter]] = DepthWriter

    def __init__(self, settings: DepthSettings, *, root: Path) -> None:
        self._settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings of structure from motion, and the seed."""
        return {"seed": self._settings.seed, "sfm": self._settings.of(SfmSettings).model_dump(mode="json")}

    def load(self, device: Device) -> None:
        """Takes the device's threads for optical flow; mapping uses one, so that equal work gives equal bytes."""
        cv2.setNumThreads(device.threads)

    def close(self) -> None:
        """Nothing is held between videos."""

    def process(self, inputs: Inputs, out: ArtifactWriter, *, shrink: float, progress: Progress) -> Quality:
        """Works on one video; see `stages.backend.Backend.process`. What cannot be observed becomes a prior."""
        assert inputs.clip is not None
        assert isinstance(out, DepthWriter)
        work = SfmClip(inputs.clip, out, self._settings, progress)
        path = CameraPath.from_arrays(kept(out, "camera", lambda: work.observe().to_arrays()))
        return work.write_plane(path) if path.scene_depth is None else work.write_measured(path)


class SfmClip:
    """One clip on its way: `observe` its camera, then write what that shows of depth, or the plane."""

    def __init__(self, clip: Clip, out: DepthWriter, settings: DepthSettings, progress: Progress) -> None:
        self.clip, self.out, self.settings, self.report = clip, out, settings, progress
        self.frames, self.size_px = len(clip), (clip.width, clip.height)
        self.segment = settings.segment_s * clip.fps

    def observe(self) -> CameraPath:
        """Poses as far as motion shows them.

        Raises:
            BadInput: ``other_camera``; a shot that was filmed with another focal length than the others of its video.
        """
        own, known = self.settings.of(SfmSettings), self.clip.known_camera()
        guess = pinhole(own.focal_guess * max(self.size_px), *self.size_px)
        K, intrinsics = known or (guess, "assumed")
        # Without a known lens several are tried: taken for a short lens, a long one that turns seems to move.
        cameras = plausible_cameras(*self.size_px, own) if known is None else [K]
        standing = CameraPath.standing(self.frames, K, intrinsics)
        # A cut may change the camera or its zoom, so what other shots showed of K is asked of this one as well.
        is_shot = self.clip.cut_from[1] > self.frames
        tracks = clip_features(self.clip, self.out, own.features, lambda k: self.report(k, _PASSES * self.frames))

        def follow(motion: Motion, start: CameraPath, *, fixed: bool) -> CameraPath:
            return solve_trajectory(
                tracks,
                self.size_px,
                start,
                fixed=fixed,
                motion=motion,
                settings=own,
                seed=self.settings.seed or 0,
                folder=self.out.scratch(),
                progress=lambda: self.report(self.frames, _PASSES * self.frames),
                picture_px=Framing.from_attrs(self.clip.attrs).resized_px,
            )

        def solve(motion: Motion) -> CameraPath:
            if is_shot and intrinsics == "estimated":
                alone = follow(motion, CameraPath.standing(self.frames, guess, "assumed"), fixed=False)
                curve = FocalCurve.from_figures(alone.figures)
                if curve is not None and curve.contradicts(K[0, 0]):
                    text = f"its motion shows a focal length of {curve.focal_px:.0f} px, other shots one of {K[0, 0]:.0f} px"
                    remedy = "List this part of the video by itself (start and end in the table)."
                    raise BadInput("other_camera", f"{text}: another camera or zoom", remedy)
            return follow(motion, standing, fixed=known is not None)

        return observe_camera(tracks, standing, cameras, own, solve=solve)

    def write_measured(self, path: CameraPath, *, backend: str = "sfm", method: str | None = None) -> Quality:
        """Triangulated depth, in the unit in which its median is 1."""
        dense = DenseDepth(self.clip, path, self.settings.of(SfmSettings).max_relative_sigma)

        def median_depth() -> float:
            for k in sampled_frames(self.frames):
                dense.sample(k)
                self._report_written(0)
            return dense.sampled_median()

        # Kept: after a kill the frames left must be in the unit of those that are written.
        unit = float(kept(self.out, "unit", lambda: {"depth": median_depth()})["depth"])
        path = path.in_unit(unit)
        share = write_frames(
            self.out, lambda k: dense[k] / np.float32(unit), path, segment=self.segment, report=self._report_written
        )
        # The field of view is reported along the width, by which lenses are sold.
        figures = path.figures | {"valid_share": share, "hfov_deg": field_of_view_deg(path.K[0, 0], self.size_px[0])}
        return finish_depth(
            self.out, path, path.notes, backend=backend, tier="C", scale="arbitrary", figures=figures, method=method
        )

    def write_plane(self, path: CameraPath) -> Quality:
        """The assumed table, seen from the camera as far as its rotation is known."""
        own = self.settings.of(SfmSettings)

        def depth(k: int) -> NDArray[np.float32]:
            R = path.T_camera_world[k, :3, :3]
            return plane_depth(path.K, self.size_px, R, pitch_deg=own.plane_pitch_deg, depth_m=own.plane_depth_m)

        write_frames(self.out, depth, path, segment=self.segment, report=self._report_written)
        figures = path.figures | {
            "valid_share": 0.0,
            "registered_share": float(path.valid.mean()),
            "hfov_deg": field_of_view_deg(path.K[0, 0], self.size_px[0]),
        }
        # The first note says why depth could not be observed.
        notes = (f"{path.notes[0]}: depth is an assumed plane", *path.notes[1:])
        return finish_depth(self.out, path, notes, backend="sfm", tier="D", scale="assumed", figures=figures)

    def _report_written(self, frames: int) -> None:
        self.report(2 * self.frames + frames, _PASSES * self.frames)


BACKEND = SfmDepth
