"""Which detection is which hand: tracks through time, and their sides.

Detections of all frames become two lists, of the left and of the right hand. Shared by every hands backend; knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videolift.geometry import Float

SAME_HAND = 0.5
"""Two detections in one frame whose keypoints lie within this share of the hand's size are one hand."""
LINK_REACH = 1.5
"""A hand moves by at most this many of its sizes between frames that are linked."""
LINK_GAP = 5
"""Frames without a detection that a track survives."""


@dataclass(frozen=True)
class Detection:
    """One hand in one frame, as a detector reports it.

    Attributes:
        frame: index in the clip.
        keypoints_px: (21, 2).
        score: 0 to 1.
        right: 0 to 1, the detector's belief that this is a right hand, in a camera's true (not mirrored) image.
    """

    frame: int
    keypoints_px: Float
    score: float
    right: float

    @property
    def centre_px(self) -> Float:
        """Mean keypoint (2)."""
        return np.asarray(self.keypoints_px.mean(0))

    @property
    def size_px(self) -> float:
        """Longer side of the box around the keypoints."""
        return float(np.ptp(self.keypoints_px, axis=0).max())


def without_duplicates(detections: Sequence[Detection]) -> list[Detection]:
    """Of detections in one frame that are the same hand (seen whole and in tiles), the first; the caller puts the best first."""
    kept: list[Detection] = []
    for new in detections:
        apart = [_mean_distance(new, old) / max(new.size_px, old.size_px, 1.0) for old in kept]
        if all(distance > SAME_HAND for distance in apart):
            kept.append(new)
    return kept


def link(detections: Sequence[Detection]) -> list[list[Detection]]:
    """Tracks: detections of one hand through time, each in order of frames. Nearest pairs are linked first."""
    tracks: list[list[Detection]] = []
    alive: list[list[Detection]] = []
    by_frame: dict[int, list[Detection]] = {}
    for detection in detections:
        by_frame.setdefault(detection.frame, []).append(detection)
    for frame in sorted(by_frame):
        free = dict(enumerate(by_frame[frame]))
        waiting = {i: track for i, track in enumerate(alive) if frame - track[-1].frame <= LINK_GAP + 1}
        alive = list(waiting.values())
        pairs = sorted((_apart(track[-1], d), i, j) for i, track in waiting.items() for j, d in free.items())
        for distance, i, j in pairs:
            if distance <= LINK_REACH and i in waiting and j in free:
                waiting.pop(i).append(free.pop(j))
        new = [[d] for d in free.values()]
        tracks += new
        alive += new
    return tracks


def assign_sides(tracks: Sequence[list[Detection]]) -> tuple[list[Detection], list[Detection]]:
    """Detections of the left and of the right hand, at most one per frame and side.

    Every track votes with all its frames, weighted by score, because a single frame's label is often wrong. The surest track
    is placed first; one that would sit on an occupied side for most of its frames takes the other; what then still collides
    belongs to a third hand and is left out.
    """
    sides: tuple[dict[int, Detection], dict[int, Detection]] = ({}, {})
    for track in sorted(tracks, key=lambda t: (-abs(_vote(t)), t[0].frame, tuple(t[0].centre_px))):
        wanted = int(_vote(track) >= 0)
        for side in (wanted, 1 - wanted):
            free = [d for d in track if d.frame not in sides[side]]
            if len(free) * 2 > len(track):
                sides[side].update((d.frame, d) for d in free)
                break
    left, right = ([side[frame] for frame in sorted(side)] for side in sides)
    return left, right


def _vote(track: list[Detection]) -> float:
    return sum(d.score * (2 * d.right - 1) for d in track)


def _mean_distance(a: Detection, b: Detection) -> float:
    return float(np.linalg.norm(a.keypoints_px - b.keypoints_px, axis=1).mean())


def _apart(old: Detection, new: Detection) -> float:
    return float(np.linalg.norm(old.centre_px - new.centre_px)) / max(old.size_px, new.size_px, 1.0)
