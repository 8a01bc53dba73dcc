"""What is recorded of every video: the one answer to "what is done", for all who read.

Reads the journals of an output folder, each when a video of its batch is first asked for, and receipts that were handed over
beside them. `hold_journal` is how a batch's journal is written: by the holder of its lease, and by nobody else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.journal import Journal, VideoRecord, journal_numbers, read_journal
from videolift.records.receipts import Receipt, read_receipt
from videolift.records.recovery import packaging_inputs, read_back
from videolift.stage_table import PACKAGING, STAGES

_NOTHING = VideoRecord()
_JOURNALS_KEPT = 2 * len(STAGES)
"""Those of two batches: a hundred thousand videos are looked at batch by batch."""


class RecordReader:
    """Answers what is recorded of a stage and video.

    Args:
        layout: of the output folder.
        live: the journal that this process is writing, by (stage, batch); what it says now counts.
        batches: of the assignment, where it has been read already.
    """

    def __init__(
        self,
        layout: Layout,
        live: Mapping[tuple[str, str], Journal] | None = None,
        batches: Mapping[str, int] | None = None,
    ) -> None:
        self._layout, self._live = layout, live or {}
        self._given_batches = batches
        self._journals: dict[tuple[str, str], Mapping[str, VideoRecord]] = {}
        self._handed_over: dict[str, set[str]] = {}
        self._read_back: dict[str, Receipt | None] = {}

    def __call__(self, stage: str, video: str) -> Receipt | None:
        """The receipt of a stage and video, None if there is none.

        Raises:
            CorruptFile: written by a newer videolift.
        """
        if f"{video}.json" in self._listed(stage):
            # Not yet taken into the journal, so newer than what that says.
            handed_over = read_receipt(self._layout.receipt(stage, video))
            if handed_over is not None:
                return handed_over
        record = self.record(stage, video)
        if stage == PACKAGING:
            if not record.is_lost:
                return record.receipt
            # The packaged file is asked, as all that it was made of may have been let go of since.
            if video not in self._read_back:
                self._read_back[video] = read_back(self._layout, PACKAGING, video)
            return self._read_back[video]
        receipt = record.receipt
        if receipt is not None and receipt.artifact is not None and not os.path.exists(self._layout.artifact(stage, video)):
            # Done, and the artifact is gone: let go of, if the packaged file was made of just this content.
            packaging = self.record(PACKAGING, video)
            released = packaging_inputs(self._layout, video) if packaging.is_lost else packaging.released
            if released.get(stage) == receipt.artifact.sha256:
                return replace(receipt, state="released")
        return receipt

    def record(self, stage: str, video: str) -> VideoRecord:
        """All that the journal says of a stage and video."""
        batch = self._batches.get(video)
        return _NOTHING if batch is None else self.of_batch(stage, f"{batch:04d}").get(video, _NOTHING)

    def of_batch(self, stage: str, batch: str) -> Mapping[str, VideoRecord]:
        """All that the journal says of a stage and batch, by video."""
        key = (stage, batch)
        if key in self._live:
            # What this process is writing counts, and not what it had read before.
            return self._live[key].records
        if key not in self._journals:
            # The oldest goes: videos come batch by batch, so it is not asked for again.
            while len(self._journals) >= _JOURNALS_KEPT:
                del self._journals[next(iter(self._journals))]
            content = read_journal(self._layout.journals(stage), batch) if batch in self._numbers[stage] else None
            self._journals[key] = content.records if content is not None else {}
        return self._journals[key]

    def knows(self, video: str) -> bool:
        """True if any stage may have a record of ``video``; reads no journal."""
        batch = self._batches.get(video)
        has_journal = batch is not None and any(f"{batch:04d}" in self._numbers[stage] for stage in STAGES)
        return has_journal or any(f"{video}.json" in self._listed(stage) for stage in STAGES)

    @cached_property
    def _batches(self) -> Mapping[str, int]:
        return Assignment.load(self._layout.assignment).batches if self._given_batches is None else self._given_batches

    @cached_property
    def _numbers(self) -> dict[str, dict[str, list[int]]]:
        return {stage: journal_numbers(self._layout.journals(stage)) for stage in STAGES}

    def _listed(self, stage: str) -> set[str]:
        if stage not in self._handed_over:
            try:
                self._handed_over[stage] = set(map(sys.intern, os.listdir(self._layout.receipts(stage))))
            except FileNotFoundError:
                self._handed_over[stage] = set()
        return self._handed_over[stage]


@contextmanager
def hold_journal(layout: Layout, stage: str, batch: str, batches: Mapping[str, int] | None = None) -> Iterator[Journal]:
    """The journal of a batch, to be written by the holder of its lease; takes in what was handed over for its videos.

    Args:
        layout: of the output folder.
        stage, batch: of the journal.
        batches: as `RecordReader`.

    Raises:
        CorruptFile: written by a newer videolift.
        Transient: disk full, quota or I/O error.
    """
    number = int(batch)
    if batches is None:
        batches = Assignment.load(layout.assignment).batches
    members = [video for video, of in batches.items() if of == number]
    folder = layout.receipts(stage)
    try:
        # One listing: a call per member would be slow on a network file system.
        names = set(os.listdir(folder))
    except FileNotFoundError:
        names = set()
    files = [layout.receipt(stage, video) for video in members if f"{video}.json" in names]
    with Journal.take_over(
        layout.journals(stage),
        batch,
        handed_over=filter(None, map(read_receipt, files)),
        progress=lambda video, fingerprint: saved_parts(layout, stage, video, fingerprint),
    ) as journal:
        for path in files:  # the journal holds them now, on the disk
            path.unlink()
        yield journal


def saved_parts(layout: Layout, stage: str, video: str, fingerprint: str) -> int:
    """How many parts of a piece of work are saved so far; only to be compared with a later figure."""
    try:
        return len(os.listdir(layout.segments(stage, video, fingerprint)))
    except FileNotFoundError:
        return 0
