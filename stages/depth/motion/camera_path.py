"""Where the camera of every frame was, how that is known, and what a person should hear of it. Knows no algorithm."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.depth import Intrinsics, Pose
from videolift.geometry import Float

_ARRAYS = ("T_camera_world", "valid", "K", "scene_depth")


@dataclass(frozen=True, repr=False)
class CameraPath:
    """The camera of every frame of a clip.

    Attributes:
        T_camera_world: (T, 4, 4), lengths in the unit of whoever found it; without meaning where not valid.
        valid: bool (T), where the pose is known.
        K: (3, 3), pixels of the clip.
        pose: how poses are known; sfm with no pose valid where the camera moves but could not be followed.
        intrinsics: how K is known.
        notes: sentences for people.
        figures: numbers for the receipt.
        scene_depth: (T), median depth of the corners mapped and seen in a frame, NaN where not valid; None where motion did not
            show depth.
    """

    T_camera_world: Float
    valid: NDArray[np.bool_]
    K: Float
    pose: Pose
    intrinsics: Intrinsics
    notes: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    scene_depth: Float | None = None

    @classmethod
    def standing(cls, frames: int, K: Float, intrinsics: Intrinsics, *notes: str) -> Self:
        """A camera that never moves: the world is its frame."""
        T_camera_world = np.tile(np.eye(4), (frames, 1, 1))
        return cls(T_camera_world, np.ones(frames, bool), K, pose="static", intrinsics=intrinsics, notes=notes)

    def without_poses(self, *notes: str) -> Self:
        """A camera that may have moved, nobody knows how."""
        return replace(self, valid=np.zeros(len(self), bool), pose="sfm", notes=notes)

    def in_unit(self, unit: float) -> Self:
        """With lengths counted in ``unit``, a length in today's unit."""
        T_camera_world = self.T_camera_world.copy()
        T_camera_world[:, :3, 3] /= unit
        return replace(
            self, T_camera_world=T_camera_world, scene_depth=None if self.scene_depth is None else self.scene_depth / unit
        )

    def __len__(self) -> int:
        return len(self.valid)

    def __repr__(self) -> str:
        return f"CameraPath({self.pose}, {int(self.valid.sum())} of {len(self)} poses, intrinsics {self.intrinsics})"

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """For `stages.segments.kept`."""
        # One string among the arrays: a part of an artifact holds arrays and nothing else.
        words = {"pose": self.pose, "intrinsics": self.intrinsics, "notes": self.notes, "figures": self.figures}
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        return {**arrays, "words": np.array(json.dumps(words))}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Inverse of `to_arrays`."""
        words = json.loads(str(arrays["words"]))
        return cls(
            arrays["T_camera_world"],
            arrays["valid"],
            arrays["K"],
            pose=words["pose"],
            intrinsics=words["intrinsics"],
            notes=tuple(words["notes"]),
            figures=words["figures"],
            scene_depth=arrays.get("scene_depth"),
        )
