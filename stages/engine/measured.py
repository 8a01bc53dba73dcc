"""What work has cost so far: per stage, from a sample of its receipts. What minutes of jobs, forecasts and prices rest on.

A sample of receipts is enough for means and quantiles, whatever the number of videos. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from videolift.paths import Layout
from videolift.records.journal import journal_numbers
from videolift.records.receipts import Receipt, read_receipt
from videolift.records.record_reader import RecordReader

SAMPLED = 200
"""Receipts that figures are taken from, per stage."""
BATCHES_SAMPLED = 8


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


def measure(layout: Layout, stage: str, source_bytes: Mapping[str, int]) -> Measured | None:
    """Figures of what a stage has done so far, None where nothing was.

    Args:
        source_bytes: size of the source by video id.
    """
    batches = sorted(journal_numbers(layout.journals(stage)))
    read, sample = RecordReader(layout), []
    for batch in batches[:: max(1, len(batches) // BATCHES_SAMPLED)]:
        records = read.of_batch(stage, batch).values()
        sample += [record.receipt for record in records if record.receipt and record.receipt.state != "quarantined"]
    if not sample:
        files = sorted(layout.receipts(stage).glob("*.json"))
        handed_over = map(read_receipt, files[:: max(1, len(files) // SAMPLED)])
        sample = [receipt for receipt in handed_over if receipt and receipt.state != "quarantined"]
    return _figures(sample[:: max(1, len(sample) // SAMPLED)], source_bytes) if sample else None


def _figures(sample: list[Receipt], source_bytes: Mapping[str, int]) -> Measured:
    sized = [(receipt.seconds, size) for receipt in sample if (size := source_bytes.get(receipt.video))]
    per_byte = sum(s for s, _ in sized) / sum(size for _, size in sized) if sized else 0.0
    artifacts = [receipt.artifact.bytes for receipt in sample if receipt.artifact]
    return Measured(tuple(receipt.seconds for receipt in sample), per_byte, fmean(artifacts) if artifacts else 0.0)
