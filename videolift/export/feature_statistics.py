"""Statistics of exported features as policies normalize with them: per episode and over all, with exact quantiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Those of LeRobot's own statistics.
_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_QUANTILE_NAMES = tuple(f"q{round(q * 100):02d}" for q in _QUANTILES)
_MAX_IMAGES = 100
"""Images per episode that count, spread evenly."""


def vector_statistics(rows: NDArray[Any]) -> dict[str, Any]:
    """min, max, mean, std, count and quantiles of rows (n, D), as lists."""
    values = rows.astype(np.float64)
    quantiles = np.quantile(values, _QUANTILES, axis=0)
    out = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    out |= dict(zip(_QUANTILE_NAMES, quantiles, strict=True))
    return {name: value.tolist() for name, value in out.items()} | {"count": [len(rows)]}


def histogram_statistics(histogram: NDArray[np.int64], images: int) -> dict[str, Any]:
    """The same of images whose u8 values are counted per channel (3, 256), on the scale 0..1 and of shape (3, 1, 1)."""
    levels, total = np.arange(256) / 255, histogram.sum(1, keepdims=True)
    mean = (histogram * levels).sum(1, keepdims=True) / total
    std = np.sqrt((histogram * (levels - mean) ** 2).sum(1, keepdims=True) / total)
    reached = np.cumsum(histogram, 1)  # quantiles of u8 are exact from counts, without keeping a pixel
    present = histogram > 0
    out = {"min": levels[present.argmax(1)], "max": levels[255 - present[:, ::-1].argmax(1)], "mean": mean, "std": std}
    for name, q in zip(_QUANTILE_NAMES, _QUANTILES, strict=True):
        out[name] = levels[[int(np.searchsorted(r, q * t)) for r, t in zip(reached, total[:, 0], strict=True)]]
    return {name: np.reshape(value, (3, 1, 1)).tolist() for name, value in out.items()} | {"count": [images]}


@dataclass
class FeatureStatistics:
    """Collects the rows of one dataset, episode by episode. Vectors are kept (4 bytes a number), images counted."""

    _vectors: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    _images: dict[str, tuple[NDArray[np.int64], int]] = field(default_factory=dict)

    def add_vectors(self, name: str, rows: NDArray[Any]) -> dict[str, Any]:
        """Takes one episode's rows (n, D); returns its statistics."""
        self._vectors.setdefault(name, []).append(rows)
        return vector_statistics(rows)

    def add_images(self, name: str, images: NDArray[np.uint8]) -> dict[str, Any]:
        """Takes one episode's images u8 (n, 3, S, S); returns its statistics."""
        # Neighbours look alike: a hundred images spread over an episode say as much of its colours as all of them.
        chosen = images[np.unique(np.linspace(0, len(images) - 1, _MAX_IMAGES).round().astype(int))]
        histogram = np.stack([np.bincount(chosen[:, c].ravel(), minlength=256) for c in range(3)])
        before, count = self._images.get(name, (np.zeros((3, 256), np.int64), 0))
        self._images[name] = before + histogram, count + len(chosen)
        return histogram_statistics(histogram, len(chosen))

    def table(self) -> dict[str, dict[str, Any]]:
        """Over all episodes, by feature."""
        table = {name: vector_statistics(np.concatenate(parts)) for name, parts in self._vectors.items()}
        return table | {name: histogram_statistics(*counted) for name, counted in self._images.items()}
