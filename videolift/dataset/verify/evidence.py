"""What the images of a packaged file say by themselves: motion between frames, and the camera's step that explains it.

Labels are held against this by `videolift.dataset.verify.image_checks`. Everything is measured at the packaged size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.geometry import Float, project, transform, unproject
from videolift.shot_ranges import shots_of

FRAME_GAP = 3
"""Frames between the two images of a pair: far enough to move, near enough to be followed."""
MAX_PAIRS, MAX_FRAMES = 24, 300
_GRID_PX, _BORDER_PX = 5, 3
_MAX_RETURN_PX = 0.7
"""A pixel counts where its motion, followed forward and back, ends this near to its start."""
_PNP_PX = 1.0
SHIFTS = ((1, "late by one frame"), (-1, "early by one frame"), (2, "late by two frames"), (-2, "early by two frames"))
"""How labels may be off in time: by how many frames they would have to be taken from further ahead, and what that is called."""


@dataclass(frozen=True)
class ImagePair:
    """Two frames of one video, and points that could be followed from the first to the second.

    Attributes:
        first, second: frame numbers.
        uv_px: (n, 2) in the first image. moved_px: (n, 2) the same points in the second.
    """

    first: int
    second: int
    uv_px: Float
    moved_px: Float

    @property
    def motion_px(self) -> float:
        """Median length of the motion."""
        return float(np.median(np.linalg.norm(self.moved_px - self.uv_px, axis=1))) if len(self.uv_px) else 0.0


@dataclass
class Evidence:
    """Images and what can be measured in them, made when first asked for and kept."""

    file: PackagedFile
    _flows: dict[tuple[int, int], Float] = field(default_factory=dict)
    _gradients: dict[int, Float] = field(default_factory=dict)

    @cached_property
    def frames(self) -> int:
        """How many are looked at: the first ones of a long video, of one with cuts to the end of its first shot."""
        shots = shots_of(self.file.shot)
        return min(shots[0].end if shots else len(self.file), MAX_FRAMES)

    @cached_property
    def K(self) -> Float:
        """(3, 3)"""
        return self.file.array("camera/intrinsics").astype(np.float64)

    @cached_property
    def E(self) -> Float:
        """T_camera_world (T, 4, 4)."""
        return self.file.array("camera/T_camera_world", slice(0, self.frames)).astype(np.float64)

    @cached_property
    def z(self) -> NDArray[np.float32]:
        """Depth of all frames (T, S, S) as stored."""
        return self.file.array("depth", slice(0, self.frames)).astype(np.float32)

    @cached_property
    def rgb(self) -> NDArray[np.uint8]:
        """(T, S, S, 3)"""
        return np.ascontiguousarray(self.file.rgb(slice(0, self.frames)).transpose(0, 2, 3, 1))

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """(T, S, S)"""
        return np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in self.rgb])

    def gradient(self, frame: int) -> Float:
        """Length of the image gradient (S, S)."""
        if frame not in self._gradients:
            smooth = cv2.GaussianBlur(self.grey[frame].astype(np.float32), (0, 0), 0.8)
            self._gradients[frame] = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        return self._gradients[frame]

    def flow(self, first: int, second: int) -> Float:
        """Motion (S, S, 2) in pixels of every pixel of one frame to another."""
        if (first, second) not in self._flows:
            dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            flow = np.zeros((*self.grey[first].shape, 2), np.float32)
            self._flows[first, second] = np.asarray(dis.calc(self.grey[first], self.grey[second], flow), np.float32)
        return self._flows[first, second]

    def follow(self, first: int, second: int, uv_px: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Points (n, 2) of one frame in another (n, 2), and which could be followed there and back."""
        forward = sample(self.flow(first, second), uv_px)
        moved = uv_px + forward
        # Back as well: what is hidden or leaves the image in between does not return to where it began.
        back = sample(self.flow(second, first), moved)
        good = np.linalg.norm(forward + back, axis=1) < _MAX_RETURN_PX
        return moved, good & self._inside(moved) & self._inside(uv_px)

    def _inside(self, uv_px: Float) -> NDArray[np.bool_]:
        last = np.array(self.file.size_px) - 1 - _BORDER_PX
        return np.asarray(((uv_px >= _BORDER_PX) & (uv_px <= last)).all(-1), np.bool_)

    @cached_property
    def grid(self) -> Float:
        """(n, 2) pixels that are looked at."""
        at = [np.arange(_BORDER_PX, side - _BORDER_PX, _GRID_PX, dtype=np.float64) for side in self.file.size_px]
        return np.stack(np.meshgrid(*at), -1).reshape(-1, 2)

    @cached_property
    def pairs(self) -> list[ImagePair]:
        """Pairs over the whole video, evenly."""
        last = self.frames - FRAME_GAP
        starts = np.unique(np.linspace(1, last - 2, MAX_PAIRS).astype(int)) if last > 4 else np.arange(max(last, 0))
        found = []
        for start in starts:
            moved, good = self.follow(int(start), int(start) + FRAME_GAP, self.grid)
            found.append(ImagePair(int(start), int(start) + FRAME_GAP, self.grid[good], moved[good]))
        return found

    @cached_property
    def steps(self) -> list[Float | None]:
        """Per pair the camera's motion (4, 4) that the followed points and the depth give, None where too few agree."""
        return [estimate_step(pair, depth_at(self.z[pair.first], pair.uv_px), self.K) for pair in self.pairs]

    @cached_property
    def static(self) -> list[NDArray[np.bool_]]:
        """Per pair which of its points move as one rigid scene; all where that cannot be told."""
        masks = []
        for pair, step in zip(self.pairs, self.steps, strict=True):
            off = residual_px(pair, depth_at(self.z[pair.first], pair.uv_px), self.K, step) if step is not None else None
            # Where no step was found all points count: then every hypothesis is judged by the same ones.
            masks.append(off < 2 * _PNP_PX if off is not None else np.ones(len(pair.uv_px), bool))
        return masks


def sample(field_: Float, uv_px: Float) -> Float:
    """Values (n, ...) of an image at pixels (n, 2), between pixels linearly."""
    x, y = (uv_px[:, i].astype(np.float32).reshape(1, -1) for i in (0, 1))
    return np.asarray(cv2.remap(field_, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0], np.float64)


def depth_at(z: Float, uv_px: Float) -> Float:
    """Depth (n) at the pixels nearest to (n, 2); 0 where there is none."""
    # The nearest, never a mean: between the two sides of an edge lies a depth that nothing has.
    x, y = (np.clip(np.rint(uv_px[:, i]).astype(int), 0, z.shape[1 - i] - 1) for i in (0, 1))
    return np.asarray(z[y, x], np.float64)


def estimate_step(pair: ImagePair, z: Float, K: Float) -> Float | None:
    """``T_second_first`` (4, 4) from points with depth in the first image and their places in the second; robust to what moves."""
    known = z > 0
    if known.sum() < 40:
        return None
    xyz = unproject(pair.uv_px[known], z[known], K)
    cv2.setRNGSeed(0)  # RANSAC draws: the same file must give the same findings twice
    options: dict[str, Any] = {"reprojectionError": _PNP_PX, "iterationsCount": 300, "confidence": 0.999}
    done, turn, shift, inliers = cv2.solvePnPRansac(xyz, pair.moved_px[known], K, None, flags=cv2.SOLVEPNP_SQPNP, **options)
    if not done or inliers is None or len(inliers) < 30:
        return None
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return step


def residual_px(pair: ImagePair, z: Float, K: Float, T_second_first: Float) -> Float:
    """Distances (n) between where a rigid scene would put the points and where they are; NaN without depth."""
    xyz = unproject(pair.uv_px, np.where(z > 0, z, np.nan), K)
    return np.asarray(np.linalg.norm(project(transform(T_second_first, xyz), K) - pair.moved_px, axis=1))


def median_residual_px(
    evidence: Evidence, steps: Callable[[int, int], Float], depth: Float | None = None, K: Float | None = None
) -> float:
    """How far labels put what stands still from where the images have it, px, the median over all pairs.

    Args:
        evidence: the images.
        steps: T_second_first of two frame numbers, as the labels have it.
        depth: (T, S, S); None for the file's.
        K: None for the file's.
    """
    medians = []
    for pair, static in zip(evidence.pairs, evidence.static, strict=True):
        z = depth_at((evidence.z if depth is None else depth)[pair.first], pair.uv_px)
        off = residual_px(pair, z, evidence.K if K is None else K, steps(pair.first, pair.second))[static]
        off = off[np.isfinite(off)]
        if len(off) >= 20:
            medians.append(float(np.median(off)))
    return float(np.median(medians)) if medians else float("nan")


def spread(count: int, wanted: int) -> Iterator[int]:
    """At most ``wanted`` numbers below ``count``, evenly."""
    return iter(np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int)).tolist()) if count > 0 else iter(())
