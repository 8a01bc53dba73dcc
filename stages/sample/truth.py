"""Truth: a rendered clip and everything that is exactly known about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.sample.raycast import cast_rays
from stages.sample.scene import Scene
from videolift.geometry import Float, T_cam0_camk, invert_pose, project, transform, unproject

Side = Literal["left", "right"]
_SURFACE_M = 2e-4
"""Two hits closer together than this, along the ray, are the same surface."""


@dataclass(frozen=True, repr=False)
class Truth:
    """A clip of T frames. World: metres, z up. Camera: OpenCV axes, integer pixel = pixel centre."""

    name: str
    rgb: NDArray[np.uint8]
    """(T, H, W, 3)"""
    depth_m: NDArray[np.float32]
    """(T, H, W) z at pixel centres, 0 where nothing is hit."""
    K: Float
    """(3, 3)"""
    T_camera_world: Float
    """(T, 4, 4)"""
    instance: NDArray[np.uint8]
    """(T, H, W) ids of what is seen, 0 nothing."""
    moving_ids: tuple[int, ...]
    """Ids of what moves in the world: the held box, the hand, the forearm."""
    hand_id: int
    """Id of the hand without the forearm."""
    pts_seconds: Float
    """(T)"""
    side: Side
    joints_world: Float
    """(T, 21, 3) OpenPose order, inside the flesh."""
    T_world_wrist: Float
    """(T, 4, 4) in the project's hand frame."""
    scene: Scene
    """What was rendered, right-handed; for ``side`` left everything above is its mirror image."""

    def __repr__(self) -> str:
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        return f"Truth({self.name}, {self.side}, " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) + ")"

    @property
    def moving(self) -> NDArray[np.bool_]:
        """(T, H, W) True on what moves in the world."""
        return np.isin(self.instance, self.moving_ids)

    @property
    def T_camera_wrist(self) -> Float:
        """(T, 4, 4) the wrist in each frame's own camera."""
        return self.T_camera_world @ self.T_world_wrist

    @property
    def joints_camera(self) -> Float:
        """(T, 21, 3) joints in each frame's own camera."""
        return transform(self.T_camera_world, self.joints_world)

    @property
    def keypoints_px(self) -> Float:
        """(T, 21, 2) projected joints."""
        return project(self.joints_camera, self.K)

    def tracks(self, start: int, uv_px: Float, length: int) -> tuple[Float, Float, NDArray[np.bool_]]:
        """Follows the surface points behind pixels ``uv_px`` (N, 2) of frame ``start`` over ``length`` frames L.

        Returns:
            ``xyz_cam0`` (L, N, 3) in the camera of frame ``start``; ``uv_px`` (L, N, 2) in frame k's own image, NaN behind the
            camera; ``visible`` (L, N): inside the image and the first surface on its ray. Where nothing is hit: NaN, False.

        Raises:
            ValueError: the window leaves the clip.
        """
        if not 0 <= start <= start + length <= len(self.rgb):
            raise ValueError(f"frames {start} to {start + length} of a clip of {len(self.rgb)}")
        height, width = self.depth_m.shape[1:]
        # the scene is right-handed; of a left hand the picture alone was mirrored
        mirrored = self.side == "left"
        query = self._mirror_px(np.asarray(uv_px, np.float64)) if mirrored else np.asarray(uv_px, np.float64)
        z, part = cast_rays(self.scene, start, query, self.K)
        hit = np.isfinite(z)
        points_camera = unproject(query, np.where(hit, z, np.nan), self.K)
        poses = self.scene.T_camera_part
        # In the frame of the solid that was hit: there a point of its surface stands still.
        points_part = transform(invert_pose(poses[start, part]), points_camera[:, None])[:, 0]
        T_cam0 = T_cam0_camk(self.scene.T_camera_world[start : start + length])
        xyz, uv, visible = [], [], []
        for k in range(length):
            moved = transform(poses[start + k, part], points_part[:, None])[:, 0]
            pixels = project(moved, self.K)
            with np.errstate(invalid="ignore"):
                inside = np.asarray(((pixels >= -0.5) & (pixels < [width - 0.5, height - 0.5])).all(1))
            nearest, _ = cast_rays(self.scene, start + k, np.where(inside[:, None], pixels, 0.0), self.K)
            xyz.append(transform(T_cam0[k], moved))
            uv.append(pixels)
            visible.append(hit & (inside & (moved[:, 2] < nearest + _SURFACE_M)))
        xyz_cam0, uv_k = np.stack(xyz), np.stack(uv)
        if mirrored:
            xyz_cam0, uv_k = xyz_cam0 * [-1.0, 1.0, 1.0], self._mirror_px(uv_k)
        return xyz_cam0, uv_k, np.stack(visible)

    def _mirror_px(self, uv_px: Float) -> Float:
        return np.stack([self.depth_m.shape[2] - 1 - uv_px[..., 0], uv_px[..., 1]], axis=-1)
