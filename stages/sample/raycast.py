"""Which part a ray meets first and how far away: the exact visibility that pictures, depth and tracks of the sample share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.sample.scene import Scene
from stages.sample.shapes import Room
from videolift.geometry import Float, transform


def cast_image(scene: Scene, frame: int, K: Float, size_px: tuple[int, int]) -> tuple[Float, NDArray[np.uint8]]:
    """z-depth f64 and part index u8, both (H, W), at the centres of the pixels of an image of ``size_px`` = (W, H)."""
    width, height = size_px
    u = (np.arange(width) - K[0, 2])[None] / K[0, 0]
    v = (np.arange(height) - K[1, 2])[:, None] / K[1, 1]
    z, part = np.full((height, width), np.inf), np.zeros((height, width), np.uint8)
    for index, T_camera_part in enumerate(scene.T_camera_part[frame]):
        shape = scene.parts[index].shape
        rows, columns = _rectangle(shape.bounds(), T_camera_part, K, size_px) if not isinstance(shape, Room) else (slice(None),) * 2
        # u is a row and v a column: most sums are taken before they are spread over the picture.
        found = shape.depth(u[:, columns], v[rows], T_camera_part)
        nearer = found < z[rows, columns]
        z[rows, columns][nearer] = found[nearer]
        part[rows, columns][nearer] = index
    return z, part


def cast_rays(scene: Scene, frame: int, uv_px: Float, K: Float) -> tuple[Float, NDArray[np.intp]]:
    """z-depth (N), inf where nothing is hit, and part index (N), behind pixels ``uv_px`` (N, 2)."""
    u, v = (uv_px[:, 0] - K[0, 2]) / K[0, 0], (uv_px[:, 1] - K[1, 2]) / K[1, 1]
    # A few rays only: no rectangle is worth computing for them.
    found = np.stack([part.shape.depth(u, v, T) for part, T in zip(scene.parts, scene.T_camera_part[frame], strict=True)])
    nearest = found.argmin(0)
    return found[nearest, np.arange(len(u))], nearest


def _rectangle(bounds: tuple[Float, float], T_camera_part: Float, K: Float, size_px: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns outside of which the shape cannot appear."""
    points, radius = transform(T_camera_part, bounds[0]), bounds[1]
    near = points[:, 2] - radius
    # A sphere that reaches beside or behind the lens has no such angles.
    if near.min() < 0.05:
        return slice(None), slice(None)
    spans = []
    for axis, length in ((1, size_px[1]), (0, size_px[0])):
        # a sphere at angle a off the axis spans tan(a +- asin(r / distance))
        distance = np.hypot(points[:, axis], points[:, 2])
        angle, half = np.arctan2(points[:, axis], points[:, 2]), np.arcsin(np.minimum(radius / distance, 1.0))
        low, high = np.tan((angle - half).min()), np.tan((angle + half).max())
        edges = K[axis, axis] * np.array([low, high]) + K[axis, 2]
        first, last = np.clip([np.floor(edges[0]), np.ceil(edges[1]) + 1], 0, length).astype(int)
        spans.append(slice(first, last))
    return spans[0], spans[1]
