"""MediaPipe hands inside its own interpreter: RGB frames in, 2D hands out. Imports nothing of ours.

Every region of every frame is looked at alone (`static_image_mode`), so a result depends on its frame and on nothing before it.
MediaPipe's landmarks are shares of the image it sees: x = l.x * width - 0.5 in pixels whose centres are whole numbers. Its label
assumes a selfie, mirrored left to right: what it calls Left is a right hand. Its world landmarks are not even read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import mediapipe
import numpy as np

hands = None


def load(meta: dict) -> dict:
    """Meta: min_confidence, min_presence, max_hands (per region)."""
    global hands
    cv2.setNumThreads(1)
    hands = mediapipe.solutions.hands.Hands(
        static_image_mode=True,
        max_num_hands=meta["max_hands"],
        model_complexity=1,
        min_detection_confidence=meta["min_confidence"],
        min_tracking_confidence=meta["min_presence"],  # what the landmark model thinks, also without tracking
    )
    return {"mediapipe": mediapipe.__version__}


def call(meta: dict, arrays: dict[str, np.ndarray], progress: Callable[[int, int], None]) -> tuple[dict, dict[str, np.ndarray]]:
    """Hands in ``rgb`` u8 (n, H, W, 3), in pixels of the frames.

    Meta: regions [[left, top, right, bottom], ...] of every frame to look at, min_side_px to which a smaller region is enlarged.
    Returns frame i4 (m), region i4 (m), keypoints_px f4 (m, 21, 2), score f4 (m), right f4 (m): the belief that it is a right hand.
    """
    found = []
    rgb = arrays["rgb"]
    for i, image in enumerate(rgb):
        for j, region in enumerate(meta["regions"]):
            found += [(i, j, *hand) for hand in detect(image, region, meta["min_side_px"])]
        progress(i + 1, len(rgb))
    frame, region, keypoints, score, right = zip(*found, strict=True) if found else ((), (), (), (), ())
    return {}, {
        "frame": np.array(frame, np.int32),
        "region": np.array(region, np.int32),
        "keypoints_px": np.array(keypoints, np.float32).reshape(-1, 21, 2),
        "score": np.array(score, np.float32),
        "right": np.array(right, np.float32),
    }


def detect(image: np.ndarray, region: list[int], min_side_px: int) -> Iterator[tuple[np.ndarray, float, float]]:
    """Keypoints (21, 2) in pixels of ``image``, score and belief in a right hand, of every hand found in one region."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    scale = max(1.0, min_side_px / min(width, height))
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    if scale > 1:
        crop = cv2.resize(crop, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
    result = hands.process(crop)
    for landmarks, handedness in zip(result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True):
        uv = np.array([[point.x * width - 0.5 + left, point.y * height - 0.5 + top] for point in landmarks.landmark])
        label = handedness.classification[0]
        yield uv, label.score, label.score if label.label == "Left" else 1 - label.score
