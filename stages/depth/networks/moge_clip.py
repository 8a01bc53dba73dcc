"""One clip through MoGe: metric depth of the frames it looks at, one field of view, a steady scale, the camera from its motion.

Which process runs the network, and on which device, is the backend's; frames between those that it looks at are carried over
(`carrying`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.backend import Progress, Quality
from stages.depth import DepthSettings
from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import FeatureTracks, clip_features
from stages.depth.motion.motion_gates import Motion
from stages.depth.motion.observing import observe_camera
from stages.depth.motion.trajectory import solve_trajectory
from stages.depth.networks.carrying import CarriedDepth, seen_frames
from stages.depth.networks.steady_scale import corner_ranges, depth_at_corners, log_factors, triangulate_corners
from stages.depth.sfm_settings import SfmSettings
from stages.depth.writing import finish_depth, write_frames
from stages.segments import SavedArrays, even_segments, kept, resumable
from videolift.artifacts import Clip, DepthWriter
from videolift.artifacts.depth import Intrinsics
from videolift.errors import BadInput
from videolift.geometry import Float, field_of_view_deg, focal_of_field_of_view, pinhole, transform

_SEND = 32
"""Frames per call, at most."""
_MAX_FLICKER = 0.5
"""Standard deviation of the logarithms of the frames' factors. The tests' is 0.05; random weights gave 2.5 on a moving camera."""
_PASSES = 3
"""The model, following corners, writing: equal parts of the progress shown."""
MogeInfer = Callable[[NDArray[np.uint8], float | None, Progress], dict[str, NDArray[Any]]]
"""The model: frames (n, H, W, 3), a fixed field of view or None, and what it tells of every frame that is done: on a processor one
takes 12 s and more, so a call of many without a word counts as a hang."""


@dataclass(frozen=True)
class MogeUse:
    """How a backend uses MoGe.

    Attributes:
        backend: its name.
        hfov_deg: a fixed field of view; None takes the median of the model's estimates.
        fov_frames: frames on which the model estimates it.
        every: the model looks at every N-th frame.
        method: word for the file where the backend has several.
    """

    backend: str
    hfov_deg: float | None
    fov_frames: int = 24
    every: int = 1
    method: str | None = None


class MogeClip:
    """One clip on its way."""

    def __init__(
        self, infer: MogeInfer, clip: Clip, out: DepthWriter, settings: DepthSettings, use: MogeUse, progress: Progress
    ) -> None:
        self.infer, self.clip, self.out, self.settings, self.use, self.report = infer, clip, out, settings, use, progress
        self.frames, self.size_px = len(clip), (clip.width, clip.height)
        self.seen = seen_frames(self.frames, use.every)
        # One K for the video: known, fixed by the settings, or from the median of the model's estimates.
        known = clip.known_camera()
        if known is None:
            hfov_deg = use.hfov_deg
            how: Intrinsics = "given"
            if hfov_deg is None:

                def estimate() -> dict[str, ArrayLike]:
                    # Spread over the clip, since an estimate rests on what one frame happens to show.
                    chosen = np.unique(np.linspace(0, self.frames - 1, min(use.fov_frames, self.frames)).round().astype(int))
                    pictures = np.stack([clip[int(k)] for k in chosen])
                    estimates = self.infer(pictures, None, lambda done, total: progress(0, _PASSES * self.frames))["hfov_deg"]
                    return {"hfov_deg": np.median(estimates)}

                # Kept: on a card another estimate differs in its last bits, and depth that is saved already goes by the first.
                hfov_deg, how = float(kept(out, "hfov", estimate)["hfov_deg"]), "estimated"
            # upstream's centre 0.5 W of pixel edges is (W - 1) / 2 of our pixel centres
            self.K, self.intrinsics = pinhole(focal_of_field_of_view(hfov_deg, clip.width), *self.size_px), how
            own, fov = settings.of(SfmSettings), field_of_view_deg(self.K[0, 0], max(self.size_px))
            if how == "estimated" and not own.hfov_min_deg <= fov <= own.hfov_max_deg:
                text = f"MoGe estimates a field of view of {fov:.0f} degrees along the long side, plausible is"
                remedy = "Say which camera it is (columns camera or calib of the table), or set hfov_deg of the depth backend."
                raise BadInput("field_of_view", f"{text} {own.hfov_min_deg:g} to {own.hfov_max_deg:g}", remedy)
        else:
            self.K, self.intrinsics = known
        self.hfov_deg = field_of_view_deg(self.K[0, 0], clip.width)

    def run(self) -> Quality:
        """Writes the clip's depth.

        Raises:
            BadInput: ``no_depth``; the model masks every pixel out. ``unsteady_depth``; it sees another scene in every frame.
        """
        # a list, so that all of it is computed here: the scale needs every frame
        known = [bool((segment > 0).any()) for segment in self.depth_segments()]
        if not any(known):
            remedy = "Look at the video: MoGe masks sky and what it does not understand. If it is a good one, check the weights."
            raise BadInput("no_depth", f"MoGe gave no depth in any of the {len(self.seen)} frames it looked at", remedy)
        wanted = self.settings.of(SfmSettings).features
        tracks = clip_features(self.clip, self.out, wanted, lambda k: self.report(self.frames + k, _PASSES * self.frames))
        path = self.path(tracks)
        factors, metres = self.scale(tracks, path)
        flicker = float(np.std(np.log(factors[self.seen])))
        if flicker > _MAX_FLICKER:
            text = f"MoGe's depth of a frame is off from the others' by a factor of {np.exp(flicker):.1f}"
            remedy = "Look at the video: the network does not understand what it shows. If it is a good one, check the weights."
            raise BadInput("unsteady_depth", f"{text}, {np.exp(_MAX_FLICKER):.1f} is allowed", remedy)
        # Poses from motion have a unit of their own; depth has metres.
        path = path.in_unit(1.0 / metres)
        steady = (image.astype(np.float32) * np.float32(factors[k]) for k, image in self.seen_depth())
        carried = CarriedDepth(self.clip, path, self.seen, steady)
        share = write_frames(
            self.out,
            carried.__getitem__,
            path,
            segment=self.settings.segment_s * self.clip.fps,
            report=lambda done: self.report(2 * self.frames + done, _PASSES * self.frames),
        )
        figures = {
            "hfov_deg": self.hfov_deg,
            "flicker": flicker,
            "metres_per_unit": metres,
            "valid_share": share,
            "registered_share": float(path.valid.mean()),
        }
        return finish_depth(
            self.out,
            path,
            path.notes,
            backend=self.use.backend,
            tier="B",
            scale="metric",
            figures=figures,
            method=self.use.method,
        )

    def depth_segments(self) -> Iterator[NDArray[np.float16]]:
        """The model's own depth (n, H, W) of the frames it sees, segment by segment; computed once, then read from disk."""

        def infer_segment(start: int, end: int) -> SavedArrays:
            parts = []
            for first in range(start, end, _SEND):
                rows = self.seen[first : min(first + _SEND, end)]

                def report(done: int, total: int, rows: list[int] = rows) -> None:
                    self.report(rows[done - 1], _PASSES * self.frames)

                images = self.infer(np.stack([self.clip[k] for k in rows]), self.hfov_deg, report)["depth"]
                # The artifact stores float16 as well; in float32 an hour would take twice the disk.
                parts.append(images.astype(np.float16))
            return {"depth": np.concatenate(parts)}

        length = self.settings.segment_s * self.clip.fps / self.use.every
        remaining = even_segments(len(self.seen), length)
        return (part["depth"] for part in resumable(self.out, "depth", remaining, infer_segment))

    def seen_depth(self) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Frame and depth (H, W), one by one."""
        return zip(self.seen, (image for segment in self.depth_segments() for image in segment), strict=True)

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
        for k, depth in self.seen_depth():
            if path.valid[k]:
                ids, uv = tracks.frame(k)
                z = depth_at_corners(depth, uv)
                if points is None:
                    # a camera that stands or turns leaves a corner's distance as it is
                    steady = corner_ranges(uv, z, self.K)
                else:
                    # of one that moves, depth over triangulated depth is metres per unit, the same for all corners
                    known = np.array([points.get(int(i), (np.nan, np.nan, np.nan)) for i in ids]).reshape(-1, 3)
                    steady = z / transform(path.T_camera_world[k], known)[:, 2]
                good = np.isfinite(steady) & (steady > 0)
                frame.append(np.full(int(good.sum()), k))
                corner.append(ids[good] if points is None else np.zeros(int(good.sum()), np.int64))
                value.append(np.log(steady[good]))
        if not frame:
            return np.ones(self.frames), 1.0
        frames, corners, values = np.concatenate(frame), np.concatenate(corner), np.concatenate(value)
        factors = log_factors(frames, corners, values, self.frames)
        # After the factors: a frame that flickers must not count with its own error.
        metres = float(np.exp(np.median(values + factors[frames]))) if points and len(values) else 1.0
        return np.exp(factors), metres
