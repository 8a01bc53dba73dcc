"""Corners of a made-up scene, exact but for a little noise, for tests without images."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from stages.depth.motion.features import FeatureTracks
from videolift.geometry import pinhole, project, transform

SIZE = (512, 384)
K = pinhole(430, *SIZE)


def tracks_of(T_camera_world, K=K, *, points=300, movers=0.0, seed=0, noise_px=0.1):
    """Corners of points 0.6 to 1.2 in front of a camera, seen in every frame; ``movers`` is the share that moves by itself."""
    rng = np.random.default_rng(seed)
    uv = rng.uniform([20, 20], [SIZE[0] - 20, SIZE[1] - 20], (points, 2))
    z = rng.uniform(0.6, 1.2, points)
    world = np.stack([(uv[:, 0] - K[0, 2]) / K[0, 0] * z, (uv[:, 1] - K[1, 2]) / K[1, 1] * z, z], axis=1)
    ids, pixels = np.arange(points, dtype=np.int32), []
    for k, T in enumerate(T_camera_world):
        moved = world.copy()
        moved[: int(movers * points), 0] += 0.02 * k
        pixels.append(project(transform(T, moved), K) + rng.normal(0, noise_px, (points, 2)))
    count = len(T_camera_world)
    return FeatureTracks(np.tile(ids, count), np.concatenate(pixels).astype(np.float32), np.arange(count + 1) * points)


def path(frames=40, *, turn=0.0, shift=0.0):
    """A camera that turns by ``turn`` radians and shifts by ``shift`` per frame."""
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(np.arange(frames)[:, None] * [0, turn, 0.3 * turn]).as_matrix()
    T[:, 0, 3] = shift * np.arange(frames)
    return T
