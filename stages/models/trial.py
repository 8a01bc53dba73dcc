"""The chosen preset on a rendered clip, judged by the clip's truth: depth, camera, tracks and hands, each against a bound.

The first thing to run on a new machine with one's own weights. Turns a `Config` into lines of figures; what is wrong beyond its
bound fails. The rendered clip is no real video: passing shows that conventions, weights and machine are right, not how good a
model is on your data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.backend import Inputs
from stages.engine.worker import artifact_class
from stages.registry import make_backend
from stages.sample import Truth, render
from stages.sample.artifacts import write_truth_artifacts
from stages.settings import settings_for
from videolift.artifacts import SIDES, Clip, Depth, Hands, Tracks
from videolift.config import Config
from videolift.errors import ExitCode
from videolift.evaluation import depth_errors, focal_error, pose_errors
from videolift.geometry import rotation_angle
from videolift.inputs.catalog import Video
from videolift.pool import devices_for

CLIP, FRAMES = "orbit", 60


@dataclass(frozen=True)
class Figure:
    """One error and the most it may be."""

    name: str
    value: float
    bound: float
    unit: str

    @property
    def passes(self) -> bool:
        """False also where nothing could be compared."""
        return bool(np.isfinite(self.value)) and self.value <= self.bound

    def line(self) -> str:
        """For a terminal."""
        return f"{'ok     ' if self.passes else 'FAILED '}  {self.name:38} {self.value:8.4f} {self.unit:8} at most {self.bound:g}"


def try_out(config: Config) -> int:
    """Works on the clip with the preset's backends, prints the figures; exit code 0, or 1 if one is beyond its bound."""
    truth = render(CLIP, frames=FRAMES)
    with tempfile.TemporaryDirectory(prefix="videolift-trial-") as folder:
        figures = list(figures_of(config, truth, Path(folder)))
    print("\n".join(figure.line() for figure in figures))
    return int(ExitCode.OK if all(figure.passes for figure in figures) else ExitCode.LOST)


def figures_of(config: Config, truth: Truth, folder: Path) -> Iterator[Figure]:
    """Errors of each stage on ``truth``; tracks and hands read the depth that was just made, as in a run."""
    write_truth_artifacts(folder, "clip", truth)
    blocks = settings_for(config, Video("clip", f"{folder}/clip.mp4"))
    found: dict[str, Any] = {"clip": Clip(folder / "frames" / "clip.h5")}
    for stage in ("depth", "tracks", "hands"):
        if blocks[stage].backend != "none":
            found[stage] = _work(stage, blocks[stage], folder, {name: found.get(name) for name in ("clip", "depth")})
    scale = 1.0
    if "depth" in found:
        # An arbitrary unit is brought to metres once, by depth; tracks are then judged in the same unit.
        scale = depth_errors(found["depth"][:], truth.depth_m, align=True).scale if found["depth"].scale == "arbitrary" else 1.0
        yield from depth_figures(found["depth"], truth)
    if "tracks" in found:
        yield track_figure(found["tracks"], truth, scale)
    if "hands" in found:
        # Without metric depth a wrist rests on the model's own hand size, about 10 % off.
        metric = "depth" in found and found["depth"].scale == "metric"
        yield from hand_figures(found["hands"], truth, metric=metric)


def _work(stage: str, block: Any, folder: Path, inputs: dict[str, Any]) -> Any:
    backend = make_backend(stage, block)
    out = backend.writer(folder / f"{stage}.h5")
    print(f"{stage}: {backend.name} ...", flush=True)
    try:
        backend.load(devices_for(backend.device)[0])
        given = {name: part for name, part in inputs.items() if part is not None}
        backend.process(Inputs(Video("clip", f"{folder}/clip.mp4"), **given), out, shrink=1.0, progress=lambda done, total: None)
        return artifact_class(stage)(out.publish().path)
    finally:
        backend.close()
        out.discard()


def depth_figures(depth: Depth, truth: Truth) -> Iterator[Figure]:
    """Depth, focal length and camera path; each aligned by one factor where the scale is arbitrary."""
    free = depth.scale == "arbitrary"
    errors = depth_errors(depth[:], truth.depth_m, align=free)
    poses = pose_errors(depth.T_camera_world, truth.T_camera_world, scale_known=not free)
    centres = np.linalg.inv(truth.T_camera_world)[:, :3, 3]
    path_m = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    how = "aligned" if free else "in metres"
    yield Figure(f"depth, AbsRel, {how}", errors.abs_rel, 0.20, "")
    yield Figure("focal length", abs(focal_error(depth.K, truth.K)), 0.20, "")
    yield Figure(f"camera path, ATE, {how}", poses.ate / path_m, 0.05, "of path")


def track_figure(tracks: Tracks, truth: Truth, scale: float) -> Figure:
    """Median distance, over visible points of every tenth window, between tracked and true points; ``scale`` makes metres."""
    off = []
    for number in range(0, len(tracks), 10):
        window = tracks[number]
        length = min(window.frames_tracked, tracks.attrs["window_length"])
        xyz, _, seen = truth.tracks(window.start, window.uv_px[0].astype(np.float64), length)
        both = seen & window.visible[:length] & window.valid3d[:length]
        off.append(np.linalg.norm(scale * window.xyz_cam0[:length] - xyz, axis=-1)[both])
    errors = np.concatenate(off) if off else np.zeros(0)
    return Figure("tracks, median distance", float(np.median(errors)) if len(errors) else float("nan"), 0.05, "m")


def hand_figures(hands: Hands, truth: Truth, *, metric: bool) -> Iterator[Figure]:
    """Share of frames without the hand, and the wrist's median distance and turn; without metric depth distance is rough."""
    side = SIDES.index(truth.side)
    valid = hands.valid[:, side]
    yield Figure("hand not found", float(1 - valid.mean()), 0.3, "")
    if not valid.any():
        return
    T, true = hands.T_camera_wrist[valid, side], truth.T_camera_wrist[valid]
    off_m = float(np.median(np.linalg.norm(T[:, :3, 3] - true[:, :3, 3], axis=1)))
    yield Figure("wrist, median distance", off_m, 0.04 if metric else 0.15, "m")
    yield Figure("wrist, median turn", float(np.degrees(np.median(rotation_angle(T[:, :3, :3], true[:, :3, :3])))), 30.0, "degrees")
