"""Lets go of artifacts that nothing will read any more: ``keep`` in the configuration says which stay.

Runs at the end of a batch's packaging, the last reader. The journal of the packaging stage says what
was let go of, by content, so that nothing becomes stale by its going.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from videolift.config import RELEASABLE
from videolift.paths import Layout
from videolift.records.journal import Journal
from videolift.records.manifests import Target, read_manifest, write_manifest
from videolift.records.receipts import Receipt
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.stage_table import PACKAGING


def release(run: Run, batch: str, journal: Journal, read: RecordReader) -> int:
    """Deletes the artifacts of a batch's packaged videos that need not stay; returns the bytes freed.

    Args:
        journal: of the packaging stage.
    """
    gone: dict[str, list[str]] = {stage: [] for stage in RELEASABLE if stage not in run.config.keep}
    freed = 0
    for video in journal.records:
        packaged = read(PACKAGING, video)
        if packaged is None or packaged.state != "done":
            continue
        artifacts = {stage: receipt.artifact for stage in gone if (receipt := read(stage, video)) and _may_go(receipt)}
        held = {
            stage: artifact for stage, artifact in artifacts.items() if artifact and (run.layout.output / artifact.path).is_file()
        }
        if held:  # said first, so that a kill leaves too much and not too little
            known = journal.records[video].released
            journal.released(video, {**known, **{stage: artifact.sha256 for stage, artifact in held.items()}})
        for artifact in held.values():
            (run.layout.output / artifact.path).unlink()
            freed += artifact.bytes
        for stage in artifacts:
            gone[stage].append(video)
    for stage, videos in gone.items():
        if batch in run.plan["targets"][stage]:
            token, generation = run.plan["targets"][stage][batch]
            _mark(run.layout, Target(stage, batch, token, generation), videos)
    return freed


def _may_go(receipt: Receipt) -> bool:
    """False for what nobody here could make again."""
    return receipt.state != "quarantined" and not receipt.is_imported


def _mark(layout: Layout, target: Target, gone: Collection[str]) -> None:
    """Says so in the stage's manifest, which vouched for the files; its time stays, or Snakemake would run what follows it."""
    path = target.path(layout.manifests(target.stage))
    manifest = read_manifest(path)
    if manifest is None or not gone:
        return
    stat = path.stat()
    rows = {video: replace(row, state="released") if video in gone else row for video, row in manifest.videos.items()}
    write_manifest(path, replace(manifest, videos=rows), times_ns=(stat.st_atime_ns, stat.st_mtime_ns))
