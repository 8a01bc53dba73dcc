"""Chunks of a long clip, mapped apart, joined into one world with one unit. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.depth.motion.mapping import Reconstruction
from videolift.geometry import invert_pose, transform, umeyama

_MIN_COMMON = 30
"""Corners that two chunkes must share to be joined."""
_MAX_MISFIT = 0.1
"""Median misfit of the shared corners over their spread; more is no join."""
_ROUNDS = 5


@dataclass(frozen=True)
class MappedChunk:
    """Consecutive keyframes and what was made of them."""

    keyframes: list[int]
    model: Reconstruction


def longest_run(chunks: Sequence[MappedChunk]) -> list[MappedChunk]:
    """The run of overlapping chunkes that join and cover most frames, all in the world and unit of its first."""
    runs: list[list[MappedChunk]] = []
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
        weight = 1.0 / (1.0 + (misfit / max(float(np.median(misfit)), 1e-12)) ** 2)
    spread = float(np.median(np.linalg.norm(here - np.median(here, axis=0), axis=1)))
    if scale <= 0 or np.median(misfit) > _MAX_MISFIT * spread:
        return None
    T_camera_world = after.T_camera_world.copy()
    T_camera_world[:, :3, 3] *= scale
    points = transform(T_before_after, scale * after.points_world)
    return replace(after, T_camera_world=T_camera_world @ invert_pose(T_before_after), points_world=points)
