"""One repeating picture that every surface of the sample shows in its own scale, contrast and colour.

Octaves of noise give corners at every scale for optical flow; patches with hard edges give landmarks for structure from motion.
"""

from __future__ import annotations

import cv2
import numpy as np

from videolift.geometry import Float

SIZE_PX = 1024


def make_texture(seed: int) -> Float:
    """f32 (SIZE_PX, SIZE_PX, 3), mean 0, about -1 to 1, seamless at its borders."""
    rng = np.random.default_rng([seed, 11])
    out = np.zeros((SIZE_PX, SIZE_PX, 3), np.float32)
    for cells, weight in ((16, 0.30), (48, 0.30), (128, 0.35), (320, 0.30)):
        grid = rng.standard_normal((cells, cells, 3)).astype(np.float32) * np.float32(0.15)
        grid = grid + rng.standard_normal((cells, cells, 1)).astype(np.float32)
        margin = 4  # tiled once around, so that the enlargement has no seam
        padded = np.pad(grid, ((margin, margin), (margin, margin), (0, 0)), mode="wrap")
        step = SIZE_PX / cells
        wide = np.asarray(cv2.resize(padded, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC), np.float32)
        start = round(margin * step)
        out += weight * wide[start : start + SIZE_PX, start : start + SIZE_PX]
    patches = np.zeros_like(out)
    for _ in range(420):
        # every draw comes in this order in every case: the picture is part of the sample's identity
        centre, half, angle = rng.uniform(30, SIZE_PX - 30, 2), rng.uniform(4, 20, 2), rng.uniform(0, np.pi)
        colour = (rng.uniform(-1, 1) + rng.uniform(-0.12, 0.12, 3)).tolist()
        if rng.random() < 0.5:
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            cv2.fillConvexPoly(patches, np.round((corners @ turn.T + centre) * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
        else:
            box = (tuple(centre.tolist()), tuple((2 * half).tolist()), float(np.degrees(angle)))
            cv2.ellipse(patches, box, colour, -1, cv2.LINE_AA)
    out += patches
    # Sharp edges would shimmer where the picture shrinks.
    return np.asarray(cv2.GaussianBlur(out - out.mean((0, 1)), (0, 0), 0.8, borderType=cv2.BORDER_REFLECT_101), out.dtype)
