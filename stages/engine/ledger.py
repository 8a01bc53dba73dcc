"""The pool's ledger for videos: claims before work starts, quarantine receipts for what cannot be done.

Done videos need no line here: the worker has already written artifact and receipt when the pool hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.engine.budget import Budget
from stages.engine.worker import Job, versions
from videolift.paths import Layout
from videolift.pool import Item, Outcome
from videolift.records.claims import read_claim, write_claim
from videolift.records.receipts import Reason, Receipt, read_receipt, write_receipt
from videolift.store import remove_leftovers, write_text


class ReceiptLedger:
    """A `videolift.pool.Ledger` over claims and receipts of one stage."""

    def __init__(self, layout: Layout, stage: str, jobs: Mapping[str, Job], identity: dict[str, Any], budget: Budget) -> None:
        self._layout, self._stage, self._jobs, self._identity, self._budget = layout, stage, jobs, identity, budget
        self._claimed: set[str] = set()

    def charged(self, video: str) -> int:
        """Crashes charged to this very work by runs that are no more."""
        claim = read_claim(self._layout.claim(self._stage, video))
        return claim.charged_attempts() if claim is not None and claim.fingerprint == self._jobs[video].fingerprint else 0

    def claimed(self, item: Item, *, attempt: int, pid: int, start_time: float) -> None:
        """See `videolift.pool.Ledger`."""
        self._budget.admit(self._stage, len(self._claimed))
        path = self._layout.claim(self._stage, item.key)
        if path.exists():  # whoever had it ended without a word
            self._sweep(item.key)
        write_claim(path, pid=pid, start_time=start_time, fingerprint=self._jobs[item.key].fingerprint, attempt=attempt)
        self._claimed.add(item.key)

    def recorded(self, item: Item) -> Outcome | None:
        """See `videolift.pool.Ledger`: the receipt of this very work, if the worker had written it before it died."""
        receipt = read_receipt(self._layout.receipt(self._stage, item.key))
        if receipt is None or receipt.state != "done" or receipt.fingerprint != self._jobs[item.key].fingerprint:
            return None
        return Outcome("done", code="recorded", seconds=receipt.seconds, shrink=receipt.shrink)

    def finished(self, item: Item, outcome: Outcome) -> None:
        """See `videolift.pool.Ledger`; anything but done and transient becomes a quarantine receipt."""
        self._claimed.discard(item.key)
        if outcome.kind not in ("done", "transient"):
            self._sweep(item.key)
            if outcome.traceback:
                write_text(self._layout.video_log(self._stage, item.key), outcome.traceback)
            write_receipt(self._layout.receipt(self._stage, item.key), self._quarantine(self._jobs[item.key], outcome))
        self._layout.claim(self._stage, item.key).unlink(missing_ok=True)

    def _sweep(self, video: str) -> None:
        for path in (self._layout.artifact(self._stage, video), self._layout.receipt(self._stage, video)):
            remove_leftovers(path)

    def _quarantine(self, job: Job, outcome: Outcome) -> Receipt:
        return Receipt(
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
            source=str(job.video.path),
        )
