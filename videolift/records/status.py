"""Where a run stands: every video done, quarantined with a reason, excluded or pending. ``in`` is always their sum.

Turns a run, its manifests and its receipts into a table for people and JSON for scripts. Changes nothing but the quarantine view.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Literal

from videolift.errors import ExitCode
from videolift.paths import Layout
from videolift.records.freshness import StageState, Variant, judge
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Entry, Run
from videolift.records.settled import Targets, recorded_targets, settled_batch
from videolift.stage_table import NONE, PACKAGING, SPECS, judged
from videolift.store import write_text

_LISTED = 20
"""Pending videos named; the others are counted."""
Overall = Literal["done", "quarantined", "excluded", "pending"]


@dataclass(frozen=True)
class Loss:
    """Why a video, or a part of it, is not there."""

    stage: str
    code: str
    text: str
    remedy: str

    def line(self) -> str:
        """For people; a video taken out by decision was lost in no stage and needs no remedy."""
        stage = f"{self.stage}: " if self.stage else ""
        return f"{stage}{self.text}. {self.remedy}" if self.remedy else stage + self.text


@dataclass(frozen=True, slots=True)
class VideoStatus:
    """One video.

    Attributes:
        overall: its class in the verdict.
        stages: stage to its state's kind.
        loss: why it is quarantined, or why it was excluded.
        parts: optional parts that are missing, with reasons.
        notes: checks of its receipts, and ``source missing``.
        seconds: work recorded for it, by stage.
        content: windows, points and frames with a hand in its packaged file; None where that is not recorded.
    """

    video: str
    overall: Overall
    stages: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    loss: Loss | None = None
    parts: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    content: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Status:
    """All videos of a run, up to one stage; of ``settled`` more it is known that they are done, and nothing else is said."""

    videos: tuple[VideoStatus, ...]
    target: str = PACKAGING
    max_quarantined: int = 0
    settled: int = 0

    @property
    def counts(self) -> dict[Overall, int]:
        """Videos per class; their sum is the number of videos in."""
        found = Counter(video.overall for video in self.videos)
        kinds: tuple[Overall, ...] = ("done", "quarantined", "excluded", "pending")
        return {kind: found[kind] + (self.settled if kind == "done" else 0) for kind in kinds}

    @property
    def exit_code(self) -> ExitCode:
        """OK only if nothing is pending and no more than ``max_quarantined`` are lost."""
        counts = self.counts
        return ExitCode.LOST if counts["pending"] or counts["quarantined"] > self.max_quarantined else ExitCode.OK

    def headline(self) -> str:
        """One line, e.g. ``20 in = 14 done + 6 quarantined + 0 excluded + 0 pending``."""
        counts = self.counts
        return f"{sum(counts.values())} in = " + " + ".join(f"{n} {kind}" for kind, n in counts.items())

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "in": len(self.videos) + self.settled,
            **{str(kind): n for kind, n in self.counts.items()},
            "target": self.target,
            "exit_code": int(self.exit_code),
            "videos": [asdict(video) for video in self.videos],
        }

    def table(self) -> list[str]:
        """For people: videos per stage and state, with the work already done and an estimate of what is left."""
        out = [f"{'stage':<10} {'done':>7} {'stale':>7} {'quarantined':>12} {'blocked':>8} {'pending':>8}   work done      left"]
        for stage in judged(self.target):
            kinds = Counter(video.stages.get(stage, "done") for video in self.videos if video.overall != "excluded")
            if SPECS[stage].addition and not kinds.keys() - {"none"}:
                continue  # switched off, as it is unless it is asked for
            past = [video.seconds[stage] for video in self.videos if video.seconds.get(stage)]
            left = (kinds["todo"] + kinds["stale"]) * median(past) if past else None
            done = kinds["done"] + kinds["none"]
            counts = f"{done:>7} {kinds['stale']:>7} {kinds['quarantined']:>12} {kinds['blocked']:>8} {kinds['todo']:>8}"
            remaining = _hours(left) if left is not None else "unknown"
            out.append(f"{stage:<10} {counts}   {_hours(sum(past)):>9} {remaining:>9}")
        known = [video.content for video in self.videos if video.overall == "done" and video.content is not None]
        if known:
            windows, points = (sum(content[i] for content in known) for i in (0, 1))
            # A video whose hands were looked for and not found does not count as one with hands.
            with_points, with_hands = (sum(content[i] > 0 for content in known) for i in (1, 2))
            held = f"of {len(known)} videos {with_points} have points, {with_hands} hands"
            out.append(f"packaged   {windows} windows, {points} points; {held}")
        return out

    def video_lines(self) -> list[str]:
        """For people: each video with the state of every stage, and notes."""
        rows = [(video, " ".join(f"{stage}={kind}" for stage, kind in video.stages.items())) for video in self.videos]
        return [
            f"  {video.overall:<11} {video.video}: {stages}" + "".join(f"\n      {note}" for note in video.notes)
            for video, stages in rows
        ]

    def lines(self) -> list[str]:
        """For people: losses with remedies, missing parts, then the headline."""
        out: list[str] = []
        for video in self.videos:
            if video.loss is not None:
                out.append(f"  {video.overall:<11} {video.video}: {video.loss.line()}")
            out += [f"  without     {video.video}: {part.stage}: {part.text}" for part in video.parts]
        pending = [video for video in self.videos if video.overall == "pending"]
        for video in pending[:_LISTED]:
            first = ((stage, kind) for stage, kind in video.stages.items() if kind in ("todo", "stale"))
            wait = next((f"{stage} ({video.why.get(stage) or kind})" for stage, kind in first), "")
            out.append(f"  pending     {video.video}: {wait}")
        if len(pending) > _LISTED:
            out.append(f"  pending     and {len(pending) - _LISTED} more")
        return [*out, self.headline()]


def collect(
    run: Run, target: str = PACKAGING, *, only_chosen: bool = False, settled: Mapping[str, int] = MappingProxyType({})
) -> Status:
    """Status of every video of a run, or of those it works on (``only_chosen``).

    Args:
        settled: batches in which every one of so many videos is known to be done; they are counted alone.
    """
    entries = (entry for entry in run.entries(without=settled) if entry.chosen or not only_chosen)
    targets = recorded_targets(run, judged(target))
    read = RecordReader(run.layout)
    videos = [*assess_all(run.layout, run.variants, targets, entries, target=target, read=read)]
    videos += [excluded(video, reason) for video, reason in run.plan["excluded"].items()]
    return Status(tuple(videos), target, run.config.max_quarantined, sum(settled.values()))


def assess_all(
    layout: Layout,
    variants: Sequence[Variant],
    targets: Targets,
    entries: Iterable[Entry],
    target: str,
    read: RecordReader,
    *,
    artifacts_seen: bool = False,
) -> Iterator[VideoStatus]:
    """Status of ``entries``, which come batch by batch: by manifests that stand, and else by receipts.

    Args:
        layout: of the output folder.
        variants: that the entries name.
        targets: the manifests to trust, of the stages up to ``target``.
        entries: videos.
        target: the last stage that counts.
        read: receipt reader.
        artifacts_seen: as `standing_manifest`.
    """
    stages = judged(target)
    kinds_seen: dict[tuple[str, ...], dict[str, str]] = {}
    for _, grouped in groupby(entries, key=lambda entry: entry.batch):
        members = list(grouped)
        settled = settled_batch(layout, targets, members, artifacts_seen=artifacts_seen)
        rows = settled.rows
        for entry in members:
            index = settled.indices.get(entry.video.id)
            if index is None:
                states = judge(entry.video, variants[entry.variant], read, layout.output, stages=stages, vanished=entry.vanished)
                yield assess(entry.video.id, states, target, vanished=entry.vanished)
                continue
            kinds = tuple(["done" if stage in rows and rows[stage].states[index] != NONE else NONE for stage in stages])
            if (shared := kinds_seen.get(kinds)) is None:  # one for all: there may be millions
                shared = kinds_seen[kinds] = dict(zip(stages, kinds, strict=True))
            checks = [note for of_stage in rows.values() for note in of_stage.checks[index]]
            notes = ("source missing", *checks) if entry.vanished else tuple(checks)
            seconds = {stage: of_stage.seconds[index] for stage, of_stage in rows.items()}
            yield VideoStatus(entry.video.id, "done", stages=shared, notes=notes, seconds=seconds)


def assess(video: str, states: Mapping[str, StageState], target: str, *, vanished: bool = False) -> VideoStatus:
    """One video's status from its states (`videolift.records.freshness.judge`)."""
    kinds = {stage: state.kind for stage, state in states.items()}
    end = states[target].kind
    overall: Overall = "done" if end in ("done", "none") else "quarantined" if end in ("quarantined", "blocked") else "pending"
    losses = []
    # Blocked stages are no losses of their own: they follow from one that is named here.
    for stage, state in states.items():
        if state.kind == "quarantined":
            reason = state.receipt.reason if state.receipt else None
            told = (reason.code, reason.text, reason.remedy) if reason else ("unknown", "no reason was recorded", "")
            losses.append(Loss(stage, *told))
    notes = [note for state in states.values() if state.kind == "done" and state.receipt for note in state.receipt.checks]
    packaged = states[PACKAGING].receipt if PACKAGING in states and overall == "done" else None
    content = None
    if packaged is not None and "windows" in packaged.figures:
        windows, points, hand_frames = (int(packaged.figures.get(name, 0)) for name in ("windows", "points", "hand_frames"))
        content = windows, points, hand_frames
    return VideoStatus(
        video=video,
        overall=overall,
        stages=kinds,
        why={stage: state.why for stage, state in states.items() if state.why},
        loss=losses[0] if overall == "quarantined" and losses else None,
        parts=tuple(losses) if overall == "done" else (),
        notes=(*(["source missing"] if vanished else []), *notes),
        seconds={stage: state.receipt.seconds for stage, state in states.items() if state.receipt},
        content=content,
    )


def excluded(video: str, reason: str) -> VideoStatus:
    """A video taken out by decision."""
    return VideoStatus(video, "excluded", loss=Loss("", "excluded", reason, ""))


def write_quarantine(layout: Layout, videos: Iterable[VideoStatus]) -> Path:
    """Writes ``quarantine.csv`` whole: a view for people that nothing reads."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["video", "state", "stage", "code", "reason", "remedy"])
    for video in videos:
        losses = [loss for loss in (video.loss, *video.parts) if loss is not None]
        table.writerows([video.video, video.overall, loss.stage, loss.code, loss.text, loss.remedy] for loss in losses)
    write_text(layout.quarantine, text.getvalue())
    return layout.quarantine


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.1f} s"
