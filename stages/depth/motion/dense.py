"""Depth maps of a clip whose camera is known, frame by frame, and the unit that makes their median 1. Holds a minute at most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.dense_flow import FlowField
from stages.depth.motion.grey import GreyFrames, RgbFrames
from stages.depth.motion.triangulation import choose_partners, triangulate_depth
from videolift.geometry import invert_pose

MAX_REACH = 30
"""Most frames between a frame and its partners."""
MAX_SAMPLED_FRAMES = 64
"""Frames whose depth settles the unit; a clip that short is measured whole."""


class DenseDepth:
    """Triangulates frames of ``clip``; neighbours in time are cheapest one after the other."""

    def __init__(self, clip: RgbFrames, path: CameraPath, max_relative_sigma: float) -> None:
        assert path.scene_depth is not None
        self._scene_depth = path.scene_depth
        # Partners lie up to MAX_REACH on either side, and the frame between them is read as well.
        grey = GreyFrames(clip, keep=2 * MAX_REACH + 2)
        self._shape = grey[0].shape
        self._flow, self._path, self._sigma = FlowField(grey, keep=2 * MAX_REACH), path, max_relative_sigma
        self._centres_world = invert_pose(path.T_camera_world)[:, :3, 3]
        self._sampled: dict[int, NDArray[np.float32]] = {}

    def __getitem__(self, frame: int) -> NDArray[np.float32]:
        """z-depth (H, W) in the path's unit, 0 invalid."""
        if frame in self._sampled:
            return self._sampled[frame]
        at = self._path
        if not at.valid[frame]:
            return np.zeros(self._shape, np.float32)
        partners = choose_partners(frame, self._centres_world, at.valid, float(self._scene_depth[frame]), MAX_REACH)
        depth = triangulate_depth(self._flow.matches(frame, partners), frame, at.T_camera_world, at.K, self._sigma)
        return np.zeros(self._shape, np.float32) if depth is None else depth

    def sample(self, frame: int) -> None:
        """Computes a frame and keeps it."""
        self._sampled[frame] = self[frame]

    def sampled_median(self) -> float:
        """Median depth over all valid pixels that were sampled; that of the corners where there are none."""
        known = np.concatenate([depth[depth > 0] for depth in self._sampled.values()])
        return float(np.median(known)) if len(known) else float(np.nanmedian(self._scene_depth))


def sampled_frames(frames: int) -> list[int]:
    """At most `MAX_SAMPLED_FRAMES` frames, evenly spread over a clip of ``frames``."""
    return [int(k) for k in np.unique(np.linspace(0, frames - 1, min(frames, MAX_SAMPLED_FRAMES)).round())]
