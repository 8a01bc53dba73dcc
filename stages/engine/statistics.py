"""The last stage: normalization statistics, card and index over ALL done videos, each time anew."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.models.licences import licences_for_card
from videolift.dataset.publish import PackagedVideo, publish_dataset
from videolift.dataset.splits import SplitRule
from videolift.errors import ExitCode
from videolift.inputs.catalog import Video
from videolift.records.freshness import judge
from videolift.records.leases import Lease
from videolift.records.manifests import Manifest, ManifestRows, Row, Target, remove_older, write_manifest
from videolift.records.receipts import ArtifactRecord
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.records.seen import unchanged_folders
from videolift.records.settled import recorded_targets, settled_batch
from videolift.stage_table import PACKAGING, STAGES
from videolift.store import sha256_file

log = logging.getLogger("videolift")


def run_statistics(run: Run, target: Target, manifest: Path) -> ExitCode:
    """Merges the accumulators of every packaged video and writes what describes the dataset.

    Videos are found by the manifests of the jobs that packaged them, and by receipts where a manifest does not stand or a video is
    not done.

    Raises:
        LeaseHeld: another run does the same.
        Transient: disk full.
    """
    layout = run.layout
    with Lease.acquire(layout.lease(target.stage, target.batch), wait_s=run.config.lease_wait_s):
        packaged: list[PackagedVideo] = []
        top = f"{layout.output}{os.sep}"
        made_by: dict[str, tuple[str, Mapping[str, Any]]] = {}  # stage and identity of what made some artifact
        left_out = {video: f"excluded: {reason}" for video, reason in run.plan["excluded"].items()}
        read, targets, unchanged = RecordReader(layout), recorded_targets(run, STAGES), unchanged_folders(run)
        # By batch, as manifests are: one is read for all videos of a batch.
        for _, grouped in groupby(run.entries(), key=lambda entry: entry.batch):
            members = list(grouped)
            settled = settled_batch(layout, targets, members, unchanged=unchanged)
            made_by |= {f"{stage} {backend}": (stage, backend) for stage, backend in settled.backends}
            for entry in members:
                index, recorded = settled.indices.get(entry.video.id), settled.rows.get(PACKAGING)
                if index is not None and recorded is not None and (artifact := recorded.artifact(index)) is not None:
                    packaged.append(_packaged(top, entry.video, artifact))
                    continue
                states = judge(entry.video, run.variants[entry.variant], read, layout.output, vanished=entry.vanished)
                state = states[PACKAGING]
                if state.kind == "done" and state.receipt and state.receipt.artifact:
                    packaged.append(_packaged(top, entry.video, state.receipt.artifact))
                    done = {stage: s.receipt.backend for stage, s in states.items() if s.kind == "done" and s.receipt}
                    made_by |= {f"{stage} {backend}": (stage, backend) for stage, backend in done.items()}
                elif state.kind in ("quarantined", "blocked"):
                    left_out[entry.video.id] = f"{state.kind}: {state.why}"
        settings, card = run.config.statistics, licences_for_card(made_by.values())
        rule = SplitRule(settings.splits.seed, tuple((name, getattr(settings.splits, name)) for name in ("train", "val", "test")))
        summary = publish_dataset(layout.dataset, packaged, left_out=left_out, group=settings.group, splits=rule, card=card)
        log.info("statistics of group %s over %s; not in it: %d videos", summary.group, dict(summary.groups), summary.left_out)
        rows = {}
        for path in summary.files:
            stat = path.stat()
            place = path.relative_to(layout.output).as_posix()
            rows[path.name] = Row("done", ArtifactRecord(place, stat.st_size, stat.st_mtime_ns, sha256_file(path)))
        write_manifest(manifest, Manifest(target.stage, target.batch, target.token, target.generation, ManifestRows.of(rows)))
        remove_older(manifest.parent, target)
    return ExitCode.OK


def _packaged(top: str, video: Video, artifact: ArtifactRecord) -> PackagedVideo:
    # Of a video's row never a path: it names people's folders.
    published = {**video.metadata, "text": video.text, "subject": video.subject, "split": video.split}
    return PackagedVideo(video.id, top + artifact.path, artifact.sha256, artifact.bytes, published)
