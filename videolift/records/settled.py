"""Videos of which the manifests of every stage say that nothing is left to do: no journal need be read for them.

A manifest stands while its journal and the artifacts it vouches for are as they were when it was written, so a changed journal, a
deleted artifact or a lost manifest sends the question back to the journals.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.manifests import SETTLED, ManifestRows, Target, standing_manifest
from videolift.records.runs import Entry, Run
from videolift.stage_table import SPECS

Targets = Mapping[str, Mapping[str, Target]]
"""Stage to batch to the manifest it should have; a stage without one in a batch does nothing there."""
_files = attrgetter(*sorted({name for spec in SPECS.values() for name in spec.files} - {"path"}))


@dataclass(frozen=True)
class SettledBatch:
    """What the manifests of one batch say.

    Attributes:
        rows: stage to the rows of its manifest, the same videos in the same order; empty where a manifest does not stand.
        indices: video to its index in these rows, of those videos that are done in all stages asked about.
        backends: (stage, identity) of what made their artifacts.
    """

    rows: Mapping[str, ManifestRows] = field(default_factory=dict)
    indices: Mapping[str, int] = field(default_factory=dict)
    backends: Sequence[tuple[str, Mapping[str, Any]]] = ()


def has_files(video: Video) -> bool:
    """Whether its row names files beside its source (a mask, a calibration): manifests do not know when those change."""
    return any(given is not None for given in _files(video))


def recorded_targets(run: Run, stages: Sequence[str]) -> Targets:
    """The manifests that a run is to reach."""
    recorded = run.plan.get("targets", {})
    return {
        stage: {batch: Target(stage, batch, *name) for batch, name in recorded[stage].items()}
        for stage in stages
        if stage in recorded
    }


def settled_batch(
    layout: Layout,
    targets: Targets,
    entries: Sequence[Entry],
    *,
    artifacts_seen: bool = False,
    unchanged: Container[str] = (),
) -> SettledBatch:
    """Those of a batch's ``entries`` that are settled by the manifests ``targets``; see `standing_manifest` and `has_files`."""
    batch = entries[0].batch
    names = [entry.video.id for entry in entries if entry.chosen]
    rows: dict[str, ManifestRows] = {}
    backends: list[tuple[str, Mapping[str, Any]]] = []
    for stage, by_batch in targets.items():
        if batch not in by_batch:
            continue
        path = by_batch[batch].path(layout.manifests(stage))
        manifest = standing_manifest(path, layout.output, artifacts_seen=artifacts_seen, unchanged=unchanged)
        if manifest is None or manifest.videos.names != names:
            return SettledBatch()
        rows[stage] = manifest.videos
        backends += [(stage, backend) for backend in manifest.backends]
    alone = {entry.video.id for entry in entries if not has_files(entry.video)}
    # Without targets nothing was asked, so nothing is settled.
    states = zip(*(of_stage.states for of_stage in rows.values()), strict=True) if rows else ()
    indices = {
        name: i for i, (name, found) in enumerate(zip(names, states, strict=False)) if SETTLED.issuperset(found) and name in alone
    }
    return SettledBatch(rows, indices, backends)


def is_settled(layout: Layout, targets: Targets, batch: str, *, unchanged: Container[str]) -> bool:
    """Whether every manifest of a batch stands and leaves nothing to do; see `standing_manifest`."""
    for stage, by_batch in targets.items():
        if batch in by_batch:
            manifest = standing_manifest(by_batch[batch].path(layout.manifests(stage)), layout.output, unchanged=unchanged)
            if manifest is None or not SETTLED.issuperset(manifest.videos.states):
                return False
    return True
