"""Which frames are mapped, in chunks of bounded length that overlap, and the mapped chunks in one world again. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.mapping import Reconstruction
from videolift.geometry import invert_pose, transform, umeyama

MOTION_PX = 8.0
"""Median motion between keyframes. 8 px gave the accuracy of 3 px at a third of the cost (docs/backends.md)."""
_MIN_SURVIVORS = 0.5
_MAX_FRAMES_APART = 30
"""Frames; a camera that rests still gets a keyframe now and then, so that corners born meanwhile are mapped."""
CHUNK_KEYFRAMES, CHUNK_OVERLAP = 100, 20
"""Keyframes mapped together (at most about 140; 92 take 40 s of CPU and 0.3 GB), and shared with the next chunk."""
_MIN_COMMON = 30
"""Corners that two chunks must share to be joined."""
_MAX_MISFIT = 0.1
"""Median misfit of the shared corners over their spread; more is no join."""
_ROUNDS = 5


def choose_keyframes(tracks: FeatureTracks) -> list[int]:
    """Frames, the first and the last among them, between which corners move by about `MOTION_PX` or half of them are lost."""
    chosen = [0]
    for k in range(1, len(tracks)):
        uv_then, uv_now = tracks.shared(chosen[-1], k)
        lost = len(uv_now) < _MIN_SURVIVORS * len(tracks.frame(chosen[-1])[0])
        if lost or k - chosen[-1] >= _MAX_FRAMES_APART or np.median(np.linalg.norm(uv_now - uv_then, axis=1)) >= MOTION_PX:
            chosen.append(k)
    last = len(tracks) - 1
    return chosen if chosen[-1] == last else [*chosen, last]


def split_into_chunks(keyframes: list[int]) -> list[list[int]]:
    """Chunks of at most about `CHUNK_KEYFRAMES` keyframes of even length, each sharing `CHUNK_OVERLAP` with the next."""
    # Chunks of even length: a short rest would be mapped badly.
    last = len(keyframes) - CHUNK_OVERLAP
    count = max(1, round(last / (CHUNK_KEYFRAMES - CHUNK_OVERLAP)))
    if count == 1:
        return [keyframes]
    edges = np.linspace(0, last, count + 1).round().astype(int)
    return [keyframes[start : end + CHUNK_OVERLAP] for start, end in pairwise(edges)]


@dataclass(frozen=True)
class MappedChunk:
    """Consecutive keyframes and what was made of them."""

    keyframes: list[int]
    model: Reconstruction


def longest_run(chunks: Sequence[MappedChunk]) -> list[MappedChunk]:
    """The run of overlapping chunks that join and cover most frames, all in the world and unit of its first."""
    runs: list[list[MappedChunk]] = []
    # Where a chunk was not believed the next one has no neighbour, and a new run begins.
    for chunk in chunks:
        before = runs[-1][-1] if runs and runs[-1][-1].keyframes[-1] > chunk.keyframes[0] else None
        joined = None if before is None else join_reconstructions(before.model, chunk.model)
        if joined is None:
            runs.append([chunk])
        else:
            runs[-1].append(replace(chunk, model=joined))
    return max(runs, key=lambda run: run[-1].keyframes[-1] - run[0].keyframes[0])


def join_reconstructions(before: Reconstruction, after: Reconstruction) -> Reconstruction | None:
    """``after`` in the world and unit of ``before``, by the corners both mapped; None where they do not fit together."""
    _, rows_before, rows_after = np.intersect1d(before.point_ids, after.point_ids, assume_unique=True, return_indices=True)
    if len(rows_before) < _MIN_COMMON:
        return None
    here, there = before.points_world[rows_before], after.points_world[rows_after]
    weight = np.ones(len(here))
    for _ in range(_ROUNDS):
        scale, T_before_after = umeyama(there, here, weight)
        misfit = np.linalg.norm(transform(T_before_after, scale * there) - here, axis=1)
        # Corners on what moves by itself have other places in either chunk.
        weight = 1.0 / (1.0 + (misfit / max(float(np.median(misfit)), 1e-12)) ** 2)
    spread = float(np.median(np.linalg.norm(here - np.median(here, axis=0), axis=1)))
    if scale <= 0 or np.median(misfit) > _MAX_MISFIT * spread:
        return None
    T_camera_world = after.T_camera_world.copy()
    T_camera_world[:, :3, 3] *= scale
    points = transform(T_before_after, scale * after.points_world)
    return replace(after, T_camera_world=T_camera_world @ invert_pose(T_before_after), points_world=points)
