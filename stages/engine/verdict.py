"""The end of every target: what became of each video, and an exit code that says so.

Trusts the manifests that the jobs before it have just written and opens receipts only for videos that are not plainly done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from videolift.paths import Layout
from videolift.records.freshness import Variant, judge
from videolift.records.manifests import Target, read_states
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Entry, Run
from videolift.records.status import Status, VideoStatus, assess, excluded
from videolift.stage_table import judged


def verdict(run: Run, target: str) -> Status:
    """Status of the run's chosen videos up to stage ``target``."""
    targets = {
        stage: [Target(stage, batch, token, generation) for batch, (token, generation) in run.plan["targets"][stage].items()]
        for stage in judged(target)
    }
    entries = [entry for entry in run.entries() if entry.chosen]
    videos = assess_all(entries, run.variants, run.layout, target, targets, RecordReader(run.layout))
    videos += [excluded(video, reason) for video, reason in run.plan["excluded"].items()]
    return Status(tuple(videos), target, run.config.max_quarantined)


def assess_all(
    entries: Sequence[Entry],
    variants: Sequence[Variant],
    layout: Layout,
    target: str,
    targets: Mapping[str, Sequence[Target]],
    read: RecordReader,
) -> list[VideoStatus]:
    """Status of each entry up to stage ``target``; ``targets`` are the manifests to trust, per stage."""
    plainly_done = set.intersection(*(_done(layout, targets[stage], entries) for stage in judged(target)))
    videos = []
    for entry in entries:
        video, vanished = entry.video.id, entry.vanished
        if video in plainly_done:
            videos.append(VideoStatus(video, "done", notes=("source missing",) if vanished else ()))
            continue
        states = judge(entry.video, variants[entry.variant], read, layout.output, stages=judged(target), vanished=vanished)
        videos.append(assess(video, states, target, vanished=vanished))
    return videos


def _done(layout: Layout, targets: Sequence[Target], entries: Iterable[Entry]) -> set[str]:
    """Videos of which one stage has done what there is to do, by its manifests; where a batch has no target that is nothing."""
    busy = {target.batch for target in targets}
    done = {entry.video.id for entry in entries if entry.batch not in busy}
    for target in targets:
        states = read_states(target.path(layout.manifests(target.stage)))
        done |= {video for video, state in states.items() if state in ("done", "none", "released")}
    return done
