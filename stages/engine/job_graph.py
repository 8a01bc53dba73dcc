"""Which batches Snakemake is shown: all of a few, and of many only those in which something is to be done.

A finished batch is a job per stage to Snakemake all the same: of 100,000 finished videos these are 2,500 jobs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from stages.engine.plan import ALL
from videolift.paths import Layout
from videolift.records.manifests import Target
from videolift.stage_table import PACKAGING, STATISTICS

MAX_WHOLE = 100
"""Batches up to which the graph is whole, so that what Snakemake draws, reports or is forced to do is all there is."""


def shown_batches(
    layout: Layout, targets: Mapping[str, Mapping[str, Target]], waits_for: Callable[[str, str], Sequence[str]]
) -> frozenset[str]:
    """Batches to show, `ALL` among them where the statistics are to be made.

    A manifest that is older than one it was made from counts as missing, as it does to Snakemake: a run may have been killed after
    one stage was repaired and before the next one was.

    Args:
        layout: of the output folder.
        targets: stage to batch to the manifest it should have.
        waits_for: the stages whose manifests of a batch a stage reads.
    """
    batches = {batch for by_batch in targets.values() for batch in by_batch}
    if len(batches) <= MAX_WHOLE:
        return frozenset(batches)
    made: dict[str, dict[str, int | None]] = {}  # when each manifest was written, in ns
    for stage, by_batch in targets.items():
        times: dict[str, int] = {}
        # One listing per stage: a look at each file would be a round trip to a shared file system.
        with suppress(FileNotFoundError), os.scandir(layout.manifests(stage)) as entries:
            times = {entry.name: entry.stat().st_mtime_ns for entry in entries}
        made[stage] = {batch: times.get(one.name) for batch, one in by_batch.items()}

    def is_finished(stage: str, batch: str) -> bool:
        own = made[stage][batch]
        above = [made[name][batch] for name in waits_for(stage, batch)]
        return own is not None and all(time is not None and time <= own for time in above)

    shown = {batch for stage in targets if stage != STATISTICS for batch in targets[stage] if not is_finished(stage, batch)}
    statistics = made[STATISTICS][ALL]
    if shown or statistics is None or any(time is None or time > statistics for time in made[PACKAGING].values()):
        shown.add(ALL)
    return frozenset(shown)
