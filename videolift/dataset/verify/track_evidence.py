"""Tracked points against images: are they where the picture goes, on the depth they claim, and seen where they are said to be?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.verify.evidence import Evidence, depth_at, spread
from videolift.geometry import Float, invert_pose, project, transform, unproject

_WINDOWS, _POINTS = 12, 400
_MOVES_PX = 2.0
_BETTER, _BETTER_PX = 0.6, 0.3
_MISSED_PX = 3.0
_HIDDEN_SHARE, _BEHIND_SHARE = 0.015, 0.06
_CLEAR_SHARE = 0.015
_QUERY_DEPTH_SHARE = 0.04


@dataclass(frozen=True)
class WindowPoints:
    """Some points of one window: first frame, (u, v, d) in its first camera (L, n, 3), visible (L, n)."""

    start: int
    uvd: Float
    visible: NDArray[np.bool_]


def track_faults(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Kind and figures of what is wrong with the tracks."""
    file = evidence.file
    windows = []
    for w in spread(int((file.window_start + file.window_length <= evidence.frames).sum()), _WINDOWS):
        # Points lie in random order, so the first of them are a fair sample.
        query, displacement, visible = file.tracks(w, slice(0, _POINTS))
        if len(query) >= 20:
            windows.append(WindowPoints(int(file.window_start[w]), (query[None] + displacement).astype(np.float64), visible))

    stated, count = _miss_px(evidence, windows, lambda window: window)
    if np.isfinite(stated):
        tried = {name: _miss_px(evidence, windows, change)[0] for name, change in _hypotheses()}
        best = min(tried, key=lambda name: np.nan_to_num(tried[name], nan=1e9))
        if tried[best] < min(_BETTER * stated, stated - _BETTER_PX, _MISSED_PX / 2):
            text = f"{best}: {tried[best]:.2f} px remain instead of {stated:.2f}, of {count} moving points"
            yield best.partition(", by")[0], text
        elif stated > _MISSED_PX:
            yield "points", f"moving points miss the images by {stated:.2f} px in the median of {count}"

    gaps = []
    for window in windows:
        # Packaged u, v are shares of the image whose pixel centres lie at half numbers.
        z = depth_at(evidence.z[window.start], window.uvd[0, :, :2] * file.size_px - 0.5)
        gaps.append((window.uvd[0, :, 2] / np.where(z > 0, z, np.nan) - 1)[z > 0])
    pooled = np.concatenate([*gaps, np.empty(0)])
    if len(pooled) >= 50 and np.median(np.abs(pooled)) > _QUERY_DEPTH_SHARE:
        yield "points off the depth", f"{np.median(np.abs(pooled)):.0%} from the depth under them, in the median"

    hidden = total = shown = unseen = 0
    for window in windows:
        # Every other step: each one costs optical flow there and back.
        for step in range(2, len(window.uvd), 2):
            px, z_there = _pixels(evidence, window, step, window.start)
            finite = np.isfinite(px).all(1)
            z = np.zeros(len(px))
            z[finite] = depth_at(evidence.z[window.start + step], px[finite])
            start_px, _ = _pixels(evidence, window, 0, window.start)
            behind = (z > 0) & (z_there > (1 + _BEHIND_SHARE) * z)
            visible = window.visible[step]
            total += int((visible & (z > 0)).sum())
            hidden += int((visible & behind).sum())
            _, good = evidence.follow(window.start, window.start + step, start_px)
            # Depth as good as a tracker asks for: on rough depth a point that it cannot vouch for is not called hidden by mistake.
            clear = (z > 0) & (np.abs(z_there - z) <= _CLEAR_SHARE * z) & good
            unseen += int((~visible & (z > 0)).sum())
            shown += int((~visible & clear).sum())
    if total > 100 and hidden / total > _HIDDEN_SHARE:
        yield "hidden points called visible", f"{hidden / total:.0%} of the visible steps lie behind what is seen there"
    if unseen > 100 and unseen > 0.3 * (unseen + total) and shown / unseen > 0.6:
        yield "visible points called hidden", f"{shown / unseen:.0%} of the hidden steps lie in plain sight"


def _pixels(evidence: Evidence, points: WindowPoints, step: int, start: int) -> tuple[Float, Float]:
    """Where the points of a step lie in its own image (n, 2), and their depth there (n)."""
    size = evidence.file.size_px
    xyz = unproject(points.uvd[step, :, :2] * size - 0.5, points.uvd[step, :, 2], evidence.K)
    E = evidence.E
    there = transform(E[start + step] @ invert_pose(E[start]), xyz)
    return project(there, evidence.K), there[:, 2]


def _miss_px(evidence: Evidence, windows: list[WindowPoints], change: Callable[[WindowPoints], WindowPoints]) -> tuple[float, int]:
    """Median distance of the moving points from where the images take them, and how many there were."""
    off = []
    for window in windows:
        points = change(window)
        length = len(points.uvd)
        if points.start < 0 or points.start + length > evidence.frames:
            continue
        moved_px = (window.uvd[:, :, :2] - window.uvd[:1, :, :2]) * evidence.file.size_px
        # Points that stand still are right under every hypothesis; they would hide what happens to the others.
        moves = np.linalg.norm(moved_px, axis=-1).max(0) > _MOVES_PX
        for step in sorted({2, length // 2} & set(range(1, length))):
            start_px, _ = _pixels(evidence, points, 0, points.start)
            end_px, _ = _pixels(evidence, points, step, points.start)
            moved, good = evidence.follow(points.start, points.start + step, start_px)
            keep = good & moves & points.visible[step] & np.isfinite(end_px).all(1)
            off.append(np.linalg.norm(end_px - moved, axis=1)[keep])
    pooled = np.concatenate([*off, np.empty(0)])
    return (float(np.median(pooled)) if len(pooled) >= 30 else float("nan")), len(pooled)


def _hypotheses() -> Iterator[tuple[str, Callable[[WindowPoints], WindowPoints]]]:
    """How points may be wrong, and what they would be if they were right."""

    def of_values(change: Callable[[Float], Float]) -> Callable[[WindowPoints], WindowPoints]:
        return lambda points: WindowPoints(points.start, change(points.uvd), points.visible)

    def moved(frames: int) -> Callable[[WindowPoints], WindowPoints]:
        return lambda points: WindowPoints(points.start + frames, points.uvd, points.visible)

    def scaled(factor: float) -> Callable[[WindowPoints], WindowPoints]:
        return of_values(lambda uvd: uvd[:1] + factor * (uvd - uvd[:1]))

    yield "points late by one frame", moved(-1)
    yield "points early by one frame", moved(1)
    yield "points late by two frames", moved(-2)
    yield "points early by two frames", moved(2)
    yield "points backward in time", lambda p: WindowPoints(p.start, p.uvd[::-1], p.visible[::-1])
    yield "displacements reversed", of_values(lambda uvd: 2 * uvd[:1] - uvd)
    yield "points mirrored", of_values(lambda uvd: np.concatenate([1 - uvd[..., :1], uvd[..., 1:]], -1))
    yield "points upside down", of_values(lambda uvd: np.concatenate([uvd[..., :1], 1 - uvd[..., 1:2], uvd[..., 2:]], -1))
    yield "points with u and v swapped", of_values(lambda uvd: uvd[..., [1, 0, 2]])
    yield "displacements with u and v swapped", of_values(lambda uvd: uvd[:1] + (uvd - uvd[:1])[..., [1, 0, 2]])
    for factor in (0.5, 0.7, 0.77, 0.87, 1.15, 1.3, 1.43, 2.0):
        yield f"displacements scaled, by {factor:g}", scaled(factor)
