"""Cuts: where one shot of a clip ends and the next begins, from small copies of its frames; hard cuts, fades, dissolves.

A change of colours alone is no cut, since light changes; a change of place alone is none, since cameras move. Both together are one
if what was there before does not come back at once, as after a flash. Thresholds were measured on the clip's own frame rate, of
real clips and of the same played two to five times as fast: `_COLOURS_APART` lies between 0.28, the largest change within them,
and 0.55, the smallest across cuts between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.shot_ranges import NO_SHOT

SHORT_SIDE_PX = 96
_COLOURS_APART = 0.4
"""Share of pixels whose colour (8 levels per channel) has no counterpart in the other frame."""
_SAME_PLACE = 0.85
"""Median correlation of patches with their best match nearby: exposure leaves 0.95, other scenes reach 0.76."""
_SAME_LAYOUT = 0.6
"""Correlation of tiny pictures, however bright: other scenes reach 0.57."""
_PATCH_PX, _REACH_PX = 16, 24
_MIN_CONTRAST, _MIN_PATCHES = 4.0, 4
_FLASH_FRAMES = 3
"""What lasts no longer is a flash where the same scene follows."""
_BLANK_CONTRAST, _BLACK_MEAN, _WHITE_MEAN = 6.0, 20.0, 238.0
_RAMP = 1.05
"""A fade gains at least this factor of contrast per frame."""
# Of the clip: 2.4 to 0.4 s at the default 10 frames per second.
_DISSOLVE_FRAMES = (24, 16, 12, 8, 4)
_TINY_PX = (32, 24)
_MAX_STEP = 0.6
"""Of a dissolve from one frame to the next, as a share of all of it."""
_PURE = 0.08
"""A frame with less of the other scene than this belongs to a shot."""
_MAX_MIX_ERROR = 0.5
"""Distance of a dissolve's frames from mixtures of its ends, as a share of what lies between those; motion leaves 0.66 and more."""
_CORE, _CONTEXT = 512, 64


@dataclass(frozen=True)
class Transition:
    """From one shot to the next; the frames between ``last`` and ``first`` belong to none.

    Attributes:
        last: of the shot before; -1 where the clip begins in a fade.
        first: of the shot after; the number of frames where the clip ends in one.
    """

    last: int
    first: int


@dataclass
class CutFinder:
    """Takes a clip's pictures one by one and tells the shot of each; holds some hundred small ones at a time."""

    _small: list[NDArray[np.uint8]] = field(default_factory=list)
    _dropped: int = 0
    _settled: int = 0
    _found: list[Transition] = field(default_factory=list)

    def add(self, picture: NDArray[np.uint8]) -> None:
        """The next picture, u8 (H, W, 3)."""
        height, width = picture.shape[:2]
        scale = SHORT_SIDE_PX / min(height, width)
        size_px = (round(width * scale), round(height * scale))
        self._small.append(np.asarray(cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA), np.uint8))
        # With frames around them: a dissolve at the end of a stretch is seen whole by the next one.
        if self._dropped + len(self._small) == self._settled + _CORE + _CONTEXT:
            self._settle(self._settled + _CORE)

    def shot_of_frame(self) -> NDArray[np.int32]:
        """Shot (T) of every picture added, from 0 on; `NO_SHOT` within a fade or a dissolve."""
        frames = self._dropped + len(self._small)
        self._settle(frames)
        shot, number, first = np.full(frames, NO_SHOT, np.int32), 0, 0
        for end, after in [*((t.last + 1, t.first) for t in self._found), (frames, frames)]:
            if end > first:
                shot[first:end], number = number, number + 1
            first = after
        return shot

    def _settle(self, until: int) -> None:
        """Decides on the frames up to ``until``; those around them are looked at as well."""
        for found in transitions(self._small):
            last, first = found.last + self._dropped, found.first + self._dropped
            # the same transition seen in two overlapping stretches may differ by a frame; the first word counts
            after_known = not self._found or last >= self._found[-1].first
            if self._settled <= max(last, 0) < until and after_known:
                self._found.append(Transition(last, first))
        keep_from = max(until - _CONTEXT, 0)
        self._small, self._dropped, self._settled = self._small[keep_from - self._dropped :], keep_from, until


def transitions(frames: Sequence[NDArray[np.uint8]]) -> list[Transition]:
    """Transitions between the shots of small pictures (h, w, 3), in order; none overlaps another."""
    measured = [_Measures.of(frame) for frame in frames]
    blank = np.array([m.is_blank for m in measured])
    if blank.all():
        return []  # nothing to tell shots by; a black clip is refused elsewhere
    # Fades first, runs of black or white frames with the ramps that lead there: these would else be taken for hard cuts and for
    # dissolves to black.
    found: list[Transition] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blank, [False]])))
    for start, end in edges.reshape(-1, 2):
        last, first = int(start) - 1, int(end)
        reach = max(_DISSOLVE_FRAMES)
        while last > max(0, start - reach) and measured[last - 1].contrast > _RAMP * measured[last].contrast:
            last -= 1
        while first < min(len(measured) - 1, end + reach) and measured[first + 1].contrast > _RAMP * measured[first].contrast:
            first += 1
        # one black frame is a blink or a dropped frame where the same scene goes on
        inside = last >= 0 and first < len(measured)
        if inside and end - start <= _FLASH_FRAMES and not measured[last].differs(measured[first]):
            continue
        if found and last <= found[-1].first:
            last = found.pop().last
        found.append(Transition(last, first))
    taken = _covered(found, len(frames))
    found += [
        Transition(k - 1, k) for k in range(1, len(frames)) if not taken[k - 1 : k + 1].any() and _scene_changes(measured, k - 1, k)
    ]
    taken = _covered(found, len(frames)) | blank
    return sorted([*found, *_dissolves(measured, taken)], key=lambda t: t.last)


@dataclass(frozen=True)
class _Measures:
    """What is compared of one picture."""

    grey: NDArray[np.uint8]
    tiny: NDArray[np.float32]
    layout: NDArray[np.float32]
    colours: NDArray[np.float32]
    colours_at_one_exposure: NDArray[np.float32]
    contrast: float

    @classmethod
    def of(cls, rgb: NDArray[np.uint8]) -> _Measures:
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        # Small enough that motion blurs away and a mixture of scenes is still one.
        tiny = cv2.resize(grey, _TINY_PX, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        tiny /= max(float(tiny.mean()), 1.0)  # mixtures stay mixtures, and a change of exposure is none
        layout = tiny - tiny.mean()
        layout /= max(float(np.linalg.norm(layout)), 1e-6)
        # Twice, as they are and at one brightness: light that is switched on changes only the first.
        exposed = np.asarray(cv2.convertScaleAbs(rgb, alpha=110 / max(float(grey.mean()), 1.0)), np.uint8)
        return cls(grey, tiny, layout, _histogram(rgb), _histogram(exposed), float(grey.std()))

    @property
    def is_blank(self) -> bool:
        """Black or white all over."""
        mean = float(self.grey.mean())
        return self.contrast < _BLANK_CONTRAST and (mean < _BLACK_MEAN or mean > _WHITE_MEAN)

    def differs(self, other: _Measures) -> bool:
        """True if neither light nor motion alone makes one of the other."""
        if 0.5 * np.abs(self.colours - other.colours).sum() < _COLOURS_APART:
            return False
        if 0.5 * np.abs(self.colours_at_one_exposure - other.colours_at_one_exposure).sum() < _COLOURS_APART:
            return False
        if float(self.layout @ other.layout) > _SAME_LAYOUT:
            return False
        # Both ways: what comes into view is missing in the one picture, what leaves it in the other.
        return max(_patches_found_again(self.grey, other.grey), _patches_found_again(other.grey, self.grey)) < _SAME_PLACE


def _histogram(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    counts = cv2.calcHist([rgb], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return np.asarray(counts.ravel() / counts.sum(), np.float32)


def _patches_found_again(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Median over patches of ``a`` of their best normalized correlation in ``b``; 0 where there is nothing to tell them by."""
    height, width = a.shape
    best = []
    for y in range(0, height - _PATCH_PX + 1, _PATCH_PX):
        for x in range(0, width - _PATCH_PX + 1, _PATCH_PX):
            patch = a[y : y + _PATCH_PX, x : x + _PATCH_PX]
            if patch.std() >= _MIN_CONTRAST:
                around = b[max(0, y - _REACH_PX) : y + _PATCH_PX + _REACH_PX, max(0, x - _REACH_PX) : x + _PATCH_PX + _REACH_PX]
                best.append(float(cv2.matchTemplate(around, patch, cv2.TM_CCOEFF_NORMED).max()))
    return float(np.median(best)) if len(best) >= _MIN_PATCHES else 0.0


def _scene_changes(measured: Sequence[_Measures], last: int, first: int) -> bool:
    """True if frame ``first`` shows another scene than frame ``last``, and the old one does not come back as after a flash."""
    if not measured[last].differs(measured[first]):
        return False
    # All pairs: after a flash the old scene is back in one of them.
    before = measured[max(0, last - _FLASH_FRAMES) : last + 1]
    after = measured[first : first + _FLASH_FRAMES + 1]
    return all(a.differs(b) for a in before for b in after)


def _dissolves(measured: Sequence[_Measures], taken: NDArray[np.bool_]) -> list[Transition]:
    """Stretches whose frames are mixtures ``(1 - w) first + w last`` of a scene before and another one after."""
    found: list[Transition] = []
    taken = taken.copy()
    # The longest first: a long dissolve holds short stretches that look like one.
    for length in _DISSOLVE_FRAMES:
        mixtures: list[tuple[float, Transition]] = []
        for k in range(len(measured) - length):
            if taken[k : k + length + 1].any():
                continue
            tiny = np.stack([m.tiny for m in measured[k : k + length + 1]])
            offsets, way = tiny - tiny[0], tiny[-1] - tiny[0]
            squared = float(way @ way)
            if squared == 0:
                continue
            weight = offsets @ way / squared
            steps = np.diff(weight)
            # a dissolve goes one way and in steps; a flash comes back, a hard cut is one step
            if steps.min() < -0.05 or steps.max() > _MAX_STEP:
                continue
            # Over the distance of the two ends: scenes that look alike are near any mixture of theirs.
            error = float(np.median(np.linalg.norm(offsets - weight[:, None] * way, axis=1)[1:-1]) / np.sqrt(squared))
            rising = np.flatnonzero((weight > _PURE) & (weight < 1 - _PURE))
            if error <= _MAX_MIX_ERROR and len(rising):
                last, first = max(k + int(rising[0]) - 2, 0), min(k + int(rising[-1]) + 2, len(measured) - 1)
                mixtures.append((error, Transition(last, first)))
        # The clearest mixture first, since those that overlap it are the same dissolve.
        for _, at in sorted(mixtures, key=lambda m: m[0]):
            if not taken[at.last : at.first + 1].any() and _scene_changes(measured, at.last, at.first):
                found.append(at)
                taken[at.last : at.first + 1] = True
    return found


def _covered(found: Sequence[Transition], frames: int) -> NDArray[np.bool_]:
    covered = np.zeros(frames, bool)
    for transition in found:
        covered[max(transition.last, 0) : transition.first + 1] = True
    return covered
