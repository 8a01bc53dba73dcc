"""Normalization of samples by ``normalization_stats.yaml``, and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from videolift.errors import ConfigError
from videolift.reader.samples import Sample

_EPSILON = 1e-8
"""Added to deviations, as the predecessor did, so that constants become 0 and not NaN."""
_KEYS = {
    "displacement": "displacement",
    "pose9d": "pose",
    "hand_displacement_uvd": "hand_uvd_disp",
    "hand_displacement_rot6d": "hand_rot_disp",
}
_DEPTHS = ("query", "hand_query_uvd")
"""Arrays whose last channel 2 is a depth."""


@dataclass(frozen=True)
class Normalization:
    """Means and deviations per key of a sample."""

    table: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]

    @classmethod
    def load(cls, folder: Path | str, *, group: str | None = None) -> Normalization:
        """Reads the statistics of a published dataset; ``group`` names another than the main one.

        Raises:
            ConfigError: there are no such statistics.
        """
        path = Path(folder) / (f"normalization_stats.{group}.yaml" if group else "normalization_stats.yaml")
        try:
            stats: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        except FileNotFoundError as error:
            raise ConfigError(f"{path} is not there: run the statistics stage, or name a group that the dataset has") from error
        table = {key: _pair(stats[f"{name}_mean"], stats[f"{name}_std"]) for key, name in _KEYS.items() if f"{name}_mean" in stats}
        if "depth_mean" in stats:
            table["depth"] = _pair(stats["depth_mean"], stats["depth_std"])
        imagenet = _pair(stats["imagenet_mean"], stats["imagenet_std"])
        table["rgb"] = imagenet[0].reshape(3, 1, 1), imagenet[1].reshape(3, 1, 1)
        return cls(table)

    def apply(self, sample: Sample) -> Sample:
        """A copy with numbers normalized: rgb f32 by ImageNet's figures, the rest by the dataset's own. Invalid depth stays 0."""
        out = dict(sample)
        for key, (mean, std) in self.table.items():
            if key not in sample:
                continue
            value = np.asarray(sample[key], np.float32)
            scaled = ((value / 255 if key == "rgb" else value) - mean) / (std + _EPSILON)
            out[key] = np.where(value > 0, scaled, 0) if key == "depth" else scaled
        if "depth" in self.table:
            mean, std = self.table["depth"]
            for key in set(_DEPTHS) & set(sample):
                out[key] = sample[key].copy()
                out[key][..., 2] = (sample[key][..., 2] - mean) / (std + _EPSILON)
        return out


def _pair(mean: Any, std: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)
