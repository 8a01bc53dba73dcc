"""The whole clip's camera: corners in, a pose per frame in one world and one unit out, or the reasons why there is none.

Keyframes are mapped (`mapping`), judged (`motion_gates`), the frames between are placed (`resection`). A long clip is mapped in
chunks: the one with most motion settles the focal length, the others keep it, and each is joined to its neighbour by the corners
both mapped. Where a chunk is not believed or cannot be joined, the longest run of chunks stays and the rest has no pose.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.focal_length import rise_over_focal_lengths
from stages.depth.motion.keyframe_chunks import CHUNK_OVERLAP, MappedChunk, choose_keyframes, longest_run, split_into_chunks
from stages.depth.motion.mapping import MAPPERS, KeyframeMapping, Reconstruction
from stages.depth.motion.motion_gates import Motion, refusal
from stages.depth.motion.resection import place_frames
from stages.depth.sfm_settings import SfmSettings
from videolift.artifacts.depth import Intrinsics
from videolift.geometry import Float, pinhole, transform
from videolift.inputs.focal_curves import MIN_RISE, FocalCurve

_CANDIDATES = 3
"""Chunks that may settle the focal length; a video that fails on all of them is given up."""

_WIDE_START = 0.45
"""Focal length of a wide lens, over the long side. Started from an ordinary one, mapping a head camera's clip ended at twice the
true focal length with an error that passes; started from a wide one it found the true one, that of ordinary lenses too."""


@dataclass
class _Solver:
    """Maps the chunks of one clip, then places all its frames."""

    tracks: FeatureTracks
    size_px: tuple[int, int]
    rotation_px: float
    settings: SfmSettings
    seed: int
    folder: Path
    progress: Callable[[], None]
    reasons: list[str] = field(default_factory=list)

    def work_folder(self) -> Path:
        """An empty folder for one mapper."""
        self.progress()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self.folder

    def map_chunk(self, keyframes: Sequence[int], cameras: Sequence[Float], *, fixed: bool) -> Reconstruction | None:
        """The best of the believed reconstructions from any of ``cameras``; the reasons against the others are collected."""
        # Global first: on rendered clips its path was up to ten times as accurate as the incremental one's.
        for mapper in MAPPERS:
            believed = []
            for K in cameras:
                work = self.work_folder()
                mapping = KeyframeMapping(self.tracks, keyframes, K, self.size_px, folder=work, fixed=fixed, seed=self.seed)
                model = mapping.reconstruct(mapper)
                why = "no model found"
                if model is not None:
                    why = refusal(model.figures, self.rotation_px, self.settings, known_lens=fixed) or ""
                    believed += [] if why else [model]
                if why:
                    start = "" if fixed else f" from {K[0, 0]:.0f} px"
                    self.reasons.append(f"frames {keyframes[0]} to {keyframes[-1]}, {mapper}{start}: {why}")
            # A second mapper is asked only where nothing of the first is believed: failing scenes are the slow ones.
            if believed:
                return min(believed, key=lambda model: model.figures.reproj_px)
        return None

    def most_motion(self, chunks: list[list[int]]) -> list[list[int]]:
        """The three chunks with most motion: the fewest frames for their keyframes."""
        return sorted(chunks, key=lambda chunk: chunk[-1] - chunk[0])[:_CANDIDATES]

    def place(self, run: list[MappedChunk], first: Reconstruction, *, intrinsics: Intrinsics, chunks: int) -> CameraPath:
        """Poses of all frames of a run, with figures for the receipt; where two chunks overlap, each keeps its half.

        Args:
            run: chunks in one world, in order.
            first: settled the focal length of all.
            intrinsics: how that is known.
            chunks: how many the clip was split into.
        """
        frames = len(self.tracks)
        T_camera_world, valid = np.tile(np.eye(4), (frames, 1, 1)), np.zeros(frames, bool)
        scene_depth = np.full(frames, np.nan)
        # In the middle of the overlap both chunks see a frame from both sides.
        starts = [run[0].keyframes[0], *(chunk.keyframes[CHUNK_OVERLAP // 2] for chunk in run[1:]), run[-1].keyframes[-1] + 1]
        for chunk, start, end in zip(run, starts[:-1], starts[1:], strict=True):
            self.progress()
            model = chunk.model
            mine = (model.frames >= start) & (model.frames < end)
            T_camera_world[model.frames[mine]], valid[model.frames[mine]] = model.T_camera_world[mine], True
            place_frames(
                self.tracks,
                range(start, end),
                T_camera_world,
                valid,
                point_ids=model.point_ids,
                points_world=model.points_world,
                K=first.K,
            )
            for k in range(start, end):
                if valid[k]:
                    seen = np.isin(model.point_ids, self.tracks.frame(k)[0], assume_unique=True)
                    z = transform(T_camera_world[k], model.points_world[seen])[:, 2]
                    if (z > 0).any():
                        scene_depth[k] = float(np.median(z[z > 0]))
        # a frame with no mapped point in front of it is not believed
        valid &= np.isfinite(scene_depth)
        judged = [chunk.model.figures for chunk in run]
        figures = {
            "registered_share": float(valid.mean()),
            "reproj_px": float(np.mean([f.reproj_px for f in judged])),
            "points": float(sum(f.points for f in judged)),
            "keyframes": float(sum(len(chunk.model.frames) for chunk in run)),
            "parallax_px": min(f.parallax_px for f in judged),
            "stretches": float(chunks),
            "joined": float(len(run)),
        }
        notes = [
            f"structure from motion ({first.mapper}): {int(valid.sum())} of {frames} frames placed, "
            f"reprojection error {figures['reproj_px']:.2f} px, field of view {first.figures.fov_deg:.0f} degrees along the "
            f"long side, {figures['points']:.0f} points"
        ]
        if len(run) < chunks:
            text = f"{len(run)} of {chunks} stretches of the video could be joined"
            notes.append(f"{text}; frames of the others have no pose and no depth")
        return CameraPath(
            T_camera_world,
            valid,
            first.K,
            pose="sfm",
            intrinsics=intrinsics,
            notes=tuple(notes),
            figures=figures,
            scene_depth=scene_depth,
        )


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
    picture_px: tuple[int, int] | None = None,
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
        picture_px: (W, H) of the whole picture that the clip was cut from, at the clip's scale; None where nothing was cut.
    """
    chunks = split_into_chunks(choose_keyframes(tracks))
    solver = _Solver(tracks, size_px, motion.rotation_px, settings=settings, seed=seed, folder=folder, progress=progress)
    # Parallax shows the focal length: the chunk with most motion settles it for all.
    candidates = solver.most_motion(chunks)
    cameras = [start.K] if fixed else [start.K, pinhole(_WIDE_START * max(size_px), *size_px)]
    settled = next((MappedChunk(c, model) for c in candidates if (model := solver.map_chunk(c, cameras, fixed=fixed))), None)
    shutil.rmtree(folder, ignore_errors=True)
    if settled is None:
        note = "the camera moves, but no reconstruction is believed, so poses are unknown"
        return start.without_poses(note, *solver.reasons)
    first, curve = settled.model, None
    if not fixed:
        progress()
        # before the other chunks are mapped: without a focal length their time would be lost
        focal_px, rise = rise_over_focal_lengths(first.solved)
        curve = FocalCurve(focal_px, picture_px or size_px, rise)
        if curve.rise_within_tenth < MIN_RISE:
            note = (
                f"the camera moves too little to show its focal length: {focal_px:.0f} px ({first.figures.fov_deg:.0f} degrees "
                f"along the long side) fits best, one 10 % off only {curve.rise_within_tenth:.1%} worse, and {MIN_RISE:.1%} are "
                "needed; poses and depth would hang on a guess"
            )
            return replace(start, K=first.K, figures=curve.figures()).without_poses(note)
    models = [first if chunk is settled.keyframes else solver.map_chunk(chunk, [first.K], fixed=True) for chunk in chunks]
    mapped = [MappedChunk(chunk, model) for chunk, model in zip(chunks, models, strict=True) if model is not None]
    run = longest_run(mapped)
    intrinsics = start.intrinsics if fixed else "estimated"
    path = solver.place(run, first, intrinsics=intrinsics, chunks=len(chunks))
    shutil.rmtree(folder, ignore_errors=True)
    path = replace(path, notes=(*path.notes, *(f"refused: {reason}" for reason in solver.reasons)))
    return replace(path, figures=path.figures | (curve.figures() if curve else {}))
