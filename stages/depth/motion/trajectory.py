"""The whole clip's camera: corners in, a pose per frame in one world and one unit out, or the reasons why there is none.

Keyframes are mapped (`mapping`), judged (`gates`), the frames between are placed (`resection`). A long clip is mapped in chunks:
the one with most motion settles the focal length, the others keep it, and each is joined to its neighbour by the corners both
mapped. Where a chunk is not believed or cannot be joined, the longest run of chunks stays and the rest has no pose.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.gates import refusal
from stages.depth.motion.keyframes import OVERLAP, choose_keyframes, split_into_chunks
from stages.depth.motion.mapping import MAPPERS, Mapper, Reconstruction, reconstruct
from stages.depth.motion.resection import place_frames
from stages.depth.motion.stretches import Stretch, longest_run
from videolift.artifacts.depth import Intrinsics
from videolift.config import SfmSettings
from videolift.geometry import transform

Array = NDArray[np.float64]
_CANDIDATES = 3
"""Chunks that may settle the focal length; a video that fails on all of them is given up."""


@dataclass(frozen=True)
class Trajectory:
    """The camera of every frame, in an arbitrary unit.

    Attributes:
        T_camera_world: float64 (T, 4, 4), identity where not valid.
        valid: bool (T).
        K: float64 (3, 3).
        scene_depth: float64 (T), median depth of the corners mapped and seen in the frame, NaN where not valid.
        intrinsics: given, estimated or assumed.
        figures: registered_share, reproj_px, points, keyframes, parallax_px, stretches, joined.
        notes: sentences for people.
    """

    T_camera_world: Array
    valid: NDArray[np.bool_]
    K: Array
    scene_depth: Array
    intrinsics: Intrinsics
    figures: dict[str, float]
    notes: tuple[str, ...]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """For `ArtifactWriter.save_part`."""
        about = json.dumps({"intrinsics": self.intrinsics, "figures": self.figures, "notes": self.notes})
        names = ("T_camera_world", "valid", "K", "scene_depth")
        return {name: getattr(self, name) for name in names} | {"about": np.array(about)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Trajectory:
        """Inverse of `to_arrays`."""
        about = json.loads(str(arrays["about"]))
        saved = {name: array for name, array in arrays.items() if name != "about"}
        return cls(**saved, intrinsics=about["intrinsics"], figures=about["figures"], notes=tuple(about["notes"]))


@dataclass(frozen=True)
class NoTrajectory:
    """Why no reconstruction is believed, one sentence per mapper that was tried."""

    reasons: tuple[str, ...]


@dataclass
class _Solver:
    """What every chunk of one clip is mapped with."""

    tracks: FeatureTracks
    size_px: tuple[int, int]
    rotation_px: float
    settings: SfmSettings
    seed: int
    folder: Path
    progress: Callable[[], None]
    reasons: list[str] = field(default_factory=list)

    def map_chunk(self, keyframes: Sequence[int], K: Array, mappers: Sequence[Mapper], *, fixed: bool) -> Reconstruction | None:
        """The first believed reconstruction; the reasons against the others are collected."""
        for mapper in mappers:
            self.progress()
            work = self.folder / f"{keyframes[0]:09d}-{mapper.split(',')[0]}-{int(fixed)}"
            work.mkdir(parents=True)
            model = reconstruct(self.tracks, keyframes, K, self.size_px, mapper, work, fixed_intrinsics=fixed, seed=self.seed)
            shutil.rmtree(work)
            why = "no model found" if model is None else refusal(model.figures, self.rotation_px, self.settings)
            if model is not None and why is None:
                return model
            self.reasons.append(f"frames {keyframes[0]} to {keyframes[-1]}, {mapper}: {why}")
        return None


def solve_trajectory(
    tracks: FeatureTracks,
    size_px: tuple[int, int],
    K_guess: Array,
    *,
    given: bool,
    rotation_px: float,
    settings: SfmSettings,
    seed: int,
    folder: Path,
    progress: Callable[[], None],
) -> Trajectory | NoTrajectory:
    """Solves for a moving camera (see the module).

    Args:
        tracks: corners of the clip.
        size_px: (W, H).
        K_guess: (3, 3), where the search starts.
        given: ``K_guess`` was measured and stays.
        rotation_px: of the clip's `gates.Motion`.
        settings: gates.
        seed: of the mappers.
        folder: for the mappers' files; emptied.
        progress: called before each mapper.
    """
    chunks = split_into_chunks(choose_keyframes(tracks))
    solver = _Solver(tracks, size_px, rotation_px, settings, seed, folder, progress)
    settled = _settle_intrinsics(solver, chunks, K_guess, given)
    if settled is None:
        return NoTrajectory(tuple(solver.reasons))
    first = settled.model
    models = [
        first if chunk is settled.keyframes else solver.map_chunk(chunk, first.K, MAPPERS[:2], fixed=True) for chunk in chunks
    ]
    mapped = [Stretch(chunk, model) for chunk, model in zip(chunks, models, strict=True) if model is not None]
    run = longest_run(mapped)
    intrinsics: Intrinsics = "given" if given else "assumed" if first.mapper == MAPPERS[-1] else "estimated"
    trajectory = _place(tracks, run, first.K, intrinsics, progress)
    figures = _figures(run, trajectory) | {"stretches": float(len(chunks)), "joined": float(len(run))}
    return replace(trajectory, figures=figures, notes=_notes(figures, trajectory, first, solver.reasons))


def _settle_intrinsics(solver: _Solver, chunks: list[list[int]], K_guess: Array, given: bool) -> Stretch | None:
    """The first believed model among the three chunks with most motion (the fewest frames for their keyframes)."""
    for chunk in sorted(chunks, key=lambda chunk: chunk[-1] - chunk[0])[:_CANDIDATES]:
        model = solver.map_chunk(chunk, K_guess, MAPPERS[:2] if given else MAPPERS, fixed=given)
        if model is not None:
            return Stretch(chunk, model)
    return None


def _place(tracks: FeatureTracks, run: list[Stretch], K: Array, intrinsics: Intrinsics, progress: Callable[[], None]) -> Trajectory:
    """Poses of all frames of a run; where two stretches overlap, each keeps its half."""
    frames = len(tracks)
    T_camera_world, valid = np.tile(np.eye(4), (frames, 1, 1)), np.zeros(frames, bool)
    scene_depth = np.full(frames, np.nan)
    starts = [run[0].keyframes[0], *(stretch.keyframes[OVERLAP // 2] for stretch in run[1:]), run[-1].keyframes[-1] + 1]
    for stretch, start, end in zip(run, starts[:-1], starts[1:], strict=True):
        progress()
        model = stretch.model
        mine = (model.frames >= start) & (model.frames < end)
        T_camera_world[model.frames[mine]], valid[model.frames[mine]] = model.T_camera_world[mine], True
        place_frames(tracks, range(start, end), T_camera_world, valid, model.point_ids, model.points_world, K)
        for k in range(start, end):
            if valid[k]:
                scene_depth[k] = _seen_depth(tracks, k, T_camera_world[k], model)
    valid &= np.isfinite(scene_depth)
    return Trajectory(T_camera_world, valid, K, scene_depth, intrinsics, {}, ())


def _seen_depth(tracks: FeatureTracks, frame: int, T_camera_world: Array, model: Reconstruction) -> float:
    seen = np.isin(model.point_ids, tracks.frame(frame)[0], assume_unique=True)
    z = transform(T_camera_world, model.points_world[seen])[:, 2]
    return float(np.median(z[z > 0])) if (z > 0).any() else float("nan")


def _figures(run: list[Stretch], trajectory: Trajectory) -> dict[str, float]:
    figures = [stretch.model.figures for stretch in run]
    return {
        "registered_share": float(trajectory.valid.mean()),
        "reproj_px": float(np.mean([f.reproj_px for f in figures])),
        "points": float(sum(f.points for f in figures)),
        "keyframes": float(sum(len(stretch.model.frames) for stretch in run)),
        "parallax_px": min(f.parallax_px for f in figures),
    }


def _notes(figures: dict[str, float], trajectory: Trajectory, first: Reconstruction, reasons: list[str]) -> tuple[str, ...]:
    notes = [
        f"structure from motion ({first.mapper}): {int(trajectory.valid.sum())} of {len(trajectory.valid)} frames placed, "
        f"reprojection error {figures['reproj_px']:.2f} px, field of view {first.figures.fov_deg:.0f} degrees along the long side, "
        f"{figures['points']:.0f} points"
    ]
    if figures["joined"] < figures["stretches"]:
        text = f"{figures['joined']:.0f} of {figures['stretches']:.0f} stretches of the video could be joined"
        notes.append(f"{text}; frames of the others have no pose and no depth")
    return (*notes, *(f"refused: {reason}" for reason in reasons))
