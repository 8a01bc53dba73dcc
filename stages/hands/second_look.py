"""A second look: every detected hand again, through a camera turned towards it, from near by.

A detector's single look wanders with the size and place at which it sees a hand, and a wide lens stretches hands towards the
border. The picture of a pinhole camera turned about its own centre is a plain warp of the clip's; in it the hand stands in the
middle, unstretched, always of one size. Half of the looks are in a mirror: what a network gets wrong of one side it gets wrong of
the other there. The median of the looks is the keypoint; how far they disagree says how far to trust it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.hands.identity import Detection
from videolift.geometry import Float

GROWN = (4.5, 6.0)
"""Side of a look as a multiple of the hand. Below 3.5 the palm detector loses hands that it had found, and wrists move."""
LOOKS = tuple((grown, mirrored) for grown in GROWN for mirrored in (False, True))
"""Looks at every hand: how far round it, and whether in a mirror."""
HAND_PX = 80
"""Size of the hand in a look."""
MAX_LOOK_SHIFT = 0.5
"""A hand found in a look is the one that was looked at if its keypoints are within this share of its size."""


@dataclass(frozen=True)
class HandView:
    """A virtual camera that looks at one hand.

    Attributes:
        H_view_clip: (3, 3), pixels of the clip to pixels of the view, homogeneous.
        side_px: the view is a square of this side.
    """

    H_view_clip: Float
    side_px: int

    @classmethod
    def of(cls, keypoints_px: Float, K: Float, grown: float, *, mirrored: bool = False) -> HandView:
        """The view that shows ``grown`` times the hand with these keypoints (21, 2) of a camera ``K`` (3, 3).

        ``mirrored``: with left and right swapped.
        """
        rays = np.c_[keypoints_px, np.ones(len(keypoints_px))] @ np.linalg.inv(K).T
        # Of the box, not of the keypoints: five fingertips would pull the mean away from the wrist.
        middle = (keypoints_px.min(0) + keypoints_px.max(0)) / 2
        # the smallest turn that brings the hand's middle onto the axis: one with a roll would show the hand at another slant
        ray = np.linalg.inv(K) @ np.array([*middle, 1.0])
        turn = np.cross(ray, [0.0, 0.0, 1.0])
        sine = float(np.linalg.norm(turn))
        R = np.asarray(cv2.Rodrigues(turn / sine * np.arctan2(sine, ray[2]))[0]) if sine > 0 else np.eye(3)
        turned = rays @ R.T
        xy = turned[:, :2] / turned[:, 2:]
        side = round(HAND_PX * grown)
        # By the hand's size in angles, so that it fills the same share of every look.
        focal = side / (grown * np.ptp(xy, axis=0).max())
        # Pixel centres are whole numbers, so the middle of ``side`` pixels is (side - 1) / 2.
        across = -focal if mirrored else focal
        K_view = np.array([[across, 0, (side - 1) / 2], [0, focal, (side - 1) / 2], [0, 0, 1]])
        return cls(K_view @ R @ np.linalg.inv(K), side)

    def picture(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view (side, side, 3) of a frame (H, W, 3); black outside the frame."""
        size = (self.side_px, self.side_px)
        return np.asarray(cv2.warpPerspective(rgb, self.H_view_clip, size, flags=cv2.INTER_CUBIC), np.uint8)

    def to_clip(self, uv_view: Float) -> Float:
        """Pixels (..., 2) of the view as those of the clip."""
        q = np.concatenate([uv_view, np.ones((*uv_view.shape[:-1], 1))], -1) @ np.linalg.inv(self.H_view_clip).T
        return np.asarray(q[..., :2] / q[..., 2:])


def the_hand(hand: Detection, found_px: Sequence[Float]) -> int | None:
    """Which of the hands (21, 2) found in a look at ``hand`` it is; None where none is."""
    apart = [float(np.linalg.norm(uv - hand.keypoints_px, axis=1).mean()) / max(hand.size_px, 1.0) for uv in found_px]
    # The other hand may stand in the same picture.
    best = int(np.argmin(apart)) if apart else None
    return best if best is not None and apart[best] <= MAX_LOOK_SHIFT else None


def agreed(hand: Detection, looks_px: Float, looks_right: Float) -> Detection:
    """A detection after further looks at it: median keypoints, mean belief in its side, and how far the looks disagree.

    Args:
        hand: as found first; counts as one look.
        looks_px: (n, 21, 2), NaN where a look did not find it.
        looks_right: (n), NaN where a look says nothing of the side.
    """
    seen = np.isfinite(looks_px).all((1, 2))
    if not seen.any():
        return hand
    # The first look counts too: a median of two is their mean, so one that errs would not be outvoted.
    uv = np.concatenate([hand.keypoints_px[None], looks_px[seen]])
    middle = np.median(uv, axis=0)
    apart = np.linalg.norm(uv - middle, axis=-1).mean(-1)
    size = max(float(np.ptp(middle, axis=0).max()), 1.0)
    right = float(np.mean([hand.right, *looks_right[np.isfinite(looks_right)]]))
    return replace(hand, keypoints_px=middle, right=right, spread=float(np.median(apart)) / size)
