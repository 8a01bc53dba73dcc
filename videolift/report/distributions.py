"""Histograms of what the dataset holds, per group, from the exact counts beside the packaged files.

Bars span the 1st to the 99th percentile; what lies outside is given as two counts. Scores and figures of whole videos are counted
by the page itself, so that they follow its filters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from videolift.dataset.index import Index
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.merging import Member, merge_members
from videolift.dataset.statistics.plots import CHANNEL_NAMES
from videolift.report.rows import round_to_4_digits

BARS = 48
SHOWN = ("depth", "query_depth", "displacement", "hand_uvd_displacement")
"""What is drawn of `videolift.dataset.statistics.accumulators.CHANNELS`; means and deviations are given for all."""


@dataclass(frozen=True)
class Distribution:
    """One channel of one group.

    Attributes:
        counts: values in `BARS` equal bars from ``low`` to ``high``; empty where it is not drawn.
        below, above: values outside.
    """

    name: str
    channel: str
    samples: int
    mean: float
    std: float
    minimum: float
    maximum: float
    low: float
    high: float
    counts: list[int]
    below: int
    above: int


def distributions(index: Index) -> dict[str, list[dict[str, object]]]:
    """Group to its distributions, for JSON.

    Raises:
        CorruptFile: a packaged file cannot be read.
    """
    members = [Member(e.video, index.folder / e.path, e.sha256, e.split) for e in index.entries]
    groups: dict[str, Accumulators] = {}
    for (group, _), statistics in merge_members(index.folder, members).parts.items():
        groups.setdefault(group, Accumulators()).merge(statistics)
    found: dict[str, list[dict[str, object]]] = {}
    for group, statistics in sorted(groups.items()):
        found[group] = []
        for name, part, channel in ((n, one, k) for n, one in sorted(statistics.parts.items()) for k in range(one.channels)):
            summary = part.summary(channel)
            if summary.mean is None or summary.std is None or summary.quantiles is None:
                continue
            # From the 1st to the 99th percentile: a few far values would press all others into one bar.
            low, high = summary.quantiles[0], summary.quantiles[-1]
            counts, below, above = list[int](), 0, 0
            # A constant has no width to cut into bars.
            if name in SHOWN and high > low:
                values, times = part.distribution(channel)
                counts = np.histogram(values, BARS, (low, high), weights=times.astype(np.float64))[0].astype(int).tolist()
                below, above = int(times[values < low].sum()), int(times[values > high].sum())
            drawn = Distribution(
                name,
                CHANNEL_NAMES[name][channel],
                summary.samples,
                mean=round_to_4_digits(summary.mean),
                std=round_to_4_digits(summary.std),
                minimum=round_to_4_digits(summary.minimum or 0.0),
                maximum=round_to_4_digits(summary.maximum or 0.0),
                low=round_to_4_digits(low),
                high=round_to_4_digits(high),
                counts=counts,
                below=below,
                above=above,
            )
            found[group].append(asdict(drawn))
    return found
