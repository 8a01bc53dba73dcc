"""What a user may undo, take out or throw away: retry, exclude, remove, clean. Nothing else deletes artifacts.

Every action takes the leases of the batches it touches, so it cannot pull files from under a run. Deleting a manifest is what makes
Snakemake look again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.leases import Lease
from videolift.records.receipts import ReceiptCache
from videolift.stage_table import STAGES
from videolift.store import read_json, write_json

_LEFTOVER = re.compile(r"^\..*\.tmp$|\.damaged$")


@dataclass(frozen=True)
class Deletion:
    """Files and folders that an action would delete, with their size."""

    paths: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        files = (p for path in self.paths for p in (path.rglob("*") if path.is_dir() else [path]))
        return sum(p.stat().st_size for p in files if p.is_file())

    def carry_out(self) -> None:
        """Deletes."""
        for path in self.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def batches_held(layout: Layout, batches: Iterable[str]) -> Iterator[None]:
    """Holds the leases of some batches in every stage.

    Raises:
        LeaseHeld: a run works on one of them.
    """
    with ExitStack() as stack:
        for stage in STAGES:
            for batch in sorted(set(batches)):
                stack.enter_context(Lease.acquire(layout.lease(stage, batch), wait_s=0))
        yield


def batches_of(layout: Layout, videos: Iterable[str]) -> set[str]:
    """Names of the batches that ``videos`` are in.

    Raises:
        ConfigError: a video that no run has seen.
    """
    known = Assignment.load(layout.assignment).batches
    unknown = [video for video in videos if video not in known]
    if unknown:
        raise ConfigError(f"{layout.output} knows no video {', '.join(unknown)}; `videolift status` lists all")
    return {f"{known[video]:04d}" for video in videos}


def all_batches(layout: Layout) -> set[str]:
    """Names of every batch of an output folder."""
    return {f"{batch:04d}" for batch in Assignment.load(layout.assignment).batches.values()}


def retry(layout: Layout, videos: Sequence[str] | None, stages: Sequence[str] = STAGES) -> dict[str, list[str]]:
    """Lifts quarantines: the next run tries again. Returns stage names by video.

    Args:
        videos: ids; None for all that are quarantined.

    Raises:
        ConfigError: a named video is not quarantined.
        LeaseHeld: a run works on it.
    """
    read = ReceiptCache(layout)
    wanted = list(Assignment.load(layout.assignment).batches) if videos is None else list(videos)
    batches_of(layout, wanted)
    lifted = {
        video: found
        for video in wanted
        if (found := [s for s in stages if (receipt := read(s, video)) is not None and receipt.state == "quarantined"])
    }
    if videos is not None and (fine := [video for video in videos if video not in lifted]):
        raise ConfigError(f"not quarantined: {', '.join(fine)}")
    with batches_held(layout, batches_of(layout, lifted)):
        for video, found in lifted.items():
            for stage in found:
                layout.receipt(stage, video).unlink(missing_ok=True)
                layout.claim(stage, video).unlink(missing_ok=True)
                Deletion(tuple(_manifests(layout, stage, batches_of(layout, [video])))).carry_out()
    return lifted


def exclude(layout: Layout, video: str, reason: str) -> None:
    """Takes a video out by decision: its own class in the verdict, no part of the statistics. Its artifacts stay.

    Raises:
        ConfigError: no such video.
    """
    batches_of(layout, [video])
    write_json(layout.excluded, {**(read_json(layout.excluded) or {}), video: reason})


def include(layout: Layout, video: str) -> None:
    """Undoes `exclude`.

    Raises:
        ConfigError: it was not excluded.
    """
    reasons: dict[str, str] = read_json(layout.excluded) or {}
    if reasons.pop(video, None) is None:
        raise ConfigError(f"{video} is not excluded")
    write_json(layout.excluded, reasons)


def everything_of(layout: Layout, videos: Sequence[str]) -> Deletion:
    """All that a run made of some videos; the sources are not touched."""
    batches = batches_of(layout, videos)
    paths: list[Path] = []
    for stage in STAGES:
        for video in videos:
            paths += [
                layout.artifact(stage, video),
                layout.receipt(stage, video),
                layout.claim(stage, video),
                layout.video_log(stage, video),
            ]
            paths += (layout.artifact(stage, video).parent / ".segments").glob(f"{video}-*")
        paths += _manifests(layout, stage, batches)
    paths += [layout.dataset / "stats" / f"{video}.npz" for video in videos]
    return Deletion(tuple(path for path in paths if path.exists()))


def work_of(layout: Layout, stage: str) -> Deletion:
    """All artifacts, receipts and manifests of one stage."""
    if stage not in STAGES:
        raise ConfigError(f"{stage!r} is not a stage: use one of {', '.join(STAGES)}")
    paths = (layout.artifacts(stage), layout.receipts(stage), layout.manifests(stage))
    return Deletion(tuple(path for path in paths if path.exists()))


def leftovers(layout: Layout) -> Deletion:
    """Temporary and damaged files, and segments of work that was not finished."""
    paths: list[Path] = []
    for folder in map(layout.artifacts, STAGES):
        if folder.is_dir():
            paths += [path for path in folder.iterdir() if _LEFTOVER.search(path.name) or path.name == ".segments"]
    return Deletion(tuple(paths))


def _manifests(layout: Layout, stage: str, batches: Iterable[str]) -> list[Path]:
    folder = layout.manifests(stage)
    return [path for batch in sorted(batches) for path in folder.glob(f"{batch}-*.json")]
