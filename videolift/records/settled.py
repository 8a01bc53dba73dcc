"""Videos of which the manifests of every stage say that nothing is left to do: no journal need be read for them.

A manifest stands while its journal and the artifacts it vouches for are as they were when it was written, so a changed journal, a
deleted artifact or a lost manifest sends the question back to the journals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videolift.paths import Layout
from videolift.records.manifests import SETTLED, Target, standing_manifest
from videolift.records.runs import Entry, Run
from videolift.stage_table import SPECS

Targets = Mapping[str, Mapping[str, Target]]
"""Stage to batch to the manifest it should have; a stage without one in a batch does nothing there."""
_FILES = tuple(sorted({name for spec in SPECS.values() for name in spec.files} - {"path"}))
"""Columns of the table that name files beside the source."""


@dataclass(frozen=True)
class SettledBatch:
    """What the manifests of one batch say.

    Attributes:
        rows: video to stage to its row (`videolift.records.manifests.Row`, as JSON holds it: half a million objects take seconds),
            of those videos that are done in all stages asked about.
        backends: (stage, identity) of what made their artifacts.
    """

    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    backends: Sequence[tuple[str, Mapping[str, Any]]] = ()


def recorded_targets(run: Run, stages: Sequence[str]) -> Targets:
    """The manifests that a run is to reach."""
    recorded = run.plan.get("targets", {})
    return {
        stage: {batch: Target(stage, batch, *name) for batch, name in recorded[stage].items()}
        for stage in stages
        if stage in recorded
    }


def settled_batch(layout: Layout, targets: Targets, entries: Sequence[Entry], *, artifacts_seen: bool = False) -> SettledBatch:
    """Those of a batch's ``entries`` that are settled by the manifests ``targets``; see `standing_manifest`.

    A video with files of its own beside its source (a mask, a calibration) never is: manifests do not know when those change.
    """
    batch = entries[0].batch
    alone = (entry.video for entry in entries if all(getattr(entry.video, name) is None for name in _FILES))
    found: dict[str, dict[str, Any]] = {video.id: {} for video in alone}
    backends: list[tuple[str, Mapping[str, Any]]] = []
    for stage, by_batch in targets.items():
        if batch not in by_batch:
            continue
        path = by_batch[batch].path(layout.manifests(stage))
        manifest = standing_manifest(path, layout.output, artifacts_seen=artifacts_seen)
        rows = manifest["videos"] if manifest is not None else {}
        for video in [video for video in found if video not in rows or rows[video]["state"] not in SETTLED]:
            del found[video]
        for video, of_video in found.items():
            of_video[stage] = rows[video]
        backends += [(stage, backend) for backend in manifest["backends"]] if manifest is not None else []
    # Without targets nothing was asked, so nothing is settled.
    return SettledBatch(found if targets else {}, backends)
