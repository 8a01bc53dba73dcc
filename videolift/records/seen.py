"""What a plan saw: the batches in which everything was done, and when each folder that says so had changed last.

Statistics and verdict speak of what is there when they speak. A plan has looked at every artifact; a folder that has not changed
since still holds the same files, and those in it, of half a million, need not be asked again. A file that is created, replaced or
removed changes its folder's time. One that is overwritten in place does not, so the next plan is the first to see it; of packaged
files, where anything has been worked on, the statistics and the verdict are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from videolift.paths import Layout
from videolift.records.runs import Run
from videolift.records.settled import Targets, is_settled
from videolift.stage_table import PACKAGING, SPECS, STAGES
from videolift.store import read_json, write_json

SETTLING_NS = 2 * 10**9
"""A folder that changed within this time may change again within one tick of its clock, and look the same."""


@dataclass(frozen=True)
class SeenOutput:
    """An output folder as a plan saw it.

    Attributes:
        times_ns: path below the output folder to time of change, of every folder and journal that the work rests on; taken before
            anything was looked at. Those are left out that had changed too shortly before.
        settled: batch to how many videos were worked on there, of those batches in which each of them was done.
    """

    times_ns: Mapping[str, int] = field(default_factory=dict)
    settled: Mapping[str, int] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Into a run's folder."""
        write_json(run / "seen.json", asdict(self))

    @classmethod
    def read(cls, run: Path) -> SeenOutput:
        """What the plan of a run saw; nothing where that is not recorded."""
        value = read_json(run / "seen.json") or {}
        return cls(value.get("times_ns", {}), value.get("settled", {}))


def times_before_looking(layout: Layout) -> dict[str, int]:
    """`SeenOutput.times_ns` as of now."""
    oldest = time.time_ns() - SETTLING_NS
    return {path: time_ns for path, time_ns in _times(layout) if time_ns < oldest}


def unchanged_folders(run: Run) -> frozenset[str]:
    """Folders below the output folder whose artifacts need not be asked again after a run's plan; none of packaged files.

    Of a packaged file the dataset's index says which bytes it holds, so it is asked before that is published.
    """
    return _unchanged_folders(SeenOutput.read(run.folder).times_ns, _times(run.layout))


def still_settled(run: Run, targets: Targets) -> Mapping[str, int]:
    """`SeenOutput.settled` of a run's plan, of those batches of which that is still so.

    Args:
        run: whose plan saw it.
        targets: the manifests that are to stand.
    """
    seen, now = SeenOutput.read(run.folder), dict(_times(run.layout))
    if seen.times_ns == now:
        return seen.settled
    unchanged = _unchanged_folders(seen.times_ns, now.items())
    return {batch: count for batch, count in seen.settled.items() if is_settled(run.layout, targets, batch, unchanged=unchanged)}


def _unchanged_folders(then: Mapping[str, int], now: Iterable[tuple[str, int]]) -> frozenset[str]:
    packaged = SPECS[PACKAGING].folder
    return frozenset(path for path, time_ns in now if then.get(path) == time_ns and path.partition("/")[0] != packaged)


def _times(layout: Layout) -> Iterator[tuple[str, int]]:
    top = f"{layout.output}{os.sep}"
    for stage in STAGES:
        for folder in (layout.artifacts(stage), layout.manifests(stage), layout.journals(stage), layout.receipts(stage)):
            try:
                yield str(folder).removeprefix(top), os.stat(folder).st_mtime_ns
            except FileNotFoundError:
                continue
            # Sub-folders of artifacts; and journals, which grow without their folder's notice.
            wanted = os.DirEntry.is_file if folder == layout.journals(stage) else os.DirEntry.is_dir
            with os.scandir(folder) as entries:
                for entry in filter(wanted, entries):
                    yield entry.path.removeprefix(top), entry.stat().st_mtime_ns
