"""What a plan saw: the batches in which everything was done, and when each folder that says so had changed last.

The verdict speaks of what is there when it speaks. A plan has looked at every artifact; where no folder of artifacts, no manifest
and no journal has changed since, that is still so, and half a million files need not be asked again. A file that is created,
replaced or removed changes its folder's time. One that is overwritten in place does not, so the next plan is the first to see it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from videolift.paths import Layout
from videolift.stage_table import STAGES
from videolift.store import read_json, write_json

SETTLING_NS = 2 * 10**9
"""A folder that changed within this time may change again within one tick of its clock, and look the same."""


@dataclass(frozen=True)
class SeenOutput:
    """An output folder as a plan saw it.

    Attributes:
        times_ns: path below the output folder to time of change, of every folder and journal that the work rests on; taken before
            anything was looked at. Empty where one had changed too shortly before.
        settled: batch to how many videos were worked on there, of those batches in which each of them was done.
    """

    times_ns: Mapping[str, int] = field(default_factory=dict)
    settled: Mapping[str, int] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Into a run's folder."""
        write_json(run / "seen.json", asdict(self))


def times_before_looking(layout: Layout) -> dict[str, int]:
    """`SeenOutput.times_ns` as of now."""
    found = dict(_times(layout))
    return found if max(found.values(), default=0) < time.time_ns() - SETTLING_NS else {}


def still_settled(layout: Layout, run: Path) -> Mapping[str, int]:
    """`SeenOutput.settled` of a run's plan where nothing has changed since it looked; else nothing."""
    value = read_json(run / "seen.json")
    if value is None or not value.get("times_ns") or value["times_ns"] != dict(_times(layout)):
        return {}
    settled: Mapping[str, int] = value["settled"]
    return settled


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
