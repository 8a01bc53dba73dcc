"""The four clips of the sample by id, and how each is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.sample.cameras import Camera
from stages.sample.render import render_frame
from stages.sample.scene import HAND, MOVING_IDS, build_scene
from stages.sample.texture import make_texture
from stages.sample.truth import Side, Truth
from videolift.geometry import MIRROR_X, Float, pinhole

FPS = 10.0
FOCAL_SHARE = 5 / 6
"""Focal length as a share of the long side: a horizontal view of 62 degrees in landscape."""


@dataclass(frozen=True)
class ClipSpec:
    """How a clip of the sample is made; ``rgbd``: its depth is given to the user of the sample."""

    camera: Camera
    side: Side
    width: int
    height: int
    rgbd: bool
    text: str


CLIPS: dict[str, ClipSpec] = {
    "orbit_rgbd": ClipSpec("orbit", "right", 512, 384, True, "pick up the box with the right hand"),
    "handheld_rgbd": ClipSpec("handheld", "left", 512, 384, True, "pick up the box with the left hand"),
    "tripod_rgbd": ClipSpec("tripod", "right", 384, 512, True, "pick up the box with the right hand"),
    "orbit": ClipSpec("orbit", "right", 512, 384, False, "pick up the box with the right hand"),
}


def render(
    name: str,
    *,
    frames: int = 60,
    width: int | None = None,
    height: int | None = None,
    seed: int = 0,
    camera: Camera | None = None,
    side: Side | None = None,
) -> Truth:
    """Renders a clip of `CLIPS`; what is None is as the clip says. Equal arguments give equal arrays.

    A clip of fewer than 60 frames is the beginning of the whole; a longer one goes on to and fro.

    Raises:
        ValueError: no clip of that name.
    """
    if name not in CLIPS:
        raise ValueError(f"no clip {name!r} in the sample; there are {', '.join(CLIPS)}")
    spec = CLIPS[name]
    size_px = (width or spec.width, height or spec.height)
    side = side or spec.side
    # By the long side, so that portrait and landscape are one camera turned.
    K = pinhole(FOCAL_SHARE * max(size_px), *size_px)
    pts_seconds = np.arange(frames) / FPS
    scene, texture = build_scene(camera or spec.camera, pts_seconds, seed), make_texture(seed)
    rgb, depth_m, instance = (
        np.stack(a) for a in zip(*(render_frame(scene, k, K, size_px, texture) for k in range(frames)), strict=True)
    )
    E, joints, wrist = scene.T_camera_world, scene.joints_world, scene.T_world_wrist
    if side == "left":
        # A left hand is the whole world in a mirror: depth stays exact, and no second hand is modelled.
        rgb, depth_m, instance = (np.ascontiguousarray(np.flip(a, 2)) for a in (rgb, depth_m, instance))
        E, joints, wrist = _mirror(E), joints * [-1.0, 1.0, 1.0], _mirror(wrist)
    return Truth(
        name=name,
        rgb=rgb,
        depth_m=depth_m,
        K=K,
        T_camera_world=E,
        instance=instance,
        moving_ids=MOVING_IDS,
        hand_id=HAND,
        pts_seconds=pts_seconds,
        side=side,
        joints_world=joints,
        T_world_wrist=wrist,
        scene=scene,
    )


def _mirror(T: Float) -> Float:
    """``M T M`` of rigid transforms (T, 4, 4): the same motion in the world seen in a mirror."""
    M = np.eye(4)
    M[:3, :3] = MIRROR_X
    return M @ T @ M
