"""Where the points of one window go: what its frames are, what is known of its points, and the plainest answer, chained flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stages.tracks.chain import DenseFlow, FlowPair, inside_image, lift_nearest
from videolift.geometry import Float, invert_pose, transform


@dataclass(frozen=True)
class WindowFrames:
    """The L frames of a window.

    Attributes:
        flow: how points are followed.
        grey: u8 images of the flow's size.
        pairs: flow between neighbours, L - 1 of them.
        depth: z images (H, W), 0 invalid; empty where there is no depth.
        K: (3, 3).
        T_camera_world: (L, 4, 4), NaN where not known.
    """

    flow: DenseFlow
    grey: Sequence[NDArray[np.uint8]]
    pairs: Sequence[FlowPair]
    depth: Sequence[Float]
    K: Float
    T_camera_world: Float

    def __len__(self) -> int:
        return len(self.grey)

    def between(self, a: int, b: int) -> Float:
        """``T_b_a`` (4, 4) of the cameras of steps a and b, NaN where either is not known."""
        return np.asarray(self.T_camera_world[b] @ invert_pose(self.T_camera_world[a]))

    def depth_near(self, step: int, uv_px: Float, z_expected: Float) -> Float:
        """Of the 3 x 3 pixels around (N, 2) the depth nearest to what is expected (N); NaN outside the image and where invalid.

        The pixel in the middle wins unless another is nearer by 0.3 %: at a silhouette either side may be the point's own.
        """
        image = self.depth[step]
        height, width = image.shape
        within = inside_image(uv_px, (width, height))
        column, row = np.rint(np.where(within[:, None], uv_px, 0.0)).astype(np.intp).T
        best, best_off = np.full(len(uv_px), np.nan), np.full(len(uv_px), np.inf)
        for dv, du in _AROUND:
            z = image[np.clip(row + dv, 0, height - 1), np.clip(column + du, 0, width - 1)].astype(np.float64)
            off = np.where(within & (z > 0), np.abs(z - z_expected) + (_CENTRE_BONUS * z_expected if dv or du else 0.0), np.inf)
            better = off < best_off
            best[better], best_off[better] = z[better], off[better]
        return best


_AROUND = ((0, 0), *((dv, du) for dv in (-1, 0, 1) for du in (-1, 0, 1) if dv or du))
_CENTRE_BONUS = 0.003
_NEIGHBOURS, _RADIUS = 16, 0.055
"""Most neighbours of a point, and how far they are at most, as a share of its depth."""


def near_points(points_cam0: Float, asked_cam0: Float) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which of the points (N, 3) lie nearest to each of ``asked_cam0`` (n, 3), and which of them near it: (n, at most 16)."""
    from scipy.spatial import cKDTree  # takes half a second to import, which planning a run does without

    count = min(_NEIGHBOURS, len(points_cam0))
    distance, index = cKDTree(points_cam0).query(asked_cam0, count)
    shape = (len(asked_cam0), count)  # of a single neighbour the tree gives no second axis
    return index.reshape(shape), distance.reshape(shape) < _RADIUS * asked_cam0[:, 2:]


@dataclass
class PointPaths:
    """The points of a window over its steps.

    Attributes:
        uv_px: f32 (L, N, 2), pixels of the clip.
        visible: (L, N).
        xyz_cam0: (L, N, 3), NaN where not valid.
        valid: (L, N), where xyz rests on measured depth.
    """

    uv_px: NDArray[np.float32]
    visible: NDArray[np.bool_]
    xyz_cam0: Float
    valid: NDArray[np.bool_]

    def replace(self, points: NDArray[np.intp], other: Self) -> None:
        """Takes ``points`` (n) from ``other``, which has those alone."""
        self.uv_px[:, points], self.visible[:, points] = other.uv_px, other.visible
        self.xyz_cam0[:, points], self.valid[:, points] = other.xyz_cam0, other.valid


def follow_flow(frames: WindowFrames, uv_px: NDArray[np.float32]) -> PointPaths:
    """Points (N, 2) of the first frame as flow alone carries them; what is lost stays lost, depth is the nearest pixel's."""
    steps, points = len(frames), len(uv_px)
    uv, visible = [uv_px], [np.ones(points, bool)]
    for pair in frames.pairs:
        moved, trusted = frames.flow.follow(pair, uv[-1])
        uv.append(moved)
        # Flow cannot tell what was lost from what took its place.
        visible.append(trusted & visible[-1])
    xyz, valid = np.full((steps, points, 3), np.nan), np.zeros((steps, points), bool)
    # Without depth there is nothing to lift: points stay in the image.
    for k, depth in enumerate(frames.depth):
        T_cam0_camk = frames.between(k, 0)
        if np.isfinite(T_cam0_camk).all():
            points_camera, valid[k] = lift_nearest(uv[k], depth, frames.K)
            xyz[k] = transform(T_cam0_camk, points_camera)
    return PointPaths(np.stack(uv), np.stack(visible), xyz, valid)
