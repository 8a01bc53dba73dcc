"""Lets go of artifacts that nothing will read any more: ``keep`` in the configuration says which stay.

Runs at the end of a batch's packaging, the last reader. A released artifact's receipt keeps its bytes and hash, so that nothing
becomes stale by its going, and who needs it again can tell whether it was made anew as it was.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace

from videolift.config import RELEASABLE
from videolift.paths import Layout
from videolift.records.manifests import Row, Target, read_manifest, write_manifest
from videolift.records.receipts import read_receipt, write_receipt
from videolift.records.runs import Run


def release(run: Run, batch: str, videos: Iterable[str]) -> int:
    """Deletes the artifacts of packaged ``videos`` that need not stay; returns the bytes freed."""
    names, freed = list(videos), 0
    for stage in RELEASABLE:
        if stage not in run.config.keep:
            gone = {video: freed_bytes for video in names if (freed_bytes := _release(run.layout, stage, video)) is not None}
            if batch in run.plan["targets"][stage]:
                token, generation = run.plan["targets"][stage][batch]
                _mark(run.layout, Target(stage, batch, token, generation), gone)
            freed += sum(gone.values())
    return freed


def _release(layout: Layout, stage: str, video: str) -> int | None:
    """Bytes freed; None where there is nothing to release."""
    path = layout.receipt(stage, video)
    receipt = read_receipt(path)
    if receipt is None or receipt.artifact is None or receipt.state == "quarantined" or receipt.is_imported:
        return None
    if receipt.state != "released":
        write_receipt(path, replace(receipt, state="released"))  # first, so that a kill leaves too much and not too little
    try:
        os.unlink(layout.output / receipt.artifact.path)
    except FileNotFoundError:
        return 0
    return receipt.artifact.bytes


def _mark(layout: Layout, target: Target, gone: Collection[str]) -> None:
    """Says so in the stage's manifest, which vouched for the files; its time stays, or Snakemake would run what follows it."""
    path = target.path(layout.manifests(target.stage))
    manifest = read_manifest(path)
    if manifest is None or not gone:
        return
    stat = path.stat()
    rows = {video: Row("released", row.artifact) if video in gone else row for video, row in manifest.videos.items()}
    write_manifest(path, replace(manifest, videos=rows), times_ns=(stat.st_atime_ns, stat.st_mtime_ns))
