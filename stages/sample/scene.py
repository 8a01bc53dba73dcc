"""The sample's scene: solids with a colour and a rigid motion each. A hand reaches for a box on a table, grasps and lifts it.

Turns a seed, a camera and times into `Scene`. The hand is a right one; `stages.sample.render` mirrors the finished pictures for a
left one. Knows no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.transform import Rotation

from stages.sample.cameras import PERIOD_S, Camera, camera_path
from stages.sample.hand import bone_shape, palm_shapes, pose_hand
from stages.sample.shapes import Box, Room, RoundCone, Shape
from videolift.geometry import Float, invert_pose, slerp, transform

ROOM, TABLE, HELD_BOX, HAND, FOREARM, FIRST_BOX = 1, 2, 3, 4, 5, 6
"""Instance ids; boxes that stay where they are count on from `FIRST_BOX`."""
MOVING_IDS = (HELD_BOX, HAND, FOREARM)

GRASP_AT, HELD_FROM = 0.42, 0.42
"""Shares of `PERIOD_S`."""
_SHOULDER = np.array([0.30, -0.62, 0.05])
_BOXES: tuple[tuple[tuple[float, float, float], float, float, float, tuple[float, float, float]], ...] = (
    ((0.05, 0.035, 0.06), -0.22, 0.20, 24, (0.30, 0.50, 0.36)),
    ((0.04, 0.04, 0.095), 0.19, 0.27, -31, (0.30, 0.34, 0.60)),
    ((0.075, 0.05, 0.02), -0.19, -0.08, -12, (0.66, 0.62, 0.30)),
    ((0.06, 0.09, 0.035), -0.02, 0.36, 8, (0.45, 0.30, 0.46)),
    ((0.03, 0.03, 0.03), 0.29, 0.06, 40, (0.62, 0.66, 0.62)),
)
"""Those that stay where they are: half sizes, x, y (metres), yaw (degrees), colour."""


@dataclass(frozen=True)
class Look:
    """How a surface looks: linear colour in 0..1 (RGB), contrast of the texture, its texels per metre, whose part it shows."""

    colour: tuple[float, float, float]
    contrast: float
    texels_per_m: float
    offset: float = 0.0
    skin: bool = False
    nail: bool = False


@dataclass(frozen=True)
class Part:
    """A solid that moves rigidly. ``T_world_part`` (T, 4, 4)."""

    shape: Shape
    look: Look
    instance: int
    T_world_part: Float


@dataclass(frozen=True)
class Scene:
    """All parts, camera and hand at T times. ``T_camera_world``, ``T_world_wrist`` (T, 4, 4), ``joints_world`` (T, 21, 3)."""

    parts: tuple[Part, ...]
    T_camera_world: Float
    joints_world: Float
    T_world_wrist: Float
    seed: int

    @cached_property
    def T_camera_part(self) -> Float:
        """(T, P, 4, 4) every part in every frame's camera."""
        return self.T_camera_world[:, None] @ np.stack([part.T_world_part for part in self.parts], axis=1)


def _ease(share: Float, start: float, end: float) -> Float:
    x = np.clip((share - start) / (end - start), 0.0, 1.0)
    eased: Float = x * x * x * (10 - 15 * x + 6 * x * x)
    return eased


def _hand_rotation(fingers: tuple[float, float, float], back: tuple[float, float, float]) -> Float:
    """Hand axes in the world from where the fingers point and roughly where the back of the hand faces."""
    x = -np.array(fingers) / np.linalg.norm(fingers)
    y = np.array(back) - np.dot(back, x) * x
    y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _action(share: Float) -> tuple[Float, Float]:
    """``T_world_wrist`` (T, 4, 4) and how far the fingers are closed (T), over shares (T) of the action.

    Its keys: waiting, above the box, at the box, lifted, carried.
    """
    grasp = np.array(_GRASP_WRIST)
    steps = np.array([[0.10, -0.13, 0.03], [0.035, -0.045, 0.035], [0, 0, 0], [-0.02, -0.02, 0.085], [-0.09, -0.045, 0.075]])
    keys = grasp + steps
    turns = np.stack(
        [
            _hand_rotation((-0.18, 0.97, 0.05), (0.02, -0.05, 1.0)),
            _hand_rotation((-0.28, 0.95, -0.08), (0.10, 0.05, 1.0)),
            _hand_rotation(*_GRASP_AXES),
            _hand_rotation((-0.38, 0.92, -0.08), (0.22, 0.02, 0.97)),
            _hand_rotation((-0.55, 0.83, -0.05), (0.15, 0.0, 0.98)),
        ]
    )
    begins = ((0.02, 0.24), (0.20, 0.34), (0.46, 0.72), (0.68, 0.98))
    # Spans overlap, so that the hand never stops between two keys.
    way = np.stack([_ease(share, *span) for span in begins])
    T = np.tile(np.eye(4), (len(share), 1, 1))
    T[:, :3, 3] = keys[0] + np.einsum("kt,kc->tc", way, np.diff(keys, axis=0))
    T[:, :3, :3] = slerp(np.arange(len(keys)), turns, way.sum(0))
    return T, 0.25 * _ease(share, 0.05, 0.2) + 0.75 * _ease(share, 0.30, GRASP_AT)


_GRASP_WRIST = (0.065, -0.07, 0.117)
_GRASP_AXES = ((-0.34, 0.92, -0.16), (0.20, 0.10, 0.97))


def _held_box(T_world_wrist: Float, share: Float) -> tuple[Box, Float]:
    """The box between thumb and fingers, sized and placed from the closed hand, at rest until it is held."""
    T_grasp, _ = _action(np.array([HELD_FROM]))
    joints = transform(T_grasp[0], pose_hand(np.ones(1))[0][0])
    thumb, fingers = joints[4], joints[[8, 12, 16]].mean(0)
    across = (fingers - thumb) * [1, 1, 0]
    width = float(np.linalg.norm(across)) - 0.0145  # joints lie inside the flesh, about 7 mm on either side
    yaw = np.arctan2(across[1], across[0])
    height = 0.105
    T_rest = np.eye(4)
    T_rest[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    T_rest[:3, 3] = [*((fingers + thumb) / 2)[:2], height / 2]
    carried = T_world_wrist @ invert_pose(T_grasp[0]) @ T_rest
    return Box((width / 2, 0.036, height / 2)), np.where((share >= HELD_FROM)[:, None, None], carried, T_rest)


def _still(frames: int, xyz: tuple[float, float, float], yaw_deg: float = 0.0) -> Float:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix(), xyz
    return np.broadcast_to(T, (frames, 4, 4))


def _arm(T_world_wrist: Float, T_wrist_bone: Float) -> list[Part]:
    skin = (0.78, 0.52, 0.40)
    look = Look(skin, 0.030, 1500, 0.3, skin=True)
    parts = [Part(shape, look, HAND, T_world_wrist) for shape in palm_shapes()]
    for finger in range(5):
        for bone in range(3):
            own = Look(skin, 0.030, 1500, 0.05 * finger, skin=True, nail=bone == 2)
            parts.append(Part(bone_shape(finger, bone), own, HAND, T_world_wrist @ T_wrist_bone[:, finger, bone]))
    # the forearm starts at the wrist and points to the shoulder, which stays where it is
    along = _SHOULDER - T_world_wrist[:, :3, 3]
    x = along / np.linalg.norm(along, axis=1, keepdims=True)
    z = np.cross(x, T_world_wrist[:, :3, 1])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    T_world_forearm = T_world_wrist.copy()
    T_world_forearm[:, :3, :3] = np.stack([x, np.cross(z, x), z], axis=-1)
    parts.append(Part(RoundCone((0.004, -0.003, 0), (0.17, -0.004, 0), 0.0215, 0.034), look, FOREARM, T_world_forearm))
    sleeve = Look((0.16, 0.22, 0.40), 0.12, 900, 0.7)
    parts.append(Part(RoundCone((0.15, -0.004, 0), (0.42, -0.004, 0), 0.043, 0.052), sleeve, FOREARM, T_world_forearm))
    return parts


def build_scene(camera: Camera, pts_seconds: Float, seed: int) -> Scene:
    """The scene at ``pts_seconds`` (T); after `PERIOD_S` the action runs back, and so on."""
    frames = len(pts_seconds)
    # To and fro, so that a longer clip goes on without a jump.
    turn = pts_seconds / PERIOD_S % 2.0
    share = np.minimum(turn, 2.0 - turn)
    T_world_wrist, closed = _action(share)
    joints, T_wrist_bone = pose_hand(closed)
    box, T_world_box = _held_box(T_world_wrist, share)
    held = Part(box, Look((0.80, 0.42, 0.20), 0.16, 1000, 0.55), HELD_BOX, T_world_box)
    room = Part(Room((1.7, 1.5, 1.25)), Look((0.66, 0.65, 0.62), 0.12, 230, 0.1), ROOM, _still(frames, (0, 0.35, 0.5)))
    table = Part(Box((0.62, 0.42, 0.02)), Look((0.47, 0.53, 0.56), 0.105, 620, 0.4), TABLE, _still(frames, (0, 0.12, -0.02)))
    boxes = [
        Part(Box(half), Look(colour, 0.16, 900, 0.13 * i), FIRST_BOX + i, _still(frames, (x, y, half[2]), yaw))
        for i, (half, x, y, yaw, colour) in enumerate(_BOXES)
    ]
    parts = (room, table, *boxes, held, *_arm(T_world_wrist, T_wrist_bone))
    E = camera_path(camera, pts_seconds, seed)
    joints_world = transform(T_world_wrist, joints)
    return Scene(parts, E, joints_world=joints_world, T_world_wrist=T_world_wrist, seed=seed)
