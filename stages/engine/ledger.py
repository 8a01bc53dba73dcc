"""The pool's ledger for videos: what it claims, finishes and gives up goes into the batch's journal, in that order.

The supervisor is the journal's only writer. A worker that dies between publishing its artifact and saying so has still done its
video: the artifact carries what its receipt would say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stages.engine.budget import Budget
from stages.engine.worker import Done, Job, versions
from videolift.paths import Layout
from videolift.pool import Item, Outcome
from videolift.records.journal import Journal, OpenClaim, VideoRecord
from videolift.records.receipts import Reason, Receipt
from videolift.records.record_reader import saved_parts
from videolift.records.recovery import read_back
from videolift.stage_table import PACKAGING
from videolift.store import remove_leftovers, write_text

_NOTHING = VideoRecord()


class JournalLedger:
    """A `videolift.pool.Ledger` over the journal of one stage and batch."""

    def __init__(
        self, layout: Layout, stage: str, journal: Journal, jobs: Mapping[str, Job], identity: dict[str, Any], budget: Budget
    ) -> None:
        self._layout, self._stage, self._journal = layout, stage, journal
        self._jobs, self._identity, self._budget = jobs, identity, budget
        self._claimed: set[str] = set()

    def claimed(self, item: Item, *, attempt: int, pid: int, start_time: float) -> None:
        """See `videolift.pool.Ledger`."""
        # Before the claim: what is refused here has not been begun.
        self._budget.admit(self._stage, len(self._claimed))
        # Its leftovers may be half written, and only one process works on a video at a time.
        if item.key in self._claimed or self._journal.records.get(item.key, _NOTHING).blame is not None:
            self._sweep(item.key)  # the worker that had it died
        fingerprint = self._jobs[item.key].fingerprint
        self._journal.claim(
            item.key, OpenClaim(fingerprint, attempt, saved_parts(self._layout, self._stage, item.key, fingerprint))
        )
        self._claimed.add(item.key)

    def recorded(self, item: Item) -> Outcome | None:
        """See `videolift.pool.Ledger`: what the artifact of this very work says, if it was published before its worker died."""
        receipt = read_back(self._layout, self._stage, item.key)
        if receipt is None or receipt.fingerprint != self._jobs[item.key].fingerprint:
            return None
        # What an artifact does not carry: the files it was made from, with size and time, and where the source lay.
        job = self._jobs[item.key]
        receipt = replace(receipt, files=job.files, versions=versions(), source=job.video.path)
        return Outcome("done", value=Done(receipt), code="recorded", shrink=receipt.shrink)

    def finished(self, item: Item, outcome: Outcome) -> None:
        """See `videolift.pool.Ledger`."""
        self._claimed.discard(item.key)
        job = self._jobs[item.key]
        if outcome.kind == "transient":
            # A disk that fails is charged to nobody.
            self._journal.release(item.key, outcome.attempts)
            self._sweep(item.key)  # the grace of a stop may have ended while its worker was writing
        elif outcome.kind != "done":
            self._sweep(item.key)
            if outcome.traceback:
                write_text(self._layout.video_log(self._stage, item.key), outcome.traceback)
            self._journal.write(
                Receipt(
                    video=job.video.id,
                    stage=self._stage,
                    state="quarantined",
                    fingerprint=job.fingerprint,
                    backend=self._identity,
                    inputs=job.inputs,
                    files=job.files,
                    shrink=outcome.shrink,
                    seconds=round(outcome.seconds, 3),
                    peak_bytes=outcome.peak_bytes,
                    reason=Reason(outcome.kind, outcome.code or outcome.kind, outcome.text, outcome.remedy),
                    attempts=outcome.attempts,
                    versions=versions(),
                    source=job.video.path,
                )
            )
        elif isinstance(outcome.value, Done):
            # The pool's seconds: they leave out time for which a job was suspended.
            receipt = replace(outcome.value.receipt, seconds=round(outcome.seconds, 3))
            self._journal.write(receipt)
            if self._stage == PACKAGING and receipt.artifact is not None and outcome.code != "recorded":
                self._journal.verified(item.key, receipt.artifact.sha256)  # the worker has read it again from the disk
        else:  # nothing was published: an artifact above turned out to be damaged
            self._journal.release(item.key, 0)

    def _sweep(self, video: str) -> None:
        remove_leftovers(self._layout.artifact(self._stage, video))
