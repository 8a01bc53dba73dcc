"""Corners followed from frame to frame: grey frames in, `FeatureTracks` out. Knows no camera and no depth.

Corners (Shi and Tomasi) are followed by pyramidal Lucas-Kanade and dropped where following them back does not return to the start.
A corner keeps its id as long as it lives, so matches between any two frames are the ids they share; no descriptor is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.depth.motion.grey import Grey, GreyFrames
from stages.segments import kept
from videolift.artifacts import ArtifactWriter, Clip

# 3 halvings: the 8 px around a corner then reach 64 px of motion.
_WINDOW_PX, _LEVELS = (17, 17), 3
# Half of `_WINDOW_PX`: nearer corners would be followed by much the same pixels.
_SPACING_PX = 10
_BACK_PX = 0.7
"""A corner followed there and back that misses its start by more is dropped."""
_BORDER_PX = 3
# Of the strongest corner's strength; low, since a plain table has to give corners too.
_QUALITY = 0.003


@dataclass(frozen=True)
class FeatureTracks:
    """Corners of every frame, back to back.

    Attributes:
        ids: int32 (n), ascending within a frame; the same id is the same corner.
        uv_px: float32 (n, 2).
        offsets: int64 (T + 1); frame k holds ``offsets[k]:offsets[k + 1]``.
    """

    ids: NDArray[np.int32]
    uv_px: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"FeatureTracks({len(self)} frames, {len(self.ids)} observations)"

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """For `ArtifactWriter.save_part`; ``FeatureTracks(**arrays)`` is the inverse."""
        return {"ids": self.ids, "uv_px": self.uv_px, "offsets": self.offsets}

    def frame(self, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids (n) and pixels (n, 2) of frame ``k``."""
        part = slice(int(self.offsets[k]), int(self.offsets[k + 1]))
        return self.ids[part], self.uv_px[part]

    def shared_rows(self, a: int, b: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows, within frames ``a`` and ``b``, of the corners both see."""
        _, rows_a, rows_b = np.intersect1d(self.frame(a)[0], self.frame(b)[0], assume_unique=True, return_indices=True)
        return rows_a, rows_b

    def shared(self, a: int, b: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixels (n, 2) in frame ``a`` and in frame ``b`` of the corners both see."""
        rows_a, rows_b = self.shared_rows(a, b)
        return self.frame(a)[1][rows_a], self.frame(b)[1][rows_b]


def clip_features(clip: Clip, out: ArtifactWriter, features: int, progress: Callable[[int], None]) -> FeatureTracks:
    """`follow_features` over a clip; what a killed attempt at ``out`` had followed is read again."""
    return FeatureTracks(**kept(out, "features", lambda: follow_features(GreyFrames(clip), features, progress).to_arrays()))


def follow_features(grey: GreyFrames, features: int, progress: Callable[[int], None]) -> FeatureTracks:
    """Follows about ``features`` corners per frame through the whole clip; ``progress(k)`` is called after frame k."""
    ids: list[NDArray[np.int32]] = []
    points: list[NDArray[np.float32]] = []
    live_ids, live = np.zeros(0, np.int32), np.zeros((0, 2), np.float32)
    born = 0
    for k in range(len(grey)):
        if k and len(live):
            there, found = _lucas_kanade(grey[k - 1], grey[k], live[:, None])
            # A corner that something hides slides onto the edge of what hides it, and going back it ends elsewhere.
            back, returned = _lucas_kanade(grey[k], grey[k - 1], there)
            there, missed = there[:, 0], np.linalg.norm(back[:, 0] - live, axis=1)
            height, width = grey[k].shape
            # Within the border the window of the search leaves the image, and OpenCV repeats pixels there.
            inside = (there > _BORDER_PX).all(1) & (there < (width - 1 - _BORDER_PX, height - 1 - _BORDER_PX)).all(1)
            stays = (found[:, 0] > 0) & (returned[:, 0] > 0) & (missed < _BACK_PX) & inside
            live, live_ids = there[stays], live_ids[stays]
        new = np.zeros((0, 2), np.float32)
        if features > len(live):
            # corners on top of those that live would be the same ones under a second id
            free = np.full(grey[k].shape, 255, np.uint8)
            for x, y in live.round().astype(int):
                cv2.circle(free, (int(x), int(y)), _SPACING_PX, 0, -1)
            corners = cv2.goodFeaturesToTrack(grey[k], features - len(live), _QUALITY, _SPACING_PX, mask=free)
            if corners is not None:
                new = corners.reshape(-1, 2).astype(np.float32)
        # Ids only grow, so ids within a frame ascend, which `shared_rows` counts on.
        live_ids = np.concatenate([live_ids, np.arange(born, born + len(new), dtype=np.int32)])
        live, born = np.concatenate([live, new]), born + len(new)
        ids.append(live_ids)
        points.append(live)
        progress(k)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in ids])]).astype(np.int64)
    return FeatureTracks(np.concatenate(ids), np.concatenate(points), offsets)


def _lucas_kanade(before: Grey, after: Grey, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    # At most 20 steps of the search, fewer where one moves by less than 0.03 px.
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.03)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, np.empty_like(points), winSize=_WINDOW_PX, maxLevel=_LEVELS, criteria=criteria
    )
    return np.asarray(there, np.float32), np.asarray(found, np.uint8)
