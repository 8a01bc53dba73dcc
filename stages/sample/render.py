"""From a scene to what a camera sees of it: colour, exact z-depth, instance ids; and `Truth`, everything known about a clip.

Depth belongs to pixel centres. Pictures have Lambert shading, a slight blur of half a pixel in place of anti-aliasing, and
sensor noise; shadows and motion blur are left out. A left hand is the mirror image of the whole right-handed world.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.sample.raycast import cast_image
from stages.sample.scene import Part, Scene
from stages.sample.texture import SIZE_PX
from videolift.geometry import Float, invert_pose

LIGHT_WORLD = np.array([-0.45, -0.35, 0.82]) / np.linalg.norm([-0.45, -0.35, 0.82])
AMBIENT, DIFFUSE = 0.55, 0.50
NAIL = (0.88, 0.66, 0.57)
NOISE_LEVELS = 1.2
"""Standard deviation of the sensor noise, of 255."""


def render_frame(
    scene: Scene, frame: int, K: Float, size_px: tuple[int, int], texture: Float
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """RGB u8 (H, W, 3), z-depth f32 (H, W), 0 where nothing is hit, and instance ids u8 (H, W) of one frame."""
    width, height = size_px
    z, index = cast_image(scene, frame, K, size_px)
    u, v = np.meshgrid((np.arange(width) - K[0, 2]) / K[0, 0], (np.arange(height) - K[1, 2]) / K[1, 1])
    points = np.stack([u * z, v * z, z], axis=-1).astype(np.float32)  # enough for colours
    # Sorted by part, so that each part's pixels are worked on together.
    flat, order = index.ravel(), np.argsort(index.ravel(), kind="stable")
    texels = np.zeros((flat.size, 2), np.float32)
    colour, contrast, light = np.zeros((flat.size, 3), np.float32), np.zeros(flat.size, np.float32), np.zeros(flat.size, np.float32)
    ends = np.searchsorted(flat[order], np.arange(len(scene.parts) + 1))
    for i in np.unique(flat):
        part, at = scene.parts[i], order[ends[i] : ends[i + 1]]
        surface = points.reshape(-1, 3)[at]
        colour[at], light[at], texels[at] = _surface(part, surface, scene.T_camera_part[frame, i], part.T_world_part[frame])
        contrast[at] = part.look.contrast
    across, down = np.moveaxis(texels.reshape(height, width, 2), -1, 0)
    pattern = cv2.remap(texture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    image = (colour * light[:, None]).reshape(height, width, 3) * (1 + 2.2 * contrast.reshape(height, width, 1) * pattern)
    # In place of anti-aliasing.
    image = cv2.GaussianBlur(image * 255, (0, 0), 0.5)
    # Its own generator per frame: a shorter clip has the same pictures.
    noise = np.random.default_rng([scene.seed, 13, frame]).standard_normal(image.shape, np.float32)
    rgb = np.clip(np.rint(image + NOISE_LEVELS * noise), 0, 255).astype(np.uint8)
    instance = np.array([part.instance for part in scene.parts], np.uint8)[index]
    return rgb, np.where(np.isfinite(z), z, 0).astype(np.float32), instance


def _surface(part: Part, points_camera: Float, T_camera_part: Float, T_world_part: Float) -> tuple[Float, Float, Float]:
    """Colour (n, 3), light (n) and texture position (n, 2) of surface points (n, 3)."""
    T_part_camera = invert_pose(T_camera_part).astype(np.float32)
    points = points_camera @ T_part_camera[:3, :3].T + T_part_camera[:3, 3]
    normals = part.shape.normal(points)
    light = AMBIENT + DIFFUSE * np.clip(normals @ (T_world_part[:3, :3].T @ LIGHT_WORLD).astype(np.float32), -0.35, 1.0)
    colour = np.tile(np.array(part.look.colour, np.float32), (len(points), 1))
    if part.look.skin:
        # skin is darker where it is seen from the side
        eye = T_part_camera[:3, 3] - points
        facing = np.abs((normals * eye).sum(1)) / np.linalg.norm(eye, axis=1)
        light = light * (0.62 + 0.38 * np.sqrt(facing))
    if part.look.nail:
        # the back (+y) of the outer half of the last bone, which runs along -x
        tip = part.shape.bounds()[0][1, 0]
        colour[(points[:, 0] < 0.45 * tip) & (points[:, 0] > 1.12 * tip) & (normals[:, 1] > 0.80)] = NAIL
    # the texture is projected along the axis that the surface faces most
    axis = np.abs(normals).argmax(1)
    rows = np.arange(len(points))
    across = np.stack([points[rows, (axis + 1) % 3], points[rows, (axis + 2) % 3]], axis=1)
    return colour, light, across * part.look.texels_per_m + (part.look.offset + 0.37 * axis[:, None]) * SIZE_PX
