"""The last stage: normalization statistics, card and index over ALL done videos, each time anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.models.licences import licences_for_card
from videolift.dataset.publish import PackagedVideo, publish_dataset
from videolift.dataset.splits import SplitRule
from videolift.errors import ExitCode
from videolift.inputs.catalog import Video
from videolift.records.freshness import judge
from videolift.records.leases import Lease
from videolift.records.manifests import Manifest, Row, Target, remove_older, write_manifest
from videolift.records.receipts import ArtifactRecord
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.stage_table import PACKAGING
from videolift.store import sha256_file

log = logging.getLogger("videolift")


def run_statistics(run: Run, target: Target, manifest: Path) -> ExitCode:
    """Merges the accumulators of every packaged video and writes what describes the dataset.

    Raises:
        LeaseHeld: another run does the same.
        Transient: disk full.
    """
    layout, read = run.layout, RecordReader(run.layout)
    packaged: list[PackagedVideo] = []
    backends: dict[str, tuple[str, Mapping[str, Any]]] = {}
    left_out = {video: f"excluded: {reason}" for video, reason in run.plan["excluded"].items()}
    with Lease.acquire(layout.lease(target.stage, target.batch), wait_s=run.config.lease_wait_s):
        for entry in run.entries():
            variant = run.variants[entry.variant]
            states = judge(entry.video, variant, read, layout.output, vanished=entry.vanished)
            state = states[PACKAGING]
            if state.kind == "done" and state.receipt and state.receipt.artifact:
                path = layout.artifact(PACKAGING, entry.video.id)
                artifact = state.receipt.artifact
                packaged.append(PackagedVideo(entry.video.id, path, artifact.sha256, artifact.bytes, _metadata(entry.video)))
                made_by = ((stage, s.receipt.backend) for stage, s in states.items() if s.kind == "done" and s.receipt)
                backends |= {f"{stage} {backend}": (stage, backend) for stage, backend in made_by}
            elif state.kind in ("quarantined", "blocked"):
                left_out[entry.video.id] = f"{state.kind}: {state.why}"
        settings, card = run.config.statistics, licences_for_card(backends.values())
        rule = SplitRule(settings.splits.seed, tuple((name, getattr(settings.splits, name)) for name in ("train", "val", "test")))
        summary = publish_dataset(layout.dataset, packaged, left_out=left_out, group=settings.group, splits=rule, card=card)
        log.info("statistics of group %s over %s; not in it: %d videos", summary.group, dict(summary.groups), summary.left_out)
        rows = {path.name: Row("done", _record(path, layout.output)) for path in summary.files}
        write_manifest(manifest, Manifest(target.stage, target.batch, target.token, target.generation, rows))
        remove_older(manifest.parent, target)
    return ExitCode.OK


def _metadata(video: Video) -> dict[str, Any]:
    """What of a video's row may be published: never a path."""
    return {**video.metadata, "text": video.text, "subject": video.subject, "split": video.split}


def _record(path: Path, output: Path) -> ArtifactRecord:
    stat = path.stat()
    return ArtifactRecord(path.relative_to(output).as_posix(), stat.st_size, stat.st_mtime_ns, sha256_file(path))
