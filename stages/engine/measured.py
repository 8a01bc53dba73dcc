"""What work has cost so far: per stage, from a sample of its receipts. What minutes of jobs, forecasts and prices rest on.

A sample of receipts is enough for means and quantiles, whatever the number of videos. Decides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from videolift.records.receipts import Receipt, read_receipt

SAMPLED = 200
"""Receipts read per stage."""


@dataclass(frozen=True)
class Measured:
    """One stage's past work; at least one video.

    Attributes:
        seconds: of each video sampled, wall time of one worker.
        seconds_per_byte: of the videos' sources together, 0 where their sizes are not known.
        bytes: of an artifact, mean.
    """

    seconds: tuple[float, ...]
    seconds_per_byte: float
    bytes: float

    @property
    def mean_s(self) -> float:
        """Seconds per video."""
        return fmean(self.seconds)


def measure(folder: Path, source_bytes: Mapping[str, int]) -> Measured | None:
    """Figures of the receipts in ``folder``, None where nothing was done yet.

    Args:
        folder: of one stage's receipts.
        source_bytes: size of the source by video id.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return None
    every = max(1, -(-len(names) // SAMPLED))
    sample = [receipt for name in names[::every] if (receipt := read_receipt(folder / name)) and receipt.state != "quarantined"]
    return _figures(sample, source_bytes) if sample else None


def _figures(sample: list[Receipt], source_bytes: Mapping[str, int]) -> Measured:
    sized = [(receipt.seconds, size) for receipt in sample if (size := source_bytes.get(receipt.video))]
    per_byte = sum(s for s, _ in sized) / sum(size for _, size in sized) if sized else 0.0
    artifacts = [receipt.artifact.bytes for receipt in sample if receipt.artifact]
    return Measured(tuple(receipt.seconds for receipt in sample), per_byte, fmean(artifacts) if artifacts else 0.0)
