"""What a plan will do and cost, judged from receipts: for ``snakemake -n``, `videolift plan`, and the refusal of surprises."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.engine.costs.run_cost import SECONDS_PER_HOUR, RunCost, run_cost, stage_cost
from stages.engine.costs.scale import ScaleForecast
from stages.engine.plan import Plan, judge_all, make_plan
from stages.models.options import add_config_options, config_of
from stages.registry import backend_class
from videolift.errors import BadInput, ConfigError, ExitCode, VideoliftError
from videolift.pool import read_events
from videolift.records.batches import usual_size
from videolift.records.freshness import StageState
from videolift.records.record_reader import RecordReader
from videolift.records.status import Status, VideoStatus, assess, assess_all, excluded
from videolift.stage_table import NONE, PACKAGING, SOURCE, STAGES

HEADERS = 1000
"""New videos of which `videolift plan` opens the header, spread over all: a network disk takes minutes for a hundred thousand."""


@dataclass(frozen=True)
class StageOutlook:
    """One stage.

    Attributes:
        todo: videos never done there.
        redo: video to why its finished work is stale.
        maybe: videos done before that run again only if what they read turns out different.
        redo_seconds: what the finished work that is stale took.
        seconds, bytes: expected for all of it, from the mean of past receipts; None without any.
    """

    todo: int = 0
    redo: Mapping[str, str] = field(default_factory=dict)
    maybe: int = 0
    redo_seconds: float = 0.0
    seconds: float | None = None
    bytes: float | None = None


@dataclass(frozen=True)
class PlanReport:
    """What there is to do.

    Attributes:
        stages: stage to its outlook.
        judged_videos: those of ``busy_batches``.
        busy_batches: in which some stage has no manifest that stands.
    """

    plan: Plan
    stages: Mapping[str, StageOutlook]
    judged_videos: tuple[VideoStatus, ...]
    busy_batches: frozenset[str]

    @property
    def busy(self) -> tuple[str, ...]:
        """Stages that have a video to do, or may have."""
        return tuple(stage for stage, found in self.stages.items() if found.todo or found.redo or found.maybe)

    @classmethod
    def of(cls, plan: Plan) -> PlanReport:
        """Judges every chosen video of those batches that are not plainly done."""
        read = RecordReader(plan.layout)
        busy = {target.batch for stage in STAGES for target in plan.open_targets(stage)}
        chosen = [entry for entry in plan.entries if entry.chosen]
        tallies = {stage: _Tally(stage) for stage in STAGES}
        videos: list[VideoStatus] = []
        before: dict[str, StageState] | None = None
        for entry, states in judge_all(plan, [entry for entry in chosen if entry.batch in busy], read):
            same = states is before and videos
            videos.append(replace(videos[-1], video=entry.video.id) if same else assess(entry.video.id, states, PACKAGING))
            for stage, state in states.items():
                tallies[stage].add(entry.video.id, state)
            before = states
        stages = {stage: tally.forecast(plan) for stage, tally in tallies.items()}
        return cls(plan, stages, tuple(videos), frozenset(busy))

    @cached_property
    def status(self) -> Status:
        """What the verdict would say now. Only when asked for: of a hundred thousand videos that are done it takes seconds."""
        plan = self.plan
        idle = (entry for entry in plan.entries if entry.chosen and entry.batch not in self.busy_batches)
        targets = {stage: plan.targets[stage] for stage in STAGES}
        read = RecordReader(plan.layout)
        # The plan has just looked at the artifacts of these batches: their manifests would not stand otherwise.
        settled = assess_all(plan.layout, plan.variants, targets, idle, PACKAGING, read, artifacts_seen=True)
        videos = [*self.judged_videos, *settled]
        videos += [excluded(video, reason) for video, reason in plan.excluded.items()]
        return Status(tuple(videos), max_quarantined=plan.config.max_quarantined)

    def refuse(self) -> None:
        """Stops a run that would redo finished work beyond ``redo_limit`` unasked.

        Raises:
            ConfigError: says which stages, what changed, how many videos and hours, and how to allow it.
        """
        allowed = self.plan.config.redo
        surprises = {stage: f for stage, f in self.stages.items() if f.redo and stage not in allowed}
        hours = sum(f.redo_seconds for f in surprises.values()) / SECONDS_PER_HOUR
        if hours <= self.plan.config.redo_limit:
            return
        lines = [
            f"  {stage}: {len(f.redo)} videos, {f.redo_seconds / SECONDS_PER_HOUR:.1f} h: {_reasons(f.redo)}"
            for stage, f in surprises.items()
        ]
        names = ",".join(surprises)
        raise ConfigError(
            f"this run would redo {hours:.1f} h of finished work, more than redo_limit ({self.plan.config.redo_limit:g} h):\n"
            + "\n".join(lines)
            + f"\nUndo the change, or allow it with: --config 'redo=[{names}]'"
        )

    def cost(self, *, videos: int | None = None, cards: int = 1) -> RunCost:
        """What is left to do, or ``videos`` from the start, costs on ``cards``, by what has been measured."""
        plan, costs = self.plan, {}
        for stage, measured in plan.measured.items():
            if measured is not None:
                # The largest log has seen most work, hence the steadiest number of workers.
                logs = sorted((plan.layout.output / "logs" / stage).glob("*.events.jsonl"), key=lambda path: path.stat().st_size)
                events = read_events(logs[-1]) if logs else []
                costs[stage] = stage_cost(measured, events, on_cards=stage in plan.gpu)
        left = {stage: f.todo + len(f.redo) for stage, f in self.stages.items()}
        if videos is not None:
            left = {stage: videos if plan.targets[stage] else 0 for stage in self.stages}  # a stage that is off costs nothing
        return run_cost(costs, left, batch_size=plan.config.batch_size or usual_size(max(left.values())), cards=cards)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"stages": {stage: asdict(f) for stage, f in self.stages.items()}, "verdict": self.status.to_json()}

    def lines(self) -> list[str]:
        """For people."""
        chosen = sum(entry.chosen for entry in self.plan.entries)
        out = ["", f"videolift: {chosen} video{'' if chosen == 1 else 's'} in {self.plan.layout.output}"]
        for stage, f in self.stages.items():
            if not (f.todo or f.redo or f.maybe):
                out.append(f"  {stage:<10} nothing to do")
                continue
            parts = [f"{f.todo} to do"] if f.todo else []
            parts += [f"{len(f.redo)} to redo ({_reasons(f.redo)})"] if f.redo else []
            parts += [f"{f.maybe} more if what they read changes"] if f.maybe else []
            cost = (
                f", about {f.seconds / SECONDS_PER_HOUR:.2f} h of work and {(f.bytes or 0) / 1e9:.2f} GB"
                if f.seconds is not None
                else ""
            )
            out.append(f"  {stage:<10} {', '.join(parts)}{cost}")
            if f.seconds is None:
                kinds = {
                    backend_class(stage, blocks[stage].backend) for blocks in self.plan.blocks if blocks[stage].backend != NONE
                }
                out += sorted(f"  {'':<10} {kind.name}: {kind.cost}" for kind in kinds if kind.cost)
        losses = [line for line in self.status.lines()[:-1] if not line.startswith("  pending")]
        return [*out, *losses, f"  verdict now: {self.status.headline()} (exit code {int(self.status.exit_code)})"]


@dataclass
class _Tally:
    """Of one stage, while videos go by."""

    stage: str
    todo: int = 0
    maybe: int = 0
    redo: dict[str, str] = field(default_factory=dict)
    redo_seconds: float = 0.0

    def add(self, video: str, state: StageState) -> None:
        if state.kind == "todo":
            self.todo += 1
        elif state.kind == "stale" and state.why.startswith("after "):
            self.maybe += 1
        elif state.kind == "stale":
            self.redo[video] = state.why
            self.redo_seconds += state.receipt.seconds if state.receipt else 0.0

    def forecast(self, plan: Plan) -> StageOutlook:
        work = self.todo + len(self.redo)
        # Past work is looked up where there is work alone: it is read from journals.
        measured = plan.measured[self.stage] if work else None
        seconds, size = (measured.mean_s * work, measured.bytes * work) if measured else (None, None)
        return StageOutlook(self.todo, self.redo, self.maybe, self.redo_seconds, seconds, size)


def _reasons(redo: Mapping[str, str]) -> str:
    common = Counter(redo.values()).most_common(3)
    return "; ".join(why for why, _ in common)


def plan_parser() -> argparse.ArgumentParser:
    """The options of ``videolift plan``."""
    parser = argparse.ArgumentParser(
        prog="videolift plan", description="What a run would do and cost, and which videos it would refuse."
    )
    add_config_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    parser.add_argument(
        "--what-if",
        nargs="+",
        default=[],
        metavar="NAME=N",
        help="price another number: videos=N from the start, on cards=M; from what has been measured in this output folder, "
        "and what so many cost as a whole (docs/scale.md)",
    )
    return parser


def plan_command(arguments: list[str] | None = None) -> int:
    """`videolift plan`: what a run with a configuration would do, without Snakemake."""
    from stages.ingest.source import probe  # it brings PyAV, and a run's head process asks for the report without headers

    options = plan_parser().parse_args(arguments)
    try:
        config = config_of(options)
        report = PlanReport.of(make_plan(config, Path.cwd()))
        given = dict(one.partition("=")[::2] for one in options.what_if)
        for name, text in given.items():
            if name not in ("videos", "cards") or not text.isdigit() or int(text) < 1:
                raise ConfigError(f"--what-if {name}={text}: give videos=N, cards=N, or both, N at least 1")
        numbers = {name: int(text) for name, text in given.items()}
        cost = report.cost(**numbers)
    except VideoliftError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    # New videos that ingest would refuse, as far as their headers tell. Of a batch in which every manifest stands no video is new,
    # and its journals need not be read.
    open_entries = [e for e in report.plan.entries if e.chosen and e.batch in report.busy_batches]
    read = RecordReader(report.plan.layout)
    new = [e.video for e in open_entries if not e.video.version and read(SOURCE, e.video.id) is None]
    refused = {}
    if len(new) > HEADERS:
        print(f"videolift: looks into {HEADERS:,} of {len(new):,} new videos", file=sys.stderr)
    # Every n-th, so that all folders of a large source are looked into.
    for video in new[:: -(-len(new) // HEADERS) or 1]:
        try:
            probe(Path(video.path))
        except BadInput as error:
            refused[video.id] = str(error)
        except OSError as error:
            refused[video.id] = f"{video.path} cannot be read ({error.strerror})"
    # By the settings of the first video: rows of the table that choose other backends are few.
    backends = {stage: block.backend for stage, block in report.plan.blocks[0].items() if block.backend != NONE}
    scale = ScaleForecast(numbers["videos"], backends=backends) if "videos" in numbers else None
    if options.json:
        about_all = {"scale": scale.to_json()} if scale is not None else {}
        print(json.dumps({**report.to_json(), "price": cost.to_json(), **about_all, "refused": refused}, indent=1))
    else:
        lines = [*report.lines(), *cost.lines(), *(scale.lines() if scale is not None else ())]
        print("\n".join([*lines, *(f"  would be refused: {video}: {reason}" for video, reason in refused.items())]))
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(plan_command())
