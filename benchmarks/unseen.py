"""Clips that nothing was tuned on: the sample's action in 40 frames instead of 60, other seeds, fainter textures, noise."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from stages.sample import Truth
from stages.sample.cameras import Camera
from stages.sample.clips import FOCAL_SHARE, FPS
from stages.sample.render import render_frame
from stages.sample.scene import HAND, MOVING_IDS, Scene, build_scene
from stages.sample.texture import SIZE_PX
from videolift.geometry import Float, pinhole

FRAMES, SIZE = 40, (512, 384)
CAMERAS: tuple[Camera, ...] = ("orbit", "handheld", "tripod")
CONTRAST = 0.25
"""Of the sample's."""
NOISE_LEVELS = 1.6
"""On top of the renderer's own, so that there are 2 of 255."""


def render_unseen(camera: Camera, seed: int, *, speed: float = 1.5) -> Truth:
    """A clip of a right hand; it and the camera move ``speed`` times as fast as in the sample."""
    K = pinhole(FOCAL_SHARE * max(SIZE), *SIZE)
    pts_seconds = np.arange(FRAMES) * speed / FPS
    rng = np.random.default_rng([seed, 29])
    scene, texture = _other_looks(build_scene(camera, pts_seconds, seed), rng), _blobs(rng)
    rgb, depth_m, instance = (
        np.stack(images) for images in zip(*(render_frame(scene, k, K, SIZE, texture) for k in range(FRAMES)), strict=True)
    )
    noisy = rgb + NOISE_LEVELS * rng.standard_normal(rgb.shape, np.float32)
    rgb = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return Truth(
        name=f"{camera}, seed {seed}, x {speed:g}",
        rgb=rgb,
        depth_m=depth_m,
        K=K,
        T_camera_world=scene.T_camera_world,
        instance=instance,
        moving_ids=MOVING_IDS,
        hand_id=HAND,
        pts_seconds=pts_seconds,
        side="right",
        joints_world=scene.joints_world,
        T_world_wrist=scene.T_world_wrist,
        scene=scene,
    )


def _other_looks(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same solids with fainter textures of other scales."""
    scales = np.exp(rng.uniform(-0.4, 0.4, len(scene.parts)))
    looks = [
        replace(part.look, contrast=CONTRAST * part.look.contrast, texels_per_m=scale * part.look.texels_per_m)
        for part, scale in zip(scene.parts, scales, strict=True)
    ]
    return replace(scene, parts=tuple(replace(part, look=look) for part, look in zip(scene.parts, looks, strict=True)))


def _blobs(rng: np.random.Generator) -> Float:
    """f32 (SIZE_PX, SIZE_PX, 3), mean 0: soft blobs of two sizes, without the edges and octaves of the sample's texture."""
    out = np.zeros((SIZE_PX, SIZE_PX, 3), np.float32)
    for sigma_px in (4.0, 16.0):
        noise = np.fft.fft2(rng.standard_normal((SIZE_PX, SIZE_PX)))
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE_PX), np.fft.fftfreq(SIZE_PX)))
        smooth = np.fft.ifft2(noise * np.exp(-2 * (np.pi * sigma_px * frequency) ** 2)).real
        out += (0.5 * smooth / smooth.std())[..., None].astype(np.float32)
    return np.asarray(cv2.GaussianBlur(out - out.mean(), (0, 0), 0.5))
