"""The plan of a run: which manifest every stage and batch should have, and what of that is to be done.

Turns configuration, listed videos, assignment and manifests into targets. The cheap part (`make_plan`) reads one manifest per batch
and stage and one stat per artifact; `judge_all` reads receipts and is asked for only where something is to be done. Nothing
here is written except by `Plan.write`, which the head process calls before the first job and never under ``-n``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from stages.backend import Backend
from stages.engine.cluster import minutes, statistics_minutes, sure_workers
from stages.engine.costs.run_cost import PastWork, measure_past_work
from stages.registry import backend_class, identity
from stages.settings import changed_settings, settings_for, variant_key
from videolift.config import Config, StageBlock, user_path
from videolift.errors import ConfigError
from videolift.inputs.catalog import Video, list_videos, select
from videolift.paths import Layout
from videolift.records.batches import Assignment
from videolift.records.exclusions import read_exclusions, refuse_unknown
from videolift.records.freshness import StageState, Variant, file_stat, judge, reopened
from videolift.records.manifests import SETTLED, Target, choose_target, generations, read_manifest
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Entry, write_run
from videolift.records.seen import SeenOutput, times_before_looking
from videolift.records.settled import has_files
from videolift.stage_table import NONE, PACKAGING, SOURCE, SPECS, STAGES, STATISTICS, StageSpec
from videolift.store import sha256_of

ALL = "all"
"""The one batch of the statistics."""


@dataclass(frozen=True)
class Plan:
    """What a run is to reach.

    Attributes:
        entries: all videos but the excluded ones, by batch; those outside ``only`` are not ``chosen``.
        targets: stage to batch to the manifest it should have; batches of which a stage does no video have none.
        excluded: video to reason.
        assignment: with the new videos, not yet written.
        environments: stage to the names of environments that are built before its jobs.
        gpu: stages of which at least one backend runs on a card.
        blocks: stage to its settings, for every distinct way in which videos are processed.
        seen: what need not be looked at again as long as nothing changes.
    """

    config: Config
    layout: Layout
    run: Path
    entries: tuple[Entry, ...]
    variants: tuple[Variant, ...]
    targets: Mapping[str, Mapping[str, Target]]
    excluded: Mapping[str, str]
    assignment: Assignment
    environments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gpu: frozenset[str] = frozenset()
    blocks: tuple[Mapping[str, StageBlock], ...] = ()
    seen: SeenOutput = field(default_factory=SeenOutput)

    def manifest(self, stage: str, batch: str) -> Path:
        """The file a stage and batch should have."""
        return self.targets[stage][batch].path(self.layout.manifests(stage))

    def open_targets(self, stage: str) -> list[Target]:
        """Targets of a stage whose file is not there."""
        present = set(_listed(self.layout.manifests(stage)))
        return [target for target in self.targets[stage].values() if target.name not in present]

    @cached_property
    def batches(self) -> Mapping[str, Sequence[Entry]]:
        """Chosen videos by batch."""
        found: dict[str, list[Entry]] = {}
        for entry in (e for e in self.entries if e.chosen):
            found.setdefault(entry.batch, []).append(entry)
        return found

    @cached_property
    def measured(self) -> Mapping[str, PastWork | None]:
        """What work has cost so far, by stage."""
        sizes = {entry.video.id: entry.video.bytes for entry in self.entries}
        return {stage: measure_past_work(self.layout, stage, sizes) for stage in STAGES}

    def minutes(self, stage: str, batch: str, cores: int) -> int:
        """What a cluster's job asks for at its first attempt."""
        if stage == STATISTICS:
            return statistics_minutes(len(self.entries))
        return minutes(self.measured[stage], self.batches[batch], sure_workers(cores, on_card=stage in self.gpu))

    def write(self, *, cores: int, with_minutes: bool) -> None:
        """Records the run for its jobs: assignment, configuration, catalog, plan.

        Args:
            cores: of a job.
            with_minutes: also how long a cluster's jobs may take.
        """
        self.layout.make_room(len(self.assignment.batches))
        self.assignment.append_new(self.layout.assignment)
        targets = {
            stage: {batch: [target.token, target.generation] for batch, target in batches.items()}
            for stage, batches in self.targets.items()
        }
        jobs = {stage: self.open_targets(stage) if with_minutes else [] for stage in STAGES}
        asked = {stage: {job.batch: self.minutes(stage, job.batch, cores) for job in found} for stage, found in jobs.items()}
        plan = {"cores": cores, "minutes": asked}
        plan |= {
            "changed": changed_settings(self.config),
            "targets": targets,
            "environments": self.environments,
            "gpu": sorted(self.gpu),
            "excluded": self.excluded,
        }
        self.seen.write(self.run)
        write_run(self.run, self.config, self.variants, self.entries, plan)


def make_plan(config: Config, root: Path, *, on_cluster: bool = False) -> Plan:
    """The plan for ``config`` as things stand on the disk.

    Args:
        root: the folder that ``videos`` and ``output`` are relative to.
        on_cluster: jobs run on other machines, whose cards are not seen from here.

    Raises:
        ConfigError: no videos, unknown backends, too many sources vanished.
    """
    layout = Layout(root / user_path(config.output))
    # A part of the path that is a file: the records below it could not even be looked for.
    there = next(path for path in (layout.output, *layout.output.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(f"output is {layout.output}, but {there} is no folder: choose another one")
    excluded = read_exclusions(layout)
    rows = None
    if config.videos == "sample":
        from stages.sample import sample_rows  # the renderer takes long to import

        rows = sample_rows(layout.output / "sample")
    listed = list_videos(config, root=root, sample_rows=rows)
    known = Assignment.load(layout.assignment)
    if excluded:
        refuse_unknown(layout.excluded, excluded, {*known.batches, *(video.id for video in listed)})
    vanished = _vanished(config, layout, known, {video.id for video in listed if not video.missing})
    gone = {video.id for video in vanished}
    videos = [video for video in (*(v for v in listed if v.id not in gone), *vanished) if video.id not in excluded]
    assignment = known.extended(videos, config.batch_size)
    chosen = {video.id for video in select(videos, config.only)} if config.only else None
    variants = _Variants(config)
    names = {number: f"{number:04d}" for number in set(assignment.batches.values())}  # one text for all videos of a batch
    entries = [
        Entry(v, names[assignment.batches[v.id]], variants.index(v), v.id in gone, chosen is None or v.id in chosen) for v in videos
    ]
    # Batches in order, and ids within them: catalog and manifests of equal runs are equal.
    entries.sort(key=lambda entry: (entry.batch, entry.video.id))
    times_ns = times_before_looking(layout)
    targets, settled = _targets(config, layout, entries, variants=variants.all, excluded=excluded)
    needs = {stage: variants.classes(stage) for stage in STAGES}
    devices = {stage: {c.device for c in classes} for stage, classes in needs.items()}
    # On a cluster the jobs' machines have the cards, and this one need not have any.
    takes_card = {"cuda", "any"} if on_cluster else {"cuda"}
    if not on_cluster and any("any" in found for found in devices.values()):
        from videolift.pool import devices_for  # the pool takes long to import

        if devices_for("any")[0].kind == "cuda":
            takes_card.add("any")
    return Plan(
        config=config,
        layout=layout,
        run=layout.run(config.digest()),
        entries=tuple(entries),
        variants=tuple(variants.all),
        targets=targets,
        excluded=excluded,
        assignment=assignment,
        seen=SeenOutput(times_ns, settled),
        environments={stage: tuple(sorted({c.env for c in classes if c.env and c.builds_env})) for stage, classes in needs.items()},
        gpu=frozenset(stage for stage, found in devices.items() if found & takes_card),
        blocks=tuple(variants.blocks),
    )


def judge_all(
    plan: Plan, entries: Iterable[Entry], read: RecordReader, *, stages: tuple[str, ...] = STAGES
) -> Iterator[tuple[Entry, dict[str, StageState]]]:
    """State of every video in every stage; videos never begun share one, without inputs of their own."""
    never_begun: dict[int, dict[str, StageState]] = {}
    for entry in entries:
        # Ten thousand new videos need one judgement per variant, not one each.
        is_known = read.knows(entry.video.id)
        states = None if is_known else never_begun.get(entry.variant)
        if states is None:
            variant = plan.variants[entry.variant]
            states = reopened(judge(entry.video, variant, read, plan.layout.output, stages=stages, vanished=entry.vanished))
            if not is_known:
                never_begun[entry.variant] = states
        yield entry, states


def _vanished(config: Config, layout: Layout, known: Assignment, listed: set[str]) -> list[Video]:
    missing = [video for video in known.batches if video not in listed]
    read = RecordReader(layout)
    rows = [
        Video(id=video, path=receipt.source)
        for video in missing
        if (receipt := read(SOURCE, video)) is not None and receipt.state != "quarantined"
    ]
    # A disk that is not mounted looks like a user who removed everything.
    if len(rows) > config.max_vanished * len(known.batches):
        names = ", ".join(video.id for video in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise ConfigError(
            f"{len(rows)} of {len(known.batches)} videos done in {layout.output} are no longer listed in {config.videos}: {names}. "
            f"If a disk is not mounted, mount it. For other videos choose another output. "
            f"To forget them: videolift remove VIDEO...; to go on and keep them: --config max_vanished=1"
        )
    return rows


class _Variants:
    """The distinct ways in which the videos of a run are processed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._index: dict[Any, int] = {}
        self.blocks: list[dict[str, StageBlock]] = []
        self.all: list[Variant] = []

    def index(self, video: Video) -> int:
        """Index of the variant that ``video`` is processed by."""
        key = variant_key(self._config, video)
        if key not in self._index:
            blocks = settings_for(self._config, video)
            settings = {stage: block.model_dump(mode="json") for stage, block in blocks.items()}
            variant = Variant(
                identities={stage: identity(stage, block) for stage, block in blocks.items()},
                required=tuple(settings[PACKAGING]["required"]),
                settings=settings,
            )
            self._index[key] = len(self.all)
            self.all.append(variant)
            self.blocks.append(blocks)
        return self._index[key]

    def classes(self, stage: str) -> list[type[Backend]]:
        """Backend classes of one stage over all variants."""
        names = {blocks[stage].backend for blocks in self.blocks} - {NONE}
        return [backend_class(stage, name) for name in sorted(names)]


def _targets(
    config: Config,
    layout: Layout,
    entries: Sequence[Entry],
    *,
    variants: Sequence[Variant],
    excluded: Mapping[str, str],
) -> tuple[dict[str, dict[str, Target]], dict[str, int]]:
    """`Plan.targets` and `SeenOutput.settled`."""
    digests = [{stage: sha256_of(v.identities[stage]) for stage in STAGES} for v in variants]
    batches: dict[str, list[Entry]] = {}
    for entry in (e for e in entries if e.chosen):
        batches.setdefault(entry.batch, []).append(entry)
    # Hash of who is in a batch and which of its variants each is processed by; those variants. Numbered within the batch, so that
    # a variant that only other batches have leaves its token alone.
    who: dict[str, tuple[str, list[int]]] = {}
    for batch, members in batches.items():
        ways = list(dict.fromkeys(e.variant for e in members))
        who[batch] = sha256_of([[e.video.id, ways.index(e.variant), e.vanished, e.video.version] for e in members]), ways
    settled = {batch: len(members) for batch, members in batches.items() if not any(has_files(e.video) for e in members)}
    targets: dict[str, dict[str, Target]] = {}
    tokens: dict[str, dict[str, str]] = {}
    for stage, spec in SPECS.items():
        folder, row = layout.manifests(stage), _RowReader(spec)
        # One listing per stage: a look at each file would be a round trip to a shared file system.
        present = generations(folder)
        targets[stage], tokens[stage] = {}, {}
        for batch, members in batches.items():
            names, ways = who[batch]
            how = [digests[variant][stage] for variant in ways]
            what = [[e.video.id, *found] for e in row.readers(members) if (found := row.of(e))]
            above = [tokens[name][batch] for name in spec.reads if not SPECS[name].addition or batch in targets[name]]
            token = tokens[stage][batch] = sha256_of([stage, names, how, what, above])[:12]
            if any(variants[variant].identities[stage] is not None for variant in ways):
                targets[stage][batch], manifest = choose_target(stage, batch, token, present, folder, layout.output)
                if manifest is None or not SETTLED.issuperset(manifest.videos.states):
                    settled.pop(batch, None)
    # An artifact that was let go of is read again where a stage below it is open: its own target opens with that one.
    present_names = {stage: set(_listed(layout.manifests(stage))) for stage in STAGES}
    # From the last stage up, since opening one target may open those above it.
    for stage in reversed(STAGES):
        for batch in [batch for batch, target in targets[stage].items() if target.name not in present_names[stage]]:
            for name in SPECS[stage].reads:
                source = targets[name].get(batch)
                if source is None or source.name not in present_names[name]:
                    continue
                manifest = read_manifest(source.path(layout.manifests(name)))
                if manifest is not None and "released" in manifest.videos.states:
                    targets[name][batch] = replace(source, generation=source.generation + 1)
    last = list(tokens[PACKAGING].values())
    videos = [e.video.id for e in entries]
    token = sha256_of([last, config.statistics.model_dump(mode="json"), sorted(excluded.items()), videos])[:12]
    folder = layout.manifests(STATISTICS)
    target, _ = choose_target(STATISTICS, ALL, token, generations(folder), folder, layout.output)
    return {**targets, STATISTICS: {ALL: target}}, settled


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


class _RowReader:
    """What of a video's row the token of a stage covers: of files size and time, not content, which would have to be read."""

    def __init__(self, spec: StageSpec) -> None:
        self._has_source = "path" in spec.files
        self._files = _getter([name for name in spec.files if name != "path"])
        self._row, self._cells = _getter(spec.row), _getter(spec.cells)

    def readers(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those of ``entries`` whose row may say something to the stage."""
        if self._has_source or self._row or self._cells:
            return entries
        return [entry for entry in entries if self._files and any(self._files(entry.video))]

    def of(self, entry: Entry) -> list[Any]:
        """JSON-able; empty where the row says nothing to the stage."""
        video = entry.video
        if video.version:
            return []
        found: list[Any] = [file_stat(path) for path in self._files(video) if path] if self._files else []
        if self._row:
            found.append(self._row(video))
        if not entry.vanished:
            if self._has_source:
                found.append((video.bytes, video.mtime_ns))
            if self._cells:
                found.append(self._cells(video))
        return found


def _getter(names: Sequence[str]) -> Callable[[Video], tuple[Any, ...]] | None:
    """A function that gives the fields ``names`` of a video; None without any."""
    # Attribute by attribute took a second over 100,000 videos.
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda video: (get(video),)
    return attrgetter(*names) if names else None
