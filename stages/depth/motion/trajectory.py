"""The whole clip's camera: corners in, a pose per frame in one world and one unit out, or the reasons why there is none.

Keyframes are mapped (`mapping`), judged (`gates`), the frames between are placed (`resection`). A long clip is mapped in chunks:
the one with most motion settles the focal length, the others keep it, and each is joined to its neighbour by the corners both
mapped. Where a chunk is not believed or cannot be joined, the longest run of chunks stays and the rest has no pose.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.chunks import MappedChunk, longest_run
from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.gates import Motion, refusal
from stages.depth.motion.keyframes import CHUNK_OVERLAP, choose_keyframes, split_into_chunks
from stages.depth.motion.mapping import MAPPERS, Mapper, Reconstruction, reconstruct
from stages.depth.motion.resection import place_frames
from stages.depth.sfm_settings import SfmSettings
from videolift.artifacts.depth import Intrinsics
from videolift.geometry import Float, transform

_CANDIDATES = 3
"""Chunks that may settle the focal length; a video that fails on all of them is given up."""


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

    def map_chunk(self, keyframes: Sequence[int], K: Float, mappers: Sequence[Mapper], *, fixed: bool) -> Reconstruction | None:
        """The first believed reconstruction; the reasons against the others are collected."""
        for mapper in mappers:
            self.progress()
            work = self.folder / f"{keyframes[0]:09d}-{mapper.split(',')[0]}-{int(fixed)}"
            work.mkdir(parents=True)
            model = reconstruct(
                self.tracks, keyframes, K, self.size_px, mapper=mapper, folder=work, fixed_intrinsics=fixed, seed=self.seed
            )
            shutil.rmtree(work)
            why = "no model found" if model is None else refusal(model.figures, self.rotation_px, self.settings)
            if model is not None and why is None:
                return model
            self.reasons.append(f"frames {keyframes[0]} to {keyframes[-1]}, {mapper}: {why}")
        return None

    def settle_intrinsics(self, chunks: list[list[int]], K_guess: Float, *, fixed: bool) -> MappedChunk | None:
        """The first believed model among the three chunks with most motion (the fewest frames for their keyframes)."""
        for chunk in sorted(chunks, key=lambda chunk: chunk[-1] - chunk[0])[:_CANDIDATES]:
            model = self.map_chunk(chunk, K_guess, MAPPERS[:2] if fixed else MAPPERS, fixed=fixed)
            if model is not None:
                return MappedChunk(chunk, model)
        return None


def solve_trajectory(
    tracks: FeatureTracks,
    size_px: tuple[int, int],
    start: CameraPath,
    *,
    fixed: bool,
    motion: Motion,
    settings: SfmSettings,
    seed: int,
    folder: Path,
    progress: Callable[[], None],
) -> CameraPath:
    """Solves for a moving camera (see the module), in an arbitrary unit; without poses where no reconstruction is believed.

    Args:
        tracks: corners of the clip.
        size_px: (W, H).
        start: its K is where the search starts.
        fixed: that K stays, and how it is known.
        motion: of the clip.
        settings: gates.
        seed: of the mappers.
        folder: for the mappers' files; emptied.
        progress: called before each mapper.
    """
    chunks = split_into_chunks(choose_keyframes(tracks))
    solver = _Solver(tracks, size_px, motion.rotation_px, settings, seed, folder, progress)
    settled = solver.settle_intrinsics(chunks, start.K, fixed=fixed)
    if settled is None:
        note = "the camera moves, but no reconstruction is believed, so poses are unknown"
        return start.without_poses(note, *solver.reasons)
    first = settled.model
    models = [
        first if chunk is settled.keyframes else solver.map_chunk(chunk, first.K, MAPPERS[:2], fixed=True) for chunk in chunks
    ]
    mapped = [MappedChunk(chunk, model) for chunk, model in zip(chunks, models, strict=True) if model is not None]
    run = longest_run(mapped)
    intrinsics: Intrinsics = start.intrinsics if fixed else "assumed" if first.mapper == MAPPERS[-1] else "estimated"
    path = _place(tracks, run, first.K, intrinsics, progress)
    figures = _figures(run, path) | {"stretches": float(len(chunks)), "joined": float(len(run))}
    return replace(path, figures=figures, notes=_notes(figures, path, first, solver.reasons))


def _place(
    tracks: FeatureTracks, run: list[MappedChunk], K: Float, intrinsics: Intrinsics, progress: Callable[[], None]
) -> CameraPath:
    """Poses of all frames of a run; where two chunks overlap, each keeps its half."""
    frames = len(tracks)
    T_camera_world, valid = np.tile(np.eye(4), (frames, 1, 1)), np.zeros(frames, bool)
    scene_depth = np.full(frames, np.nan)
    starts = [run[0].keyframes[0], *(chunk.keyframes[CHUNK_OVERLAP // 2] for chunk in run[1:]), run[-1].keyframes[-1] + 1]
    for chunk, start, end in zip(run, starts[:-1], starts[1:], strict=True):
        progress()
        model = chunk.model
        mine = (model.frames >= start) & (model.frames < end)
        T_camera_world[model.frames[mine]], valid[model.frames[mine]] = model.T_camera_world[mine], True
        place_frames(tracks, range(start, end), T_camera_world, valid, model.point_ids, model.points_world, K)
        for k in range(start, end):
            if valid[k]:
                scene_depth[k] = _seen_depth(tracks, k, T_camera_world[k], model)
    valid &= np.isfinite(scene_depth)
    return CameraPath(T_camera_world, valid, K, "sfm", intrinsics, scene_depth=scene_depth)


def _seen_depth(tracks: FeatureTracks, frame: int, T_camera_world: Float, model: Reconstruction) -> float:
    seen = np.isin(model.point_ids, tracks.frame(frame)[0], assume_unique=True)
    z = transform(T_camera_world, model.points_world[seen])[:, 2]
    return float(np.median(z[z > 0])) if (z > 0).any() else float("nan")


def _figures(run: list[MappedChunk], path: CameraPath) -> dict[str, float]:
    figures = [chunk.model.figures for chunk in run]
    return {
        "registered_share": float(path.valid.mean()),
        "reproj_px": float(np.mean([f.reproj_px for f in figures])),
        "points": float(sum(f.points for f in figures)),
        "keyframes": float(sum(len(chunk.model.frames) for chunk in run)),
        "parallax_px": min(f.parallax_px for f in figures),
    }


def _notes(figures: dict[str, float], path: CameraPath, first: Reconstruction, reasons: list[str]) -> tuple[str, ...]:
    notes = [
        f"structure from motion ({first.mapper}): {int(path.valid.sum())} of {len(path)} frames placed, "
        f"reprojection error {figures['reproj_px']:.2f} px, field of view {first.figures.fov_deg:.0f} degrees along the long side, "
        f"{figures['points']:.0f} points"
    ]
    if figures["joined"] < figures["stretches"]:
        text = f"{figures['joined']:.0f} of {figures['stretches']:.0f} stretches of the video could be joined"
        notes.append(f"{text}; frames of the others have no pose and no depth")
    return (*notes, *(f"refused: {reason}" for reason in reasons))
