"""Hands: poses of the left and the right hand in every frame, in the frame's own camera.

Hand frame as MANO: origin at the wrist; right hand fingers -x, back of the hand +y, thumb side +z; the left hand is the mirror in
x. NaN means invalid or not measured by this backend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videolift.artifacts.base import Artifact, ArtifactWriter
from videolift.artifacts.fields import BITSHUFFLE, Field
from videolift.geometry import is_rotation

SIDES = ("left", "right")
"""The side axis of every hand array."""
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
JOINTS = ("wrist", *(f"{finger}_{i}" for finger in _FINGERS for i in range(1, 5)))
"""OpenPose order of the 21 keypoints; _1 is nearest the wrist, _4 the tip."""
PALM_JOINTS = (0, 1, 5, 9, 13, 17)
"""Wrist, thumb base and the four knuckles: rigid to a good approximation. Wrist poses need all six: without one they are 10 to 20
degrees worse."""
MANO_JOINTS = tuple(f"{finger}_{i}" for finger in ("index", "middle", "pinky", "ring", "thumb") for i in range(1, 4))
"""Order of the 15 rotations in ``mano_pose``."""

METHODS = ("none", "depth", "palm_pnp", "hand_depth", "hand_size")
"""How a frame's wrist was placed, by the number in ``method``: measured depth on the palm, the palm's size in pixels; for a hand
model depth over the whole hand, its size. Frames without a measured wrist have none."""

_FIELDS = (
    Field("valid", "?", (-1, 2)),
    Field("interpolated", "?", (-1, 2)),
    Field("score", "f4", (-1, 2)),
    Field("keypoints_px", "f4", (-1, 2, 21, 2), chunk=64, codec=BITSHUFFLE),
    Field("T_camera_wrist", "f4", (-1, 2, 4, 4), chunk=64, codec=BITSHUFFLE),
    Field("joints_camera", "f4", (-1, 2, 21, 3), chunk=64, codec=BITSHUFFLE),
    Field("mano_pose", "f4", (-1, 2, 15, 3, 3), chunk=64, codec=BITSHUFFLE),
    Field("method", "u1", (-1, 2), optional=True),
    Field("side_known", "?", (-1, 2), optional=True),
    Field("betas", "f4", (2, 10)),
)
_OPTIONAL = {field.name for field in _FIELDS if field.optional}


class HandsWriter(ArtifactWriter):
    """Writes `Hands`; attributes ``backend, wrist_method, has_mano, has_joints`` and others."""

    FORMAT, VERSION, FIELDS, ROWS = "videolift.hands", 1, _FIELDS, "valid"

    def append_frames(self, **arrays: ArrayLike) -> None:
        """Adds frames; every field except ``betas`` (which `put` takes), named as in `Hands`."""
        expected = {field.name for field in _FIELDS if field.axis is not None}
        # A field that is forgotten once leaves its array shorter than the others, and the artifact unreadable.
        if not expected - _OPTIONAL <= set(arrays) <= expected:
            raise ValueError(f"append_frames takes {sorted(expected)}, got {sorted(arrays)}")
        self.append(**arrays)


class Hands(Artifact):
    """Whole arrays, small enough to read at once; lengths in metres unless `wrist_method` says otherwise."""

    FORMAT, VERSION, FIELDS = "videolift.hands", 1, _FIELDS

    def _validate(self) -> None:
        grows = [field.name for field in _FIELDS if field.axis is not None and field.name in self]
        lengths = {self.array(name).shape[0] for name in grows}
        self._require(len(lengths) == 1, f"fields differ in length: {sorted(lengths)}")
        rotations = self.T_camera_wrist[self.valid][:, :3, :3]
        self._require(bool(is_rotation(rotations, 1e-3).all()), "T_camera_wrist holds a matrix that is not a rotation")

    def __len__(self) -> int:
        return int(self.array("valid").shape[0])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(T, 2) True where ``T_camera_wrist`` is known."""
        return self.read("valid")

    @property
    def interpolated(self) -> NDArray[np.bool_]:
        """(T, 2) True where it was filled between measured frames."""
        return self.read("interpolated")

    @property
    def score(self) -> NDArray[np.float32]:
        """(T, 2) the detector's confidence, NaN where nothing was detected."""
        return self.read("score")

    @property
    def keypoints_px(self) -> NDArray[np.float32]:
        """(T, 2, 21, 2) pixels of the clip's size."""
        return self.read("keypoints_px")

    @property
    def T_camera_wrist(self) -> NDArray[np.float32]:
        """(T, 2, 4, 4) wrist frame in the frame's own camera."""
        return self.read("T_camera_wrist")

    @property
    def joints_camera(self) -> NDArray[np.float32]:
        """(T, 2, 21, 3) joints in the frame's own camera."""
        return self.read("joints_camera")

    @property
    def mano_pose(self) -> NDArray[np.float32]:
        """(T, 2, 15, 3, 3) joint rotations relative to their parents."""
        return self.read("mano_pose")

    @property
    def method(self) -> NDArray[np.uint8]:
        """(T, 2) index into `METHODS`; 0 throughout in files that did not record it."""
        return self.read("method") if "method" in self else np.zeros((len(self), 2), np.uint8)

    @property
    def side_known(self) -> NDArray[np.bool_]:
        """(T, 2) False where a hand is seen but nothing tells which of the two it is; True in files that did not record it."""
        return self.read("side_known") if "side_known" in self else np.ones((len(self), 2), bool)

    @property
    def betas(self) -> NDArray[np.float32]:
        """(2, 10) MANO shape, median over valid frames."""
        return self.read("betas")
