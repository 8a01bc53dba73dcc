"""State and action of hands, as policies want them: pure functions of a video's hand and camera poses.

Definitions, units and frames are in docs/training.md. A pose is its translation and the first two columns of its rotation (rot6d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.hands import JOINTS, SIDES
from videolift.dataset.file import PackagedFile
from videolift.dataset.windows import Bools
from videolift.errors import ConfigError
from videolift.geometry import Float, invert_pose, rotation_6d, rotation_from_6d

StateFrame = Literal["world", "camera", "start"]
ActionKind = Literal["absolute", "delta"]

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_TIPS = [JOINTS.index(f"{finger}_4") for finger in _FINGERS]
_CHAINS = [[0, *(JOINTS.index(f"{finger}_{bone}") for bone in range(1, 5))] for finger in _FINGERS[1:]]
"""Joints from the wrist to the tip of each finger but the thumb."""
_ROTATION = slice(3, 9)


@dataclass(frozen=True)
class StateSpec:
    """What one state holds, per hand and in this order: wrist position (3) and rot6d (6), then as chosen.

    Attributes:
        frame: what positions and rotations are relative to: the video's ``world``, the ``camera`` of the observed frame, or the
            camera at the ``start`` of the episode.
        hands: sides, in this order.
        closure: how far four fingers are bent (1): 0 straight, about 0.7 a fist.
        aperture: distance of the tips of thumb and index finger (1).
        fingertips: positions of the five tips in the wrist's own frame (15).
        action: ``absolute`` is the state of the next frame; ``delta`` what leads there: differences, and for rotations
            R(next) R(now)^T.
    """

    frame: StateFrame = "world"
    hands: tuple[str, ...] = SIDES
    closure: bool = True
    aperture: bool = True
    fingertips: bool = False
    action: ActionKind = "absolute"

    def __post_init__(self) -> None:
        if self.frame not in ("world", "camera", "start"):
            raise ConfigError(f"frame is {self.frame!r}, it must be world, camera or start")
        if self.action not in ("absolute", "delta"):
            raise ConfigError(f"action is {self.action!r}, it must be absolute or delta")
        if not self.hands or not set(self.hands) <= set(SIDES) or len(set(self.hands)) < len(self.hands):
            raise ConfigError(f"hands is {self.hands}, it must name left, right or both")

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every number."""
        axes = ("x", "y", "z")
        one = [*(f"wrist.{axis}" for axis in axes), *(f"wrist.rot6d_{i}" for i in range(6))]
        one += ["closure"] if self.closure else []
        one += ["aperture"] if self.aperture else []
        one += [f"{finger}_tip.{axis}" for finger in _FINGERS for axis in axes] if self.fingertips else []
        return tuple(f"{side}.{name}" for side in self.hands for name in one)

    @property
    def per_hand(self) -> int:
        """Numbers per hand."""
        return len(self.names) // len(self.hands)


@dataclass(frozen=True)
class HandTrack:
    """Both hands over a video, NaN where not known.

    Attributes:
        T_world_wrist: (T, 2, 4, 4).
        T_camera_world: (T, 4, 4).
        shape: (T, 2, 17) closure, aperture, and the five tips in the wrist's frame.
    """

    T_world_wrist: Float
    T_camera_world: Float
    shape: Float

    def __len__(self) -> int:
        return len(self.T_world_wrist)

    @classmethod
    def of(cls, file: PackagedFile, start: int = 0, stop: int | None = None) -> HandTrack | None:
        """The hands of a packaged file over some frames; None where it has no hands or no camera."""
        if not (file.has("hands/T_camera_wrist") and file.has("camera/T_camera_world")):
            return None
        part = slice(start, stop)
        valid = file.array("hands/valid", part) & file.array("camera/pose_valid", part)[:, None]
        T_camera_wrist = np.array(file.array("hands/T_camera_wrist", part), np.float64)
        # A pose may be stored where the camera's is not known; it has no place in the world.
        T_camera_wrist[~valid] = np.nan
        return track_of(T_camera_wrist, file.array("camera/T_camera_world", part), file.array("hands/joints_camera", part))

    def known(self, spec: StateSpec) -> Bools:
        """(T, hands) True where everything that the state holds of a hand is known."""
        return np.asarray(np.isfinite(self._values(spec, np.eye(4))).all(-1))

    def states(self, spec: StateSpec, T_ref_world: ArrayLike) -> tuple[Float, Bools]:
        """States (T, D) in a frame of reference, 0 where not known, and what is known (T, hands)."""
        values = self._values(spec, np.asarray(T_ref_world, np.float64))
        known: Bools = np.asarray(np.isfinite(values).all(-1))
        # Not NaN: one in a batch makes the loss of all of it NaN, whatever the mask says.
        values[~known] = 0.0
        return values.reshape(len(self), -1), known

    @property
    def points_world(self) -> Float:
        """(T, 2, 6, 3) wrist and fingertips, by which motion is told from rest."""
        tips = self.shape[..., 2:].reshape(*self.shape.shape[:-1], 5, 3)
        points = np.concatenate([np.zeros_like(tips[..., :1, :]), tips], -2)
        R, t = self.T_world_wrist[..., None, :3, :3], self.T_world_wrist[..., None, :3, 3]
        return np.asarray((R @ points[..., None])[..., 0] + t)

    def _values(self, spec: StateSpec, T_ref_world: Float) -> Float:
        sides = [SIDES.index(side) for side in spec.hands]
        T = T_ref_world @ self.T_world_wrist[:, sides]
        parts = [T[..., :3, 3], rotation_6d(T[..., :3, :3])]
        shape = self.shape[:, sides]
        parts += [shape[..., :1]] if spec.closure else []
        parts += [shape[..., 1:2]] if spec.aperture else []
        parts += [shape[..., 2:]] if spec.fingertips else []
        return np.concatenate(parts, -1)


def track_of(T_camera_wrist: ArrayLike, T_camera_world: ArrayLike, joints_camera: ArrayLike) -> HandTrack:
    """A track from poses in each frame's camera (T, 2, 4, 4), (T, 4, 4) and joints (T, 2, 21, 3)."""
    T_camera_wrist, E = np.asarray(T_camera_wrist, np.float64), np.asarray(T_camera_world, np.float64)
    return HandTrack(invert_pose(E)[:, None] @ T_camera_wrist, E, hand_shape(T_camera_wrist, joints_camera))


def hand_shape(T_camera_wrist: Float, joints_camera: ArrayLike) -> Float:
    """Closure, aperture and fingertips (..., 17) of hands with joints (..., 21, 3); NaN where joints are.

    Closure is the mean over four fingers of 1 - (distance from wrist to tip) / (length of the bones between).
    """
    joints = np.asarray(joints_camera, np.float64)
    bent = []
    for chain in _CHAINS:
        along = np.linalg.norm(np.diff(joints[..., chain, :], axis=-2), axis=-1).sum(-1)
        straight = np.linalg.norm(joints[..., chain[-1], :] - joints[..., 0, :], axis=-1)
        bent.append(1 - straight / np.maximum(along, 1e-9))  # all joints in one place: not a finger, but no reason to divide by 0
    aperture = np.linalg.norm(joints[..., _TIPS[0], :] - joints[..., _TIPS[1], :], axis=-1)
    R, t = T_camera_wrist[..., None, :3, :3], T_camera_wrist[..., None, :3, 3]
    tips = (np.swapaxes(R, -1, -2) @ (joints[..., _TIPS, :] - t)[..., None])[..., 0]
    return np.concatenate([np.mean(bent, 0)[..., None], aperture[..., None], tips.reshape(*tips.shape[:-2], 15)], -1)


def actions_between(states: Float, spec: StateSpec) -> Float:
    """Actions (n, D) that lead from state to state; ``states`` (n + 1, D) are in one frame of reference."""
    if spec.action == "absolute":
        return states[1:].copy()
    actions = np.diff(states, axis=0)
    for hand in _hands(spec):
        with np.errstate(invalid="ignore", divide="ignore"):  # an unknown hand is 0, which is not a rotation
            R = rotation_from_6d(states[:, hand][:, _ROTATION])
        actions[:, hand][:, _ROTATION] = rotation_6d(R[1:] @ np.swapaxes(R[:-1], -1, -2))
    return actions


def apply_action(state: ArrayLike, action: ArrayLike, spec: StateSpec) -> Float:
    """The state (D) that ``action`` (D) leads to from ``state`` (D)."""
    state, action = np.asarray(state, np.float64), np.asarray(action, np.float64)
    if spec.action == "absolute":
        return action.copy()
    following = state + action
    for hand in _hands(spec):
        if not action[hand].any():
            following[hand] = 0  # a hand that is not known stays so
            continue
        R = rotation_from_6d(action[hand][_ROTATION]) @ rotation_from_6d(state[hand][_ROTATION])
        following[hand][_ROTATION] = rotation_6d(R)
    return np.asarray(following)


def wrist_poses(states: ArrayLike, spec: StateSpec) -> Float:
    """``T_ref_wrist`` (..., hands, 4, 4) of states (..., D)."""
    states = np.asarray(states, np.float64)
    values = states.reshape(*states.shape[:-1], len(spec.hands), spec.per_hand)
    T = np.zeros((*values.shape[:-1], 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = rotation_from_6d(values[..., _ROTATION]), values[..., :3], 1.0
    return T


@dataclass(frozen=True)
class ActionChunk:
    """What a policy sees at one frame, and the ``H`` steps after it.

    Attributes:
        state: (D) f32, 0 for a hand that is not known.
        state_valid: (hands).
        actions: (H, D) f32, 0 where padded.
        is_pad: (H) True from the first step on that leaves the episode, or whose hand is not known.
    """

    state: NDArray[np.float32]
    state_valid: Bools
    actions: NDArray[np.float32]
    is_pad: Bools


def reference_pose(spec: StateSpec, T_camera_world: ArrayLike, T_start_world: ArrayLike) -> Float:
    """``T_ref_world`` (4, 4), given the cameras of the observed frame and of the episode's start."""
    if spec.frame == "world":
        return np.eye(4)
    return np.array(T_camera_world if spec.frame == "camera" else T_start_world, np.float64)


def action_chunk(ahead: HandTrack, spec: StateSpec, horizon: int, T_start_world: ArrayLike) -> ActionChunk:
    """State at the first frame of ``ahead``, and up to ``horizon`` actions, all in one frame of reference.

    Actions end with ``ahead``, and where the set of known hands changes.

    Args:
        ahead: from the observed frame on, not beyond its episode; of more than ``horizon`` + 1 frames the rest is left alone.
        spec: what state and action hold.
        horizon: actions.
        T_start_world: camera at the episode's start.
    """
    states, known = ahead.states(spec, reference_pose(spec, ahead.T_camera_world[0], T_start_world))
    states, known = states[: horizon + 1], known[: horizon + 1]
    # A hand that appears or is lost ends the chunk: a number for it would be made up.
    steady = (known == known[0]).all(1) & known[0].any()
    steps = max((len(steady) if steady.all() else int(np.argmin(steady))) - 1, 0)
    actions = np.zeros((horizon, states.shape[1]), np.float32)
    if steps:
        actions[:steps] = actions_between(states[: steps + 1], spec)
        # An unknown hand's state is 0, and so its action must be: what leads from 0 to 0 as a rotation is not.
        for hand, is_known in zip(_hands(spec), known[0], strict=True):
            if not is_known:
                actions[:, hand] = 0
    return ActionChunk(states[0].astype(np.float32), known[0], actions, np.arange(horizon) >= steps)


def _hands(spec: StateSpec) -> list[slice]:
    return [slice(i * spec.per_hand, (i + 1) * spec.per_hand) for i in range(len(spec.hands))]
