"""Where in a video to look first: how far each frame's scores lie beyond their limits, and the seconds in which that is worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.quality import SCORES
from videolift.geometry import Float

MAX_SPANS = 3


@dataclass(frozen=True)
class WorstSpan:
    """A stretch of frames ``start`` to ``stop`` (exclusive) whose score lies farthest beyond its limit.

    Attributes:
        score: the name of that score.
        value: its worst value in the stretch.
    """

    start: int
    stop: int
    score: str
    value: float

    @property
    def label(self) -> str:
        """For people, e.g. ``wrist_depth_gap 0.07 m, limit 0.05``."""
        score = SCORES[self.score]
        unit = "" if score.unit == "share" else f" {score.unit}"
        return f"{self.score} {self.value:.2g}{unit}, limit {score.threshold:g}"


def beyond_limit(name: str, value: float) -> float:
    """How far ``value`` of a score lies beyond its threshold: 1 at it, more is worse; NaN stays."""
    score = SCORES[name]
    return value / score.threshold if score.above else score.threshold / max(value, 1e-6)


def frame_excess(quality: Mapping[str, NDArray[np.float32]], frames: int) -> Float:
    """(T) the farthest of all scores per frame; NaN where none was measured."""
    if not quality:
        return np.full(frames, np.nan)
    every = [[beyond_limit(name, value) for value in values.tolist()] for name, values in quality.items()]
    return np.asarray(np.fmax.reduce(np.array(every), axis=0))


def worst_spans(quality: Mapping[str, NDArray[np.float32]], frames: int, fps: float) -> list[WorstSpan]:
    """The worst seconds, at most `MAX_SPANS`, worst first and apart from each other; none where no frame is beyond a limit."""
    beyond, length = np.nan_to_num(frame_excess(quality, frames)), max(1, round(fps))
    found: list[WorstSpan] = []
    while len(found) < MAX_SPANS and beyond.max(initial=0.0) > 1:
        # Over a second: one bad frame is not worth a stop, ten in a row are
        mean = np.convolve(beyond, np.ones(length), "valid") / length if frames >= length else beyond
        start = int(mean.argmax())
        stop = min(frames, start + length)
        at = start + int(beyond[start:stop].argmax())
        here = {name: float(np.nan_to_num(beyond_limit(name, float(values[at])))) for name, values in quality.items()}
        name = max(here, key=here.__getitem__)
        if beyond[at] > 1:
            found.append(WorstSpan(start, stop, name, float(quality[name][at])))
        # Spans keep apart, else all of them would lie on one bad second.
        beyond[max(0, start - length) : stop + length] = 0
    return found
