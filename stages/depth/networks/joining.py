"""Stretches of one video, each with a world and a unit of its own, joined into one by the frames they share.

`stretches` cuts a video, `DepthStretch.onto` puts the next piece into the world of the one before it. Rotation comes from the
poses and scale from depth, so that an overlap in which the camera stands still joins as well. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts import ArtifactWriter
from videolift.errors import BadInput
from videolift.geometry import Float

OVERLAP_FRAMES = 30
"""Frames that two stretches share."""
_STEP_PX = 4
"""Every fourth pixel of the overlap's depth is compared."""


@dataclass(frozen=True)
class Similarity:
    """``x_a = scale * R_a_b @ x_b + t_a``: world b, in its unit, to world a.

    Attributes:
        scale: units of a per unit of b.
        R_a_b: (3, 3).
        t_a: (3).
    """

    scale: float
    R_a_b: Float
    t_a: Float

    def poses(self, T_b_camera: ArrayLike) -> Float:
        """``T_a_camera`` (n, 4, 4) from ``T_b_camera`` (n, 4, 4)."""
        T = np.array(T_b_camera, np.float64)
        R, t = T[:, :3, :3].copy(), T[:, :3, 3].copy()
        T[:, :3, :3] = self.R_a_b @ R
        T[:, :3, 3] = self.scale * (t @ self.R_a_b.T) + self.t_a
        return T


def similarity_between(T_a_camera: ArrayLike, T_b_camera: ArrayLike, depth_a: ArrayLike, depth_b: ArrayLike) -> Similarity:
    """The similarity that maps stretch b onto stretch a.

    Args:
        T_a_camera, T_b_camera: camera to world of the shared frames (n, 4, 4), n >= 1, in either world.
        depth_a, depth_b: z (n, H, W) of the same frames, 0 invalid, in either unit.

    Raises:
        BadInput: no pixel is valid in both.
    """
    A, B = np.asarray(T_a_camera, np.float64), np.asarray(T_b_camera, np.float64)
    z_a, z_b = (np.asarray(depth)[:, ::_STEP_PX, ::_STEP_PX].astype(np.float64) for depth in (depth_a, depth_b))
    # Depth, not the poses' translation, which a camera that stands still does not have.
    both = (z_a > 0) & (z_b > 0)
    if not both.any():
        text = f"two stretches cannot be joined: no pixel of the {len(A)} frames they share has depth in both"
        raise BadInput(
            "stretches_apart", text, "Raise depth.segment_s, or name start and end in the table for the part that matters."
        )
    # In logarithms, so that a and b may change places.
    scale = float(np.exp(np.median(np.log(z_a[both] / z_b[both]))))
    U, _, Vt = np.linalg.svd((A[:, :3, :3] @ np.swapaxes(B[:, :3, :3], 1, 2)).sum(0))
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt  # the rotation nearest to the sum: chordal mean
    # The median: a single frame that the network placed badly must not shift the rest of the video.
    t = np.median(A[:, :3, 3] - scale * (B[:, :3, 3] @ R.T), axis=0)
    return Similarity(scale, R, t)


@dataclass(frozen=True)
class DepthStretch:
    """Some consecutive frames in one world.

    Attributes:
        depth: z f32 (n, H, W), 0 invalid.
        T_world_camera: f64 (n, 4, 4), camera to world.
        K: f64 (3, 3), pixels of the clip.
    """

    depth: NDArray[np.float32]
    T_world_camera: Float
    K: Float

    def onto(self, previous: DepthStretch) -> DepthStretch:
        """In the world and unit of ``previous``, whose last `OVERLAP_FRAMES` frames are this one's first; without those."""
        n = min(OVERLAP_FRAMES, len(previous.depth))
        similarity = similarity_between(previous.T_world_camera[-n:], self.T_world_camera[:n], previous.depth[-n:], self.depth[:n])
        poses = similarity.poses(self.T_world_camera)
        return DepthStretch((self.depth[n:] * similarity.scale).astype(np.float32), poses[n:], previous.K)

    def last(self, frames: int) -> DepthStretch:
        """Its last frames."""
        return DepthStretch(self.depth[-frames:], self.T_world_camera[-frames:], self.K)


class StretchWalk:
    """A clip, stretch by stretch: each is estimated alone and put into the world of the one before, also after a kill in between.

    Args:
        out: keeps the frames that the next stretch joins.
        frames: of the clip.
        estimate: the frames [start, end) in a world of their own; told the frames before them, None for the first.
    """

    def __init__(self, out: ArtifactWriter, frames: int, estimate: Callable[[int, int, DepthStretch | None], DepthStretch]) -> None:
        self._out, self._frames, self._estimate = out, frames, estimate
        self._tail: DepthStretch | None = None

    def joined(self, start: int, end: int) -> DepthStretch:
        """The frames [start, end), in the first stretch's world."""
        before = self._tail
        if start > 0 and before is None:
            # a killed attempt made the stretch before this one
            saved = self._out.load_part(f"tail-{start:09d}")
            assert saved is not None
            before = DepthStretch(**saved)
        stretch = self._estimate(max(0, start - OVERLAP_FRAMES), end, before)
        if before is not None:
            stretch = stretch.onto(before)
        self._tail = stretch.last(OVERLAP_FRAMES)
        if end < self._frames:
            self._out.save_part(f"tail-{end:09d}", **vars(self._tail))
        return stretch


def stretches(frames: int, length: int, longest: int, *, done: int = 0) -> list[tuple[int, int]]:
    """Bounds [start, end) of the frames that each stretch adds after the ``done`` frames that came before, whatever their lengths.

    A stretch looks at the `OVERLAP_FRAMES` before its start as well. With those it has about ``length`` frames, at most
    ``longest`` and a rest of `OVERLAP_FRAMES`.
    """
    length = min(max(length, 2 * OVERLAP_FRAMES), longest)
    bounds, start = [], done
    while start < frames:
        looks_from = max(0, start - OVERLAP_FRAMES)
        # a rest no longer than the overlap goes with the last stretch: alone it would see little that is new
        end = frames if frames - looks_from <= length + OVERLAP_FRAMES else looks_from + length
        bounds.append((start, end))
        start = end
    return bounds
