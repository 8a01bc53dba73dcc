"""Depth of frames between two that a network has looked at: carried over by optical flow and the camera, kept where both agree.

A network costs seconds per frame on a CPU, flow a tenth of one. Where the two neighbours say different things of a pixel (something
came into view, moved in depth, or the flow is lost) it stays invalid.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.camera_path import CameraPath
from stages.depth.motion.dense_flow import FlowField, FlowMatch
from stages.depth.motion.grey import GreyFrames, RgbFrames
from videolift.geometry import Float, invert_pose, transform, unproject

DepthPicture = NDArray[np.float32]
MAX_APART = 0.05
"""Depth carried from before and from after may differ by this share; a hand that comes nearer by more within the gap is invalid."""
_FLAT = 0.05
"""Likewise around the pixel it is fetched from: at an edge flow decides by chance whose depth is taken."""


def seen_frames(frames: int, every: int) -> list[int]:
    """Frames that the network looks at: every ``every``-th, the first and the last among them."""
    seen = list(range(0, frames, every))
    return seen if seen[-1] == frames - 1 else [*seen, frames - 1]


class CarriedDepth:
    """``carried[k]`` is z-depth (H, W) of frame k, 0 invalid; ask for frames in ascending order.

    Args:
        clip: its frames.
        path: its camera; where a pose is not valid the camera is taken to have stood still since the neighbour.
        seen: the frames that the network looked at, first and last among them, ascending.
        depth: their depth (H, W), one after the other, in that order.
    """

    def __init__(self, clip: RgbFrames, path: CameraPath, seen: list[int], depth: Iterator[DepthPicture]) -> None:
        # Flow is chained through the frames between, on either side.
        gap = int(max(np.diff(seen), default=1))
        self._flow = FlowField(GreyFrames(clip, keep=2 * gap + 2), keep=2 * gap)
        self._path, self._pictures = path, zip(seen, depth, strict=True)
        self._before = self._after = next(self._pictures)

    def __getitem__(self, frame: int) -> DepthPicture:
        """See the class."""
        while self._after[0] < frame:
            self._before, self._after = self._after, next(self._pictures)
        if self._after[0] == frame:
            return self._after[1]
        sides = dict((self._before, self._after))
        T_camera_world, valid = self._path.T_camera_world, self._path.valid
        # From before and from after: what came into view in between is seen by one of them only, and differs.
        carried = {}
        for side, match in self._flow.matches(frame, list(sides)):
            both = valid[frame] and valid[side]
            T_frame_side = np.asarray(T_camera_world[frame] @ invert_pose(T_camera_world[side])) if both else np.eye(4)
            carried[side] = carry_depth(match, sides[side], T_frame_side, self._path.K)
        before, after = carried[self._before[0]], carried[self._after[0]]
        agree = (before > 0) & (after > 0) & (np.abs(before - after) < MAX_APART * np.minimum(before, after))
        share = (frame - self._before[0]) / (self._after[0] - self._before[0])
        return np.where(agree, (1 - share) * before + share * after, 0).astype(np.float32)


def carry_depth(match: FlowMatch, depth: DepthPicture, T_frame_side: Float, K: Float) -> DepthPicture:
    """z-depth (H, W) of a frame from that of a neighbour, 0 where flow or depth there cannot be trusted.

    Args:
        match: where each pixel of the frame is in the neighbour.
        depth: (H, W) of the neighbour.
        T_frame_side: (4, 4), the neighbour's camera to the frame's.
        K: (3, 3).
    """
    height, width = depth.shape
    column, row = (
        np.clip(np.rint(match.uv_px[..., axis]), 0, limit - 1).astype(np.int64) for axis, limit in ((0, width), (1, height))
    )
    padded = np.pad(depth, 1, mode="edge")
    around = [padded[v : v + height, u : u + width] for v in range(3) for u in range(3)]
    low, high = np.minimum.reduce(around), np.maximum.reduce(around)
    smooth = np.asarray((low > 0) & (high - low < _FLAT * depth))
    z = np.where(smooth, depth, 0)[row, column]
    uv = match.uv_px.reshape(-1, 2).astype(np.float64)
    moved = transform(T_frame_side, unproject(uv, z.reshape(-1).astype(np.float64), K))[:, 2].reshape(height, width)
    return np.where(match.trusted & (z > 0) & (moved > 0), moved, 0).astype(np.float32)
