"""Packaged files are read again from the disk before anything trains on them: by the worker that wrote one, or else by its job.

The job reads what an import or an older videolift has left, and what was read back after its record was lost. What passed is kept
in the journal by content; what did not is quarantined, so that it is out of the dataset and stands in every verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from videolift.dataset.verify import Finding, verify_file
from videolift.paths import Layout
from videolift.records.journal import Journal, VideoRecord
from videolift.records.receipts import Reason
from videolift.stage_table import PACKAGING

FAILS_VERIFICATION = "fails_verification"


def findings_text(findings: list[Finding]) -> str:
    """The first findings about one packaged file, for people."""
    found = "; ".join(f"{finding.check}: {finding.text}" for finding in findings[:3])
    return f"the packaged file does not hold what it says: {found}"


def verify_unread(layout: Layout, journal: Journal, videos: Iterable[str]) -> list[str]:
    """Verifies packaged files that nobody has read again yet; returns the videos that did not pass.

    Args:
        layout: of the output folder.
        journal: of the packaging stage and the batch.
        videos: of the batch.
    """
    failed = []
    for video in videos:
        record = journal.records.get(video, VideoRecord())
        receipt = record.receipt
        if receipt is None or receipt.state != "done" or receipt.artifact is None:
            continue
        # By content: a file that was copied or touched need not be read again.
        if receipt.artifact.sha256 == record.verified_sha256:
            continue
        path = layout.artifact(PACKAGING, video)
        findings = verify_file(path, sha256=receipt.artifact.sha256)
        if not findings:
            journal.verified(video, receipt.artifact.sha256)
            continue
        # Said first: a kill in between leaves a file that no record calls done.
        reason = Reason("bad_input", FAILS_VERIFICATION, findings_text(findings), findings[0].remedy)
        journal.write(replace(receipt, state="quarantined", artifact=None, reason=reason))
        path.rename(path.with_name(f"{path.name}.damaged"))
        failed.append(video)
    return failed
