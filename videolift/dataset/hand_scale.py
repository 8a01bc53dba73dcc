"""The ``hand`` scale: metres for a video whose depth has an unknown unit, from the size of the hands in it.

A hand's distance in metres follows from its size (the hands stage solved for it); its distance in the depth's unit is read off
the depth map. Their ratio over all measured hands gives one factor for the whole video, good to about 20 %, recorded with its
spread. What is multiplied by it is decided by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.artifacts import PALM_JOINTS, Depth, Hands

MIN_OBSERVATIONS = 10
"""Fewer measured hands than this give no scale."""
MAX_SPREAD = 0.25
"""Ratios that scatter more than this share of their median give no scale: what is given is then good to about 20 %."""
MIN_PIXELS = 30
"""Valid depth pixels that a palm, or its surroundings, must show."""
CONTACT_PERCENTILE = 80.0
"""Against the surface behind a hand, which it touches only now and then, a high percentile of the ratios is the scale."""


@dataclass(frozen=True)
class HandScale:
    """Metres per unit of depth.

    Attributes:
        factor: None where the hands do not give one.
        spread: half the distance between the 16th and 84th percentile of the ratios, as a share of their median.
        observations: hands that gave a ratio.
        source: ``palm``: depth on the hand itself; ``surroundings``: the surface behind it, where the hand has no valid depth.
        reason: why there is no factor; empty otherwise.
    """

    factor: float | None
    spread: float = float("nan")
    observations: int = 0
    source: str = "none"
    reason: str = ""

    def describe(self) -> dict[str, float | int | str | None]:
        """As attributes for the packaged file."""
        spread = None if np.isnan(self.spread) else self.spread
        return {"factor": self.factor, "spread": spread, "hands": self.observations, "source": self.source, "reason": self.reason}


def hand_scale(depth: Depth, hands: Hands, frames: slice = slice(None)) -> HandScale:
    """The scale of one video, or of some frames in a row of it; interpolated hands do not count."""
    ratios: dict[str, list[float]] = {"palm": [], "surroundings": []}
    measured = hands.valid & ~hands.interpolated
    T_camera_wrist, keypoints = hands.T_camera_wrist, hands.keypoints_px
    first, end, _ = frames.indices(len(measured))
    for frame in first + np.flatnonzero(measured[first:end].any(1)):
        z = depth[int(frame)]
        for side in np.flatnonzero(measured[frame]):
            # The palm and not all joints: fingers curl towards the camera and away from it.
            palm_px, wrist_z_m = keypoints[frame, side][list(PALM_JOINTS)], float(T_camera_wrist[frame, side, 2, 3])
            if not np.isfinite(palm_px).all() or wrist_z_m <= 0:
                continue
            # OpenCV's points are 32-bit integers, and a keypoint may be predicted anywhere.
            hull = cv2.convexHull(np.rint(np.clip(palm_px, -1e6, 1e6)).astype(np.int32))
            palm = np.zeros(z.shape, np.uint8)
            cv2.fillConvexPoly(palm, hull, 1)
            # Where the palm shows too little valid depth, a ring around it counts, half a palm wide.
            width = max(3, int(np.ptp(palm_px, axis=0).max() / 2) | 1)
            ring = cv2.dilate(palm, np.ones((width, width), np.uint8)) - palm
            for source, mask in (("palm", palm), ("surroundings", ring)):
                valid = z[(mask > 0) & (z > 0)].astype(np.float64)
                if len(valid) >= MIN_PIXELS:
                    ratios[source].append(wrist_z_m / float(np.median(valid)))
                    break
    # Depth that sees the palms is believed before depth that sees only what is behind them.
    if len(ratios["palm"]) >= len(ratios["surroundings"]):
        return _decide(np.array(ratios["palm"]), "palm", 50.0)
    return _decide(np.array(ratios["surroundings"]), "surroundings", CONTACT_PERCENTILE)


def _decide(ratios: NDArray[np.float64], source: str, percentile: float) -> HandScale:
    if len(ratios) < MIN_OBSERVATIONS:
        return HandScale(
            None, observations=len(ratios), source=source, reason=f"{len(ratios)} hands, {MIN_OBSERVATIONS} are needed"
        )
    # One standard deviation to either side if the ratios were normal; a few wild ones do not move it.
    low, middle, high = np.percentile(ratios, [16, 50, 84])
    spread = float((high - low) / 2 / middle)
    if spread > MAX_SPREAD:
        reason = f"ratios scatter by {spread:.0%}, {MAX_SPREAD:.0%} is allowed"
        return HandScale(None, spread, observations=len(ratios), source=source, reason=reason)
    return HandScale(float(np.percentile(ratios, percentile)), spread, len(ratios), source)
