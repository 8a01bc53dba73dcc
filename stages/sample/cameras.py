"""Camera paths around the table: a slow arc, an unsteady hand, a tripod. Knows nothing of the scene's solids.

The world is z up, x right, y away from the person; the table's top is z = 0. Speeds are per second, so that a shorter clip is the
beginning of a longer one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from videolift.geometry import Float, invert_pose

Camera = Literal["orbit", "handheld", "tripod"]
LOOK_AT = np.array([0.0, 0.03, 0.04])
DISTANCE_M, ELEVATION_DEG = 0.58, 52.0
ARC_M, SHAKE_M = 0.36, 0.10
"""Lengths of the paths over `PERIOD_S`."""
PERIOD_S = 6.0


def to_and_fro(seconds: Float) -> Float:
    """A triangle wave with rounded turns, -1 at 0, +1 at `PERIOD_S`, and back."""
    rounded = 0.985
    wave: Float = np.arcsin(-rounded * np.cos(np.pi * seconds / PERIOD_S)) / np.arcsin(rounded)
    return wave


def look_at(eye: Float, target: Float) -> Float:
    """``T_camera_world`` (T, 4, 4) of upright cameras at ``eye`` (T, 3) that look at ``target`` (T, 3)."""
    z = target - eye
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    T_world_camera = np.tile(np.eye(4), (len(eye), 1, 1))
    T_world_camera[:, :3, :3] = np.stack([x, np.cross(z, x), z], axis=-1)
    T_world_camera[:, :3, 3] = eye
    return invert_pose(T_world_camera)


def _eye(azimuth: Float, elevation: Float) -> Float:
    flat = DISTANCE_M * np.cos(elevation)
    return LOOK_AT + np.stack([flat * np.sin(azimuth), -flat * np.cos(azimuth), DISTANCE_M * np.sin(elevation)], axis=-1)


def _unsteady(seconds: Float, seed: int) -> Float:
    """(T, 6): slow drift with a little quick tremor on it, each channel about 1 in size."""
    rng = np.random.default_rng([seed, 7])
    slow, quick = rng.uniform(0.06, 0.22, (6, 3)), rng.uniform(0.8, 1.8, (6, 3))
    hertz, size = np.concatenate([slow, quick], axis=1), np.repeat([0.8, 0.03], 3)
    waves: Float = size * np.sin(2 * np.pi * hertz * seconds[:, None, None] + rng.uniform(0, 2 * np.pi, (6, 6)))
    unsteady: Float = waves.sum(-1)
    return unsteady


def camera_path(camera: Camera, seconds: Float, seed: int) -> Float:
    """``T_camera_world`` (T, 4, 4) at ``seconds`` (T).

    Raises:
        ValueError: no such camera.
    """
    elevation = np.full(len(seconds), np.deg2rad(ELEVATION_DEG))
    if camera == "orbit":
        wave = to_and_fro(seconds)
        half_arc = ARC_M / 2 / (DISTANCE_M * np.cos(elevation))
        eye = _eye(half_arc * wave, elevation + 0.04 * (wave**2 - 0.5))
        return look_at(eye, np.tile(LOOK_AT, (len(seconds), 1)))
    if camera == "tripod":
        return np.repeat(look_at(_eye(np.array([0.06]), elevation[:1]), LOOK_AT[None]), len(seconds), axis=0)
    if camera == "handheld":
        whole = _unsteady(np.arange(0, PERIOD_S, 0.1), seed)[:, :3]
        metres = SHAKE_M / np.linalg.norm(np.diff(whole, axis=0), axis=1).sum()
        noise = _unsteady(seconds, seed)
        T_camera_world = look_at(_eye(0 * elevation, elevation) + metres * noise[:, :3], np.tile(LOOK_AT, (len(seconds), 1)))
        shake = np.tile(np.eye(4), (len(seconds), 1, 1))
        shake[:, :3, :3] = Rotation.from_rotvec(np.deg2rad(0.7) * noise[:, 3:]).as_matrix()
        return shake @ T_camera_world
    raise ValueError(f"camera is {camera!r}; allowed are orbit, handheld, tripod")
