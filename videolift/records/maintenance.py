"""What a user may undo, take out or throw away: retry, exclude, remove, clean. Nothing else deletes artifacts.

Every action takes the lease of the output folder and of the batches it touches, so it cannot pull files from under a run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.exclusions import read_exclusions, write_exclusions
from videolift.records.leases import Lease
from videolift.records.record_reader import RecordReader, hold_journal
from videolift.stage_table import STAGES

_LEFTOVER = re.compile(r"^\..*\.tmp$|\.damaged$")


@dataclass(frozen=True)
class Deletion:
    """What an action would delete.

    Attributes:
        paths: files and folders.
        layout: of the output folder whose records go too.
        records: stages whose record is thrown away, by video.
    """

    paths: tuple[Path, ...]
    layout: Layout | None = None
    records: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        files = (p for path in self.paths for p in (path.rglob("*") if path.is_dir() else [path]))
        return sum(p.stat().st_size for p in files if p.is_file())

    def delete(self) -> None:
        """Deletes records before artifacts: after a kill in between, artifacts that are left have no record, and are made again."""
        if self.layout is not None:
            _lift(self.layout, self.records)
        for path in self.paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def batches_held(layout: Layout, batches: Iterable[str]) -> Iterator[None]:
    """Holds the output folder against runs, and the leases of some batches in every stage.

    Raises:
        LeaseHeld: a run works in this output folder, or a job that outlived its run on one of the batches.
    """
    with ExitStack() as stack:
        # The head's lease first: no new run begins while we hold it, and leases of an old run's jobs are seen below.
        stack.enter_context(Lease.acquire(layout.head_lease, wait_s=0, what=f"{layout.output}"))
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
        raise ConfigError(f"{layout.output} has no video {', '.join(unknown)}; `videolift status` lists all")
    return {f"{known[video]:04d}" for video in videos}


def all_batches(layout: Layout) -> set[str]:
    """Names of every batch of an output folder."""
    return {f"{batch:04d}" for batch in Assignment.load(layout.assignment).batches.values()}


def lift_quarantines(layout: Layout, videos: Sequence[str] | None, stages: Sequence[str] = STAGES) -> dict[str, list[str]]:
    """Lifts quarantines: the next run tries again. Returns stage names by video.

    Args:
        videos: ids; None for all that are quarantined.

    Raises:
        ConfigError: a named video is not quarantined.
        LeaseHeld: a run works on it.
    """
    read = RecordReader(layout)
    wanted = list(Assignment.load(layout.assignment).batches) if videos is None else list(videos)
    # Called for its error alone: an id that no run has seen.
    batches_of(layout, wanted)
    lifted = {
        video: found
        for video in wanted
        if (found := [s for s in stages if (receipt := read(s, video)) is not None and receipt.state == "quarantined"])
    }
    if videos is not None and (fine := [video for video in videos if video not in lifted]):
        raise ConfigError(f"not quarantined: {', '.join(fine)}")
    # Leases only now: an error above has kept nobody from working.
    with batches_held(layout, batches_of(layout, lifted)):
        _lift(layout, lifted)
    return lifted


def _lift(layout: Layout, stages_by_video: Mapping[str, Iterable[str]]) -> None:
    """Takes what is recorded of some videos out of the journals of batches that are held.

    A changed journal makes the next run look at its batch again.
    """
    known = Assignment.load(layout.assignment).batches
    videos_by_batch: dict[tuple[str, str], list[str]] = {}
    for video, stages in stages_by_video.items():
        for stage in stages:
            videos_by_batch.setdefault((stage, f"{known[video]:04d}"), []).append(video)
    for (stage, batch), videos in videos_by_batch.items():
        with hold_journal(layout, stage, batch) as journal:
            for video in videos:
                journal.lift(video)


def exclude_video(layout: Layout, video: str, reason: str) -> None:
    """Takes a video out by decision: its own class in the verdict, no part of the statistics. Its artifacts stay.

    Raises:
        ConfigError: no such video.
    """
    batches_of(layout, [video])  # for its error: a name that no run has listed is a mistake
    write_exclusions(layout.excluded, {**read_exclusions(layout), video: reason})


def include_video(layout: Layout, video: str) -> None:
    """Undoes `exclude_video`.

    Raises:
        ConfigError: it was not excluded.
    """
    reasons = read_exclusions(layout)
    if reasons.pop(video, None) is None:
        raise ConfigError(f"{video} is not excluded")
    write_exclusions(layout.excluded, reasons)


def everything_of(layout: Layout, videos: Sequence[str]) -> Deletion:
    """All that a run made of some videos; the sources are not touched."""
    batches_of(layout, videos)
    paths: list[Path] = []
    for stage in STAGES:
        for video in videos:
            paths += [
                layout.artifact(stage, video),
                layout.receipt(stage, video),
                layout.video_log(stage, video),
            ]
            # The fingerprint's length is in the pattern: without it, removing `clip` would take the segments of `clip-2` along.
            paths += layout.all_segments(stage).glob(f"{video}-{'[0-9a-f]' * 12}")
    return Deletion(tuple(path for path in paths if path.exists()), layout, dict.fromkeys(videos, STAGES))


def work_of(layout: Layout, stage: str) -> Deletion:
    """All artifacts, records and manifests of one stage."""
    if stage not in STAGES:
        raise ConfigError(f"{stage!r} is not a stage: use one of {', '.join(STAGES)}")
    paths = (layout.artifacts(stage), layout.manifests(stage))
    videos = Assignment.load(layout.assignment).batches
    return Deletion(tuple(path for path in paths if path.exists()), layout, dict.fromkeys(videos, (stage,)))


def leftovers(layout: Layout) -> Deletion:
    """Temporary and damaged files, and segments of work that was not finished."""
    paths: list[Path] = []
    for stage in STAGES:
        paths += [path for path in layout.all_artifacts(stage) if _LEFTOVER.search(path.name) or path.name == ".segments"]
    return Deletion(tuple(paths))
