"""Which frames are mapped: enough motion apart, in chunks of bounded length that overlap. Pure functions of `FeatureTracks`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stages.depth.motion.features import FeatureTracks

MOTION_PX = 8.0
"""Median motion between keyframes. 8 px gave the accuracy of 3 px at a third of the cost (docs/backends.md)."""
_MIN_SURVIVORS = 0.5
_MAX_FRAMES_APART = 30
"""Frames; a camera that rests still gets a keyframe now and then, so that corners born meanwhile are mapped."""
CHUNK_KEYFRAMES, CHUNK_OVERLAP = 100, 20
"""Keyframes mapped together (at most about 140; 92 take 40 s of CPU and 0.3 GB), and shared with the next chunk."""


def choose_keyframes(tracks: FeatureTracks) -> list[int]:
    """Frames, the first and the last among them, between which corners move by about `MOTION_PX` or half of them are lost."""
    chosen = [0]
    for k in range(1, len(tracks)):
        uv_then, uv_now = tracks.shared(chosen[-1], k)
        lost = len(uv_now) < _MIN_SURVIVORS * len(tracks.frame(chosen[-1])[0])
        if lost or k - chosen[-1] >= _MAX_FRAMES_APART or np.median(np.linalg.norm(uv_now - uv_then, axis=1)) >= MOTION_PX:
            chosen.append(k)
    last = len(tracks) - 1
    return chosen if chosen[-1] == last else [*chosen, last]


def split_into_chunks(keyframes: list[int]) -> list[list[int]]:
    """Chunks of at most about `CHUNK_KEYFRAMES` keyframes of even length, each sharing `CHUNK_OVERLAP` with the next."""
    last = len(keyframes) - CHUNK_OVERLAP
    count = max(1, round(last / (CHUNK_KEYFRAMES - CHUNK_OVERLAP)))
    if count == 1:
        return [keyframes]
    edges = np.linspace(0, last, count + 1).round().astype(int)
    return [keyframes[start : end + CHUNK_OVERLAP] for start, end in pairwise(edges)]
