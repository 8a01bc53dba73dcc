"""Depth: z-depth per frame, camera poses and intrinsics of one clip."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.base import Artifact, ArtifactWriter
from videolift.artifacts.fields import BITSHUFFLE, Field
from videolift.geometry import is_rotation

Scale = Literal["metric", "hand", "arbitrary", "assumed"]
Pose = Literal["slam", "sfm", "rotation", "static", "given"]
Intrinsics = Literal["given", "named", "estimated", "assumed"]
"""How K is known: by the user's calibration, by a camera's name and nominal values, from the videos themselves, or as a guess."""
FLOAT16_MAX = 65504.0
"""Beyond it float16 is infinite."""

_FIELDS = (
    # Float16, packed without loss: from 0.5 to 4 m it steps by 0.5 to 2 mm, and fixed point in millimetres packs no smaller.
    Field("depth", "f2", (-1, None, None), chunk=1, codec=BITSHUFFLE),
    Field("T_camera_world", "f4", (-1, 4, 4)),
    Field("pose_valid", "?", (-1,)),
    Field("K", "f4", (3, 3)),
)


class DepthWriter(ArtifactWriter):
    """Writes a `Depth`. `put(K=...)` once; `declare` once."""

    FORMAT, VERSION, FIELDS, ROWS = "videolift.depth", 1, _FIELDS, "pose_valid"

    def append_frames(self, depth: ArrayLike, T_camera_world: ArrayLike, pose_valid: ArrayLike) -> None:
        """Adds frames: ``depth`` z (n, H, W), ``T_camera_world`` (n, 4, 4), ``pose_valid`` bool (n).

        Depth that is not finite, not positive or beyond float16 becomes 0, invalid; a pose that is not valid becomes NaN.
        """
        z = np.asarray(depth, np.float32)
        # Beyond float16 it would be stored as infinite, and sums over the image with it.
        z = np.where(np.isfinite(z) & (z > 0) & (z <= FLOAT16_MAX), z, 0.0)
        valid = np.asarray(pose_valid, bool)
        poses = np.where(valid[:, None, None], np.asarray(T_camera_world, np.float32), np.nan)
        self.append(depth=z.astype(np.float16), T_camera_world=poses, pose_valid=valid)

    def declare(
        self, *, backend: str, tier: Literal["A", "B", "C", "D"], scale: Scale, pose: Pose, intrinsics: Intrinsics, **quality: Any
    ) -> None:
        """States what the depth is worth (the terms are in docs/format.md); ``quality`` are the backend's own figures."""
        self.describe(backend=backend, tier=tier, scale=scale, pose=pose, intrinsics=intrinsics, quality=quality)


class Depth(Artifact):
    """z-depth f16 (T, H, W) with 0 invalid, ``K`` (3, 3), ``T_camera_world`` (T, 4, 4) with NaN where the pose is not valid."""

    FORMAT, VERSION, FIELDS = "videolift.depth", 1, _FIELDS

    def _validate(self) -> None:
        lengths = {self.array(name).shape[0] for name in ("depth", "T_camera_world", "pose_valid")}
        self._require(len(lengths) == 1, f"fields differ in length: {sorted(lengths)}")
        E, valid = self.T_camera_world, self.pose_valid
        self._require(bool(is_rotation(E[valid, :3, :3]).all()), "T_camera_world holds a matrix that is not a rotation")

    def __len__(self) -> int:
        return int(self.array("pose_valid").shape[0])

    def __getitem__(self, frames: int | slice) -> NDArray[np.float16]:
        """z-depth of one frame (H, W) or of a slice (n, H, W)."""
        if isinstance(frames, (int, np.integer)):
            frames = range(len(self))[frames]
        return self.read("depth", frames)

    @property
    def K(self) -> NDArray[np.float32]:
        """Intrinsics (3, 3) in pixels of the clip's size."""
        return self.read("K")

    @property
    def T_camera_world(self) -> NDArray[np.float32]:
        """Extrinsics (T, 4, 4), world to camera."""
        return self.read("T_camera_world")

    @property
    def pose_valid(self) -> NDArray[np.bool_]:
        """(T), False where the camera pose is not known."""
        return self.read("pose_valid")

    @property
    def tier(self) -> str:
        """A sensor, B learned, C structure from motion, D prior."""
        return str(self.attrs["tier"])

    @property
    def scale(self) -> Scale:
        """metric, hand, arbitrary or assumed."""
        scale: Scale = self.attrs["scale"]
        return scale
