"""MediaPipe hands inside its own interpreter: RGB frames in, 2D hands out. Imports nothing of ours.

Every region of every frame is looked at alone (`static_image_mode`), so a result depends on its frame and on nothing before it.
MediaPipe's landmarks are shares of the image it sees: x = l.x * width - 0.5 in pixels whose centres are whole numbers. Its label
assumes a selfie, mirrored left to right: what it calls Left is a right hand. Its world landmarks are not even read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

import cv2
import mediapipe
import numpy as np
from numpy.typing import NDArray

hands: mediapipe.solutions.hands.Hands
"""Set by `load`."""


class Limits(TypedDict):
    """Of what counts as a hand."""

    min_confidence: float
    min_presence: float
    max_hands: int


class Regions(TypedDict):
    """Where to look in every frame."""

    regions: list[list[int]]
    min_side_px: int


def load(meta: Limits) -> dict[str, str]:
    """Meta: min_confidence, min_presence, max_hands (per region)."""
    global hands
    # The pool runs several of these beside each other.
    cv2.setNumThreads(1)
    hands = mediapipe.solutions.hands.Hands(
        static_image_mode=True,
        max_num_hands=meta["max_hands"],
        model_complexity=1,
        min_detection_confidence=meta["min_confidence"],
        min_tracking_confidence=meta["min_presence"],  # what the landmark model thinks, also without tracking
    )
    return {"mediapipe": mediapipe.__version__}


def call(
    meta: Regions, arrays: Mapping[str, NDArray[np.uint8]], progress: Callable[[int, int], None]
) -> tuple[dict[str, str], dict[str, NDArray[np.generic]]]:
    """Hands in ``rgb`` u8 (n, H, W, 3), in pixels of the frames.

    Meta: regions [[left, top, right, bottom], ...] of every frame to look at, min_side_px to which a smaller region is enlarged.
    Returns frame i4 (m), region i4 (m), keypoints_px f4 (m, 21, 2), score f4 (m), right f4 (m): the belief that it is a right hand.
    """
    found: list[tuple[int, int, NDArray[np.float64], float, float]] = []
    rgb = arrays["rgb"]
    for i, image in enumerate(rgb):
        for j, region in enumerate(meta["regions"]):
            found += [(i, j, *hand) for hand in hands_in_region(image, region, meta["min_side_px"])]
        progress(i + 1, len(rgb))
    return {}, {
        "frame": np.array([hand[0] for hand in found], np.int32),
        "region": np.array([hand[1] for hand in found], np.int32),
        "keypoints_px": np.array([hand[2] for hand in found], np.float32).reshape(-1, 21, 2),
        "score": np.array([hand[3] for hand in found], np.float32),
        "right": np.array([hand[4] for hand in found], np.float32),
    }


def hands_in_region(
    image: NDArray[np.uint8], region: list[int], min_side_px: int
) -> Iterator[tuple[NDArray[np.float64], float, float]]:
    """Keypoints (21, 2) in pixels of ``image``, score and belief in a right hand, of every hand found in one region."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    scale = max(1.0, min_side_px / min(width, height))
    # MediaPipe takes no views.
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    if scale > 1:
        enlarged = (round(width * scale), round(height * scale))
        crop = np.asarray(cv2.resize(crop, enlarged, interpolation=cv2.INTER_CUBIC), np.uint8)
    result = hands.process(crop)
    for landmarks, handedness in zip(result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True):
        uv = np.array([[point.x * width - 0.5 + left, point.y * height - 0.5 + top] for point in landmarks.landmark])
        label = handedness.classification[0]
        yield uv, label.score, label.score if label.label == "Left" else 1 - label.score
