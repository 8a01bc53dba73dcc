"""The palm: six points that move as one, where they are on a hand and where a detector sees them.

Points are in metres in the hand frame of `videolift.artifacts.hands` (origin at the true wrist; right hand fingers -x, back of the
hand +y, thumb side +z; left hand the mirror in x), in the order of `PALM_JOINTS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videolift.geometry import Float, mirror_points

TRUE_PALM_M = np.array(
    [
        [0.000, 0.000, 0.000],
        [-0.025, -0.014, 0.027],
        [-0.090, -0.006, 0.021],
        [-0.094, -0.002, -0.002],
        [-0.086, -0.005, -0.023],
        [-0.073, -0.010, -0.040],
    ]
)
"""A grown-up's right palm (an 18 to 19 cm hand), rounded; our own numbers."""
SEEN_SIZE = 0.68
"""Size of the palm that MediaPipe sees on real hands, as a share of the true one. With it distances by PnP are off by a few per
cent in the median, with the true size by 48 % (tracked egocentric video)."""
SEEN_AHEAD_M = np.array([-0.028, -0.012, 0.008])
"""Where the wrist that MediaPipe sees on them lies, from the true one."""
SEEN_LEAN_RAD = np.radians([13.0, 4.0, -13.0])
"""How a right palm that it sees so leans against the true one, a rotation vector: within 8 degrees of this on each of three tracked
clips and both sides. With it wrists by the palm's size are turned by 12 degrees in the median where they were by 21 (fitted on two
clips, judged on the third)."""
PALM_WEIGHTS = np.array([0.7, 0.7, 1.0, 1.0, 1.0, 1.0])
"""How far each point is believed: the wrist and the thumb's root wander along the forearm where a sleeve or the border hides it."""


@dataclass(frozen=True)
class Palm:
    """One side's palm in a detector's eyes.

    Attributes:
        seen_m: (6, 3) the points as the detector usually sees them, before they lean.
        true_m: (6, 3) the points of a true palm.
        lean_rad: (3) rotation vector from the true palm's attitude to that of the one that is seen.
    """

    seen_m: Float
    true_m: Float
    lean_rad: Float

    @classmethod
    def of(cls, side: str) -> Palm:
        """MediaPipe's palm of the left or the right hand."""
        seen_m = SEEN_SIZE * TRUE_PALM_M + SEEN_AHEAD_M
        if side == "right":
            return cls(seen_m, TRUE_PALM_M.copy(), SEEN_LEAN_RAD.copy())
        # A rotation vector in a mirror: the part along x stays, the others change their sign.
        return cls(mirror_points(seen_m), mirror_points(TRUE_PALM_M), SEEN_LEAN_RAD * [1, -1, -1])

    def points_m(self, size: float = 1.0) -> Float:
        """The points (6, 3) of a palm seen ``size`` times as large as usual.

        One that is measured as large as a true palm is one, upright and its wrist where the detector says; in between lies what is
        between.
        """
        truth = (size - 1) / (1 / SEEN_SIZE - 1)
        upright = self.seen_m + truth * (self.true_m - self.seen_m)
        return np.asarray(upright @ cv2.Rodrigues((1 - truth) * self.lean_rad)[0].T)
