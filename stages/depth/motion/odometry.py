"""Camera poses from sensor depth: corners lifted to 3D once, every later frame placed against them. Metric, and no parallax needed.

Also tells whether poses that were given agree with what the images show. Holds one depth image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.features import FeatureTracks
from stages.depth.motion.resection import resect
from videolift.geometry import Float, invert_pose, project, transform, unproject

_FLAT = 0.05
"""Depth around a corner may differ by this share; more is an edge, where the corner's depth is uncertain."""
_AGREES_PX = 2.0
# What the user is told of (docs/backends.md); corners themselves are followed to half a pixel or so.
_WRONG_PX = 3.0
_MAX_AVERAGED = 20
_MIN_CORNERS = 20
_BEHIND_PX = 1e3
"""Counted for a corner that ends up behind the camera."""


class DepthImages(Protocol):
    """Depth (H, W) in metres of a frame, 0 invalid."""

    def __getitem__(self, frame: int) -> NDArray[np.float32]: ...


def lift_smooth(uv_px: NDArray[np.float32], depth_m: NDArray[np.float32], K: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Camera-frame points (n, 3) behind pixels (n, 2), and which are on a smooth, measured surface (n)."""
    height, width = depth_m.shape
    # One pixel from the border at least: the eight around it are read.
    u, v = (np.clip(np.rint(uv_px[:, axis]).astype(int), 1, limit - 2) for axis, limit in ((0, width), (1, height)))
    around = np.stack([depth_m[v + dv, u + du] for dv in (-1, 0, 1) for du in (-1, 0, 1)])
    z = around[4].astype(np.float64)
    smooth = (around > 0).all(0) & (np.ptp(around, axis=0) < _FLAT * around[4])
    return unproject(uv_px, z, K), np.asarray(smooth)


def follow_on_depth(
    tracks: FeatureTracks, depth: DepthImages, K: Float, progress: Callable[[int], None]
) -> tuple[Float, NDArray[np.bool_]]:
    """Metric ``T_camera_world`` (T, 4, 4), world = first camera, and which frames could be placed (T).

    A corner's place in the world is the mean over the frames that agree on it. ``progress(k)`` is called after frame k.
    """
    # Ids count from 0, so they are rows of these arrays.
    born = int(tracks.ids.max(initial=-1)) + 1
    points_world, seen = np.zeros((born, 3)), np.zeros(born, np.int64)
    T_camera_world, valid = np.tile(np.eye(4), (len(tracks), 1, 1)), np.zeros(len(tracks), bool)
    latest: Float = np.eye(4)
    for k in range(len(tracks)):
        ids, uv = tracks.frame(k)
        known = seen[ids] > 0
        # the first frame is the world; a frame that cannot be placed is skipped, the next one is compared with the latest placed
        T = latest if k == 0 else resect(points_world[ids[known]], uv[known].astype(np.float64), K, latest)
        if T is not None:
            T_camera_world[k], valid[k], latest = T, True, T
            points_camera, smooth = lift_smooth(uv, depth[k], K)
            here = transform(invert_pose(T), points_camera)
            # a corner that moves by itself is placed where it was first seen and not moved along
            off_px = np.linalg.norm(project(transform(T, points_world[ids]), K) - uv, axis=1)
            use = smooth & ((seen[ids] == 0) | (np.nan_to_num(off_px, nan=np.inf) < _AGREES_PX))
            rows = ids[use]
            # beyond that many frames the mean forgets, so that it follows a corner that drifts
            seen[rows] = np.minimum(seen[rows] + 1, _MAX_AVERAGED)
            points_world[rows] += (here[use] - points_world[rows]) / seen[rows, None]
        progress(k)
    return T_camera_world, valid


@dataclass(frozen=True)
class Agreement:
    """How far, as a median in pixels, corners are from where depth and poses say they move.

    Attributes:
        given_px: with the poses as they are.
        inverted_px: with every pose inverted.
    """

    given_px: float
    inverted_px: float

    @property
    def inverted(self) -> bool:
        """The poses are camera to world: inverted they fit, as they are they do not."""
        return self.given_px > _WRONG_PX and self.inverted_px < min(_AGREES_PX, self.given_px / 3)

    @property
    def wrong(self) -> bool:
        """Neither way fits."""
        return self.given_px > _WRONG_PX and not self.inverted


def measure_agreement(
    spans: Iterable[tuple[int, FeatureTracks]], depth: DepthImages, K: Float, T_camera_world: Float
) -> Agreement | None:
    """Compares the first with the last frame of each span; None where none has enough corners with depth.

    Args:
        spans: (first frame, corners of some frames from there on), ascending.
        depth: sensor depth.
        K: (3, 3).
        T_camera_world: (T, 4, 4), NaN where not known.
    """
    # Both ways, so that poses from camera to world are told by name and not only found wrong.
    poses = {"given": T_camera_world, "inverted": invert_pose(T_camera_world)}
    off: dict[str, list[Float]] = {name: [] for name in poses}
    for first, tracks in spans:
        last = first + len(tracks) - 1
        # Only the ends of a span: what the poses say in between adds little motion and as much noise.
        uv_first, uv_last = tracks.shared(0, len(tracks) - 1)
        points, smooth = lift_smooth(uv_first, depth[first], K)
        if smooth.sum() >= _MIN_CORNERS and np.isfinite(T_camera_world[[first, last]]).all():
            for name, T in poses.items():
                seen = project(transform(T[last] @ invert_pose(T[first]), points[smooth]), K)
                off[name].append(np.nan_to_num(np.linalg.norm(seen - uv_last[smooth], axis=1), nan=_BEHIND_PX))
    if not off["given"]:
        return None
    return Agreement(*(float(np.median(np.concatenate(off[name]))) for name in poses))
