"""A right hand of bones: from how far the fingers are closed to 21 joints, one rigid frame per bone, and the solids around them.

Hand frame as MANO's: origin at the wrist, fingers -x, back of the hand +y, thumb side +z. Sizes are those of an adult's hand,
rounded from anthropometric tables. A left hand is the mirror image; see `stages.sample.render`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from stages.sample.shapes import RoundCone
from videolift.geometry import Float

KNUCKLES_M = np.array(
    [[-0.024, -0.014, 0.025], [-0.089, -0.003, 0.022], [-0.094, 0.000, -0.001], [-0.086, -0.003, -0.023], [-0.074, -0.009, -0.043]]
)
"""First joint of thumb, index, middle, ring, pinky (5, 3)."""
BONES_M = np.array(
    [[0.044, 0.034, 0.026], [0.042, 0.026, 0.021], [0.046, 0.029, 0.022], [0.042, 0.027, 0.022], [0.033, 0.020, 0.019]]
)
"""Lengths of each finger's three bones (5, 3), nearest the wrist first."""
RADII_M = np.array(
    [
        [0.0145, 0.0120, 0.0105, 0.0080],
        [0.0110, 0.0090, 0.0080, 0.0065],
        [0.0110, 0.0092, 0.0082, 0.0067],
        [0.0105, 0.0088, 0.0078, 0.0063],
        [0.0095, 0.0077, 0.0068, 0.0056],
    ]
)
"""Flesh around each finger's four joints (5, 4)."""
OPEN_DEG = np.array([[0, 8, 5], [8, 14, 8], [6, 14, 8], [8, 15, 8], [12, 16, 8]], float)
CLOSED_DEG = np.array([[8, 20, 18], [36, 42, 20], [40, 44, 20], [42, 46, 22], [44, 48, 24]], float)
"""Flexion of the three joints of each finger (5, 3): open, and around a box of about 5 cm."""
_SPREAD_DEG = (0.0, 7.0, 1.0, -6.0, -14.0)
_THUMB_ALONG, _THUMB_BENDS_TO = np.array([-0.66, -0.26, 0.70]), np.array([-0.35, -0.62, -0.70])


def pose_hand(closed: Float) -> tuple[Float, Float]:
    """Joints (T, 21, 3) in the hand frame, OpenPose order, and ``T_wrist_bone`` (T, 5, 3, 4, 4), for ``closed`` (T) from 0 to 1.

    A bone's frame has its origin at the joint nearer the wrist; the bone runs along -x, flexion turns it about +z towards -y.
    """
    straight: Float = Rotation.from_euler("y", np.array(_SPREAD_DEG)[:, None], degrees=True).as_matrix()
    # the thumb bends across the palm, so its frame is built from where it points and where it bends to
    x = -_THUMB_ALONG / np.linalg.norm(_THUMB_ALONG)
    y = -(_THUMB_BENDS_TO - (_THUMB_BENDS_TO @ x) * x)
    y /= np.linalg.norm(y)
    straight[0] = np.stack([x, y, np.cross(x, y)], axis=1)
    flexion = OPEN_DEG + np.asarray(closed, np.float64)[:, None, None] * (CLOSED_DEG - OPEN_DEG)
    frames = len(flexion)
    joints, T = np.zeros((frames, 21, 3)), np.zeros((frames, 5, 3, 4, 4))
    T[..., 3, 3] = 1.0
    # From the knuckle outwards: each bone bends in the frame of the one before.
    for finger, base in enumerate(straight):
        R, at = np.broadcast_to(base, (frames, 3, 3)), np.broadcast_to(KNUCKLES_M[finger], (frames, 3))
        joints[:, 1 + 4 * finger] = at
        for bone in range(3):
            R = R @ Rotation.from_euler("z", flexion[:, finger, bone, None], degrees=True).as_matrix()
            T[:, finger, bone, :3, :3], T[:, finger, bone, :3, 3] = R, at
            # The next joint: the bone runs along -x of its own frame.
            at = at - R[:, :, 0] * BONES_M[finger, bone]
            joints[:, 2 + 4 * finger + bone] = at
    return joints, T


def bone_shape(finger: int, bone: int) -> RoundCone:
    """The flesh around one bone, in the bone's frame."""
    return RoundCone((0, 0, 0), (-BONES_M[finger, bone], 0, 0), RADII_M[finger, bone], RADII_M[finger, bone + 1])


def palm_shapes() -> list[RoundCone]:
    """The palm, in the hand frame: cones side by side from the wrist to the knuckles and to the spaces between them."""
    heels = np.array([[-0.012, -0.004, 0.010], [-0.008, -0.003, 0.004], [-0.007, -0.003, -0.006], [-0.010, -0.004, -0.013]])
    knuckles = KNUCKLES_M[1:]
    ends = np.concatenate([knuckles, (knuckles[1:] + knuckles[:-1]) / 2 - [-0.004, 0.001, 0]])
    starts = np.concatenate([heels, (heels[1:] + heels[:-1]) / 2])
    cones = [RoundCone(tuple(a), tuple(b), 0.0175, 0.0115) for a, b in zip(starts, ends, strict=True)]
    thumb_root = RoundCone((-0.008, -0.006, 0.008), tuple(KNUCKLES_M[0]), 0.0175, 0.0150)
    web = RoundCone(tuple(KNUCKLES_M[0]), (-0.070, -0.010, 0.018), 0.0140, 0.0095)
    heel_of_hand = RoundCone((-0.014, -0.010, -0.012), (-0.055, -0.013, -0.033), 0.0165, 0.0125)
    return [*cones, thumb_root, web, heel_of_hand]
