"""Normalization of samples by ``normalization_stats.yaml``, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from videolift.errors import ConfigError
from videolift.reader.draws import Source
from videolift.reader.frames import Sample, zero_unknown
from videolift.reader.samples import WindowDataset

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
_MASKS = {"pose9d": "pose9d_valid", "hand_displacement_uvd": "hand_step_valid", "hand_displacement_rot6d": "hand_step_valid"}
_MASKS |= {"depth": "depth_valid", "query": "point_valid", "hand_query_uvd": "hand_step_valid"}
"""What is 0 where its mask is False, and stays 0."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Normalization:
    """Means and deviations per key of a sample, of one group of a dataset."""

    table: dict[str, tuple[Floats, Floats]]
    group: str | None = None

    @classmethod
    def load(cls, folder: Path | str, *, group: str | None = None) -> Normalization:
        """Reads the statistics of a published dataset.

        Args:
            folder: of the dataset.
            group: e.g. A-metric; None for the group that ``normalization_stats.yaml`` holds.

        Raises:
            ConfigError: there are no statistics, or none of that group.
        """
        main = Path(folder) / "normalization_stats.yaml"
        stats = _read(main)
        if stats is None:
            raise ConfigError(f"{main} is not there: run the statistics stage, or name the folder that holds dataset.json")
        if group is not None and stats["group"] != group:
            stats = _read(main.with_name(f"normalization_stats.{group}.yaml"))
            if stats is None:
                raise ConfigError(f"{folder} has no statistics of group {group!r}: name a group of its dataset.json")
        table = {key: _pair(stats[f"{name}_mean"], stats[f"{name}_std"]) for key, name in _KEYS.items() if f"{name}_mean" in stats}
        if "depth_mean" in stats:
            table["depth"] = _pair(stats["depth_mean"], stats["depth_std"])
        imagenet = _pair(stats["imagenet_mean"], stats["imagenet_std"])
        table["rgb"] = imagenet[0].reshape(3, 1, 1), imagenet[1].reshape(3, 1, 1)
        return cls(table, stats["group"])

    @classmethod
    def fit(cls, windows: WindowDataset) -> Normalization:
        """The statistics of the group that ``windows`` are of.

        Raises:
            ConfigError: windows of several groups, or of no published dataset; there are no such statistics.
        """
        if not isinstance(windows, WindowDataset):
            raise ConfigError(f"{type(windows).__name__} has no statistics beside it: use Normalization.measure(source, keys)")
        if windows.folder is None or windows.group is None:
            raise ConfigError("only windows of one group of a published dataset have statistics: open each group apart, then mix")
        return cls.load(windows.folder, group=windows.group)

    @classmethod
    def measure(cls, source: Source, keys: Sequence[str], *, samples: int = 1000) -> Normalization:
        """The statistics of any source, over samples spread evenly: of vectors per number, of images per channel.

        Args:
            source: an adapter, or whatever else gives samples.
            keys: arrays of the sample: (D), or (C, ...) whose first axis counts channels.
            samples: at most so many are read.

        Raises:
            ConfigError: no samples, no such array, or one that is not of numbers or holds some that are not finite.
            CorruptFile: a sample cannot be read.
        """
        if not len(source):
            raise ConfigError("there is no sample to measure")
        chosen = np.unique(np.linspace(0, len(source) - 1, samples).round().astype(int))
        totals: dict[str, tuple[Any, Any, int]] = {}
        for index in chosen:
            sample = source.open(int(index))
            for key in keys:
                value = np.asarray(sample.get(key))
                if not np.issubdtype(value.dtype, np.number):
                    raise ConfigError(f"{key} is not an array of numbers in a sample; it holds {', '.join(sorted(sample))}")
                rows = value.astype(np.float64).reshape(len(value) if value.ndim else 1, -1)
                total, squares, count = totals.get(key, (0.0, 0.0, 0))
                totals[key] = total + rows.sum(1), squares + (rows**2).sum(1), count + rows.shape[1]
        table = {}
        for key, (total, squares, count) in totals.items():
            # `apply` takes rgb on a scale of 0..1, as ImageNet's figures are.
            scale = 255 if key == "rgb" else 1
            mean, shape = total / count, (-1,) + (1,) * (np.ndim(sample[key]) - 1)
            if not np.isfinite(squares).all():
                raise ConfigError(f"{key} holds values that are not finite: its mean would make every sample NaN")
            std = np.sqrt(np.maximum(squares / count - mean**2, 0))
            table[key] = _pair((mean / scale).reshape(shape), (std / scale).reshape(shape))
        return cls(table)

    def apply(self, sample: Sample) -> Sample:
        """A copy with numbers normalized: rgb f32 by ImageNet's figures, the rest by the dataset's own; unknown values stay 0."""
        out = dict(sample)
        for key, (mean, std) in self.table.items():
            if key in sample:
                unit = np.float32(255 if key == "rgb" else 1)
                # In place: a temporary as large as an image costs more than the arithmetic. The mean goes first, or constants
                # with a deviation of nearly 0 would lose all their digits.
                value = np.subtract(sample[key], unit * mean, dtype=np.float32)
                value *= 1 / (unit * (std + np.float32(_EPSILON)))
                out[key] = value
        self._depths(sample, out, lambda z, mean, std: (z - mean) / (std + _EPSILON))
        return _masked(out)

    def invert(self, sample: Sample) -> Sample:
        """A copy in the dataset's units: undoes `apply`, up to rounding; rgb as u8. Takes predictions too, which have no masks."""
        out = dict(sample)
        for key, (mean, std) in self.table.items():
            if key in sample:
                value = np.asarray(sample[key], np.float32) * (std + _EPSILON) + mean
                out[key] = np.clip(np.rint(value * 255), 0, 255).astype(np.uint8) if key == "rgb" else value
        self._depths(sample, out, lambda z, mean, std: z * (std + _EPSILON) + mean)
        return _masked(out)

    def _depths(self, sample: Sample, out: Sample, change: Any) -> None:
        for key in _DEPTHS:
            if key in sample and "depth" in self.table:
                out[key] = np.array(sample[key])
                out[key][..., 2] = change(out[key][..., 2], *self.table["depth"])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        # The C loader, where PyYAML was built with it, is several times faster.
        stats: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return None
    return stats


def _masked(sample: Sample) -> Sample:
    for key, name in _MASKS.items():
        if key in sample and name in sample:
            # A wrist's query is its first step: both are known, or neither is.
            mask = sample[name][..., 0] if key == "hand_query_uvd" else sample[name]
            sample[key] = zero_unknown(sample[key], mask)
    if "displacement" in sample and "point_valid" in sample:
        sample["displacement"] = sample["displacement"] * sample["point_valid"][..., None, :, None]
    return sample


def _pair(mean: Any, std: Any) -> tuple[Floats, Floats]:
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)
