"""Where everything of a run lies in the output folder. The only module that spells these paths.

An output folder of few videos is flat: ``depth/{video}.h5``. Many files make a folder slow, so above `FLAT_VIDEOS` videos the new
ones go into 256 sub-folders, by a hash of their id: ``depth/3f/{video}.h5``. What lies flat by then stays where it is.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from videolift.errors import ConfigError
from videolift.stage_table import PACKAGING, SPECS

_SUBFOLDER = re.compile(r"[0-9a-f]{2}")
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""A video's id; checked on every path join, so that no name a user gives can leave the output folder."""


FLAT_VIDEOS = 8000
"""Up to so many a folder stays flat, temporary files beside them included below ten thousand entries."""


def checked_id(video: str) -> str:
    """``video`` if it is an id.

    Raises:
        ConfigError: it is not; nothing may be joined to it.
    """
    if not ID.fullmatch(video):
        raise ConfigError(f"{video!r} is not a video id: letters, digits and . _ - only, at most 100, not starting with . or -")
    return video


SUBFOLDERS = 256  # two hex digits: of a million videos each holds some 4,000


def subfolder_of(video: str) -> str:
    """The sub-folder that files of a video go into where there are too many for one folder."""
    return hashlib.sha256(video.encode()).hexdigest()[:2]


@dataclass(frozen=True)
class Layout:
    """Paths below one output folder."""

    output: Path

    def artifacts(self, stage: str) -> Path:
        """Folder of one stage's artifacts."""
        return self.output / SPECS[stage].folder

    def artifact(self, stage: str, video: str) -> Path:
        """The artifact of one stage and video: where it is, or where it is to be."""
        return self._spread(self.artifacts(stage), checked_id(video) + SPECS[stage].suffix, video)

    def all_artifacts(self, stage: str) -> Iterator[Path]:
        """What lies in the folder of one stage's artifacts and in its sub-folders, temporary files included."""
        for path in self.artifacts(stage).iterdir() if self.artifacts(stage).is_dir() else ():
            if _SUBFOLDER.fullmatch(path.name):
                yield from path.iterdir()
            else:
                yield path

    def _spread(self, folder: Path, name: str, video: str) -> Path:
        """Flat or in a sub-folder. Only of a file that is in neither place the mark decides, so losing it loses no file."""
        flat, below = folder / name, folder / subfolder_of(video) / name
        # The flat place first: what was made before the folder grew stays there, and is never made a second time.
        if os.path.exists(flat):
            return flat
        return below if os.path.exists(self._spread_mark) or os.path.exists(below) else flat

    def make_room(self, videos: int) -> None:
        """Has new artifacts go into sub-folders where there are more than `FLAT_VIDEOS` videos; before any of them is made."""
        if videos > FLAT_VIDEOS:
            self._spread_mark.parent.mkdir(parents=True, exist_ok=True)
            self._spread_mark.touch()

    @property
    def _spread_mark(self) -> Path:
        return self.output / "batches" / "in_subfolders"

    def segments(self, stage: str, video: str, fingerprint: str) -> Path:
        """Folder of committed segments of one piece of work."""
        # 48 bits of it tell apart the few settings that one video is ever worked on with.
        return self.all_segments(stage) / f"{checked_id(video)}-{fingerprint[:12]}"

    def all_segments(self, stage: str) -> Path:
        """Folder of what is in work in one stage."""
        return self.artifacts(stage) / ".segments"

    def journals(self, stage: str) -> Path:
        """Folder of one stage's journals, one per batch."""
        return self.output / "journals" / stage

    def receipts(self, stage: str) -> Path:
        """Folder of receipts of one stage that were handed over and that no journal has taken in yet."""
        return self.output / "receipts" / stage

    def receipt(self, stage: str, video: str) -> Path:
        """A receipt that is handed over."""
        return self.receipts(stage) / f"{checked_id(video)}.json"

    def lease(self, stage: str, batch: str) -> Path:
        """The lease of one stage and batch."""
        return self.output / "leases" / stage / batch

    @property
    def head_lease(self) -> Path:
        """The lease of the one run that may submit jobs for this output folder."""
        return self.output / "leases" / "head" / "run"

    @property
    def assignment(self) -> Path:
        """Which video belongs to which batch."""
        return self.output / "batches" / "assignment.jsonl"

    def manifests(self, stage: str) -> Path:
        """Folder of one stage's manifests."""
        return self.output / "batches" / stage

    def batch_log(self, stage: str, batch: str) -> Path:
        """What happened in one batch, all videos."""
        return self.output / "logs" / stage / f"{batch}.log"

    def video_log(self, stage: str, video: str) -> Path:
        """What one video's workers printed, and its tracebacks."""
        return self._spread(self.output / "logs" / stage, f"{checked_id(video)}.log", video)

    def events(self, stage: str, batch: str) -> Path:
        """The pool's events of one batch, JSON lines."""
        return self.output / "logs" / stage / f"{batch}.events.jsonl"

    def run(self, digest: str) -> Path:
        """What a run was started with: its configuration, catalog and plan."""
        return self.output / "runs" / digest[:12]

    @property
    def latest_run(self) -> Path:
        """A file naming the run started last; `videolift status` starts there."""
        return self.output / "runs" / "latest.json"

    @property
    def dataset(self) -> Path:
        """The packaged dataset."""
        return self.artifacts(PACKAGING)

    @property
    def excluded(self) -> Path:
        """Videos taken out by decision, with reasons."""
        return self.output / "excluded.json"

    @property
    def quarantine(self) -> Path:
        """A view for people, written whole by verdict and status; nothing reads it."""
        return self.output / "quarantine.csv"

    @property
    def previews(self) -> Path:
        """Videos and posters of what was found, written by `videolift preview`."""
        return self.report.parent / "previews"

    @property
    def report(self) -> Path:
        """The page written by `videolift report`; its folder holds the media that it shows."""
        return self.output / "report" / "index.html"

    @property
    def audit_sheet(self) -> Path:
        """Samples for a person to judge, written by `videolift audit`."""
        return self.report.parent / "audit.html"

    def scene_page(self, video: str) -> Path:
        """One video in 3D, written by `videolift view --page`."""
        return self.report.parent / "scenes" / f"{checked_id(video)}.html"

    @property
    def pool_history(self) -> Path:
        """Memory and speed figures of past pools, advisory."""
        return self.output / "logs" / "pool_history.json"
