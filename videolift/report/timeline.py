"""Workers and memory over the working time of a run, per stage, from the pools' events.

Hours in which nothing ran are cut out of the axis, since a run may be stopped on Friday and go on on Monday.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from videolift.pool.events import read_events
from videolift.stage_table import STAGES

CURVE_STEPS = 200
"""Points of each curve."""
IDLE_S = 60.0
"""Longer times without any worker are cut out."""


@dataclass(frozen=True)
class StageCurve:
    """One stage over the working time.

    Attributes:
        workers: the most workers alive in each step.
        memory_gib: likewise the memory that the pools measured for them, all devices together.
        wall_seconds: time in which at least one pool of the stage worked.
        peak_bytes: the largest peak of one video.
    """

    workers: list[int]
    memory_gib: list[float]
    wall_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Timeline:
    """Curves by stage over ``seconds`` of working time; empty without events."""

    seconds: float = 0.0
    first: str = ""
    last: str = ""
    stages: Mapping[str, StageCurve] = field(default_factory=dict)


@dataclass
class _Changes:
    """What changed when, for one stage: (time, change of workers, change of memory in GiB)."""

    steps: list[tuple[float, int, float]] = field(default_factory=list)
    pools: list[tuple[float, float]] = field(default_factory=list)
    peak_bytes: int = 0

    def add_pools(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Adds the pools whose events one file holds; a killed pool has no end, its workers end with its last event."""
        workers, memory = 0, dict[str, float]()
        began = now = 0.0
        for event in events:
            kind, moment = event["kind"], datetime.fromisoformat(event["time"]).timestamp()
            if kind == "started":
                # "started" twice without an end between: the pool before was killed.
                if began:
                    self.end_pool(began, now, workers, memory)
                workers, memory, began = 0, {}, moment
            now = moment
            if kind in ("spawned", "gone"):
                # A worker may end whose start no event tells of; the count must not fall below none.
                change = 1 if kind == "spawned" else -min(1, workers)
                workers += change
                self.steps.append((moment, change, 0.0))
            elif kind == "resized":
                device, own_gib = str(event.get("device", "")), float(event.get("own_gib") or 0.0)
                # Events tell the memory in use, but curves are summed over pools: so the change counts.
                self.steps.append((moment, 0, own_gib - memory.get(device, 0.0)))
                memory[device] = own_gib
            elif kind == "done":
                self.peak_bytes = max(self.peak_bytes, int(event.get("peak_bytes") or 0))
        if began:
            self.end_pool(began, now, workers, memory)

    def end_pool(self, began: float, now: float, workers: int, memory: Mapping[str, float]) -> None:
        self.steps.append((now, -workers, -sum(memory.values())))
        self.pools.append((began, now))

    def curve(self, busy: list[tuple[float, float]], seconds: float) -> StageCurve:
        workers, memory_gib = [0] * CURVE_STEPS, [0.0] * CURVE_STEPS
        now_workers, now_gib, step = 0, 0.0, 0
        for moment, change, gib in sorted(self.steps):
            # Idle nights between two runs are left out, or the work would be a thin line.
            worked = sum(min(moment, end) - start for start, end in busy if start < moment)
            reached = min(CURVE_STEPS - 1, int(CURVE_STEPS * worked / max(seconds, 1e-9)))
            for k in range(step + 1, reached + 1):
                workers[k], memory_gib[k] = now_workers, now_gib
            step = max(step, reached)
            now_workers, now_gib = now_workers + change, now_gib + gib
            workers[step], memory_gib[step] = max(workers[step], now_workers), max(memory_gib[step], now_gib)
        wall = sum(end - start for start, end in _merged(self.pools))
        return StageCurve(workers, [round(gib, 2) for gib in memory_gib], round(wall, 1), self.peak_bytes)


def read_timeline(logs: Path) -> Timeline:
    """The timeline of all event files below ``logs`` (``{stage}/{batch}.events.jsonl``)."""
    changes = {stage: _Changes() for stage in STAGES}
    for stage, found in changes.items():
        for path in sorted((logs / stage).glob("*.events.jsonl")):
            found.add_pools(read_events(path))
    busy = _merged(span for found in changes.values() for span in found.pools)
    if not busy:
        return Timeline()
    seconds = sum(end - start for start, end in busy)
    stages: dict[str, StageCurve] = {stage: found.curve(busy, seconds) for stage, found in changes.items() if found.pools}
    first, last = (datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M") for moment in (busy[0][0], busy[-1][1]))
    return Timeline(round(seconds, 1), first, last, stages)


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time in order, those that overlap or lie less than `IDLE_S` apart made one."""
    out: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if out and start - out[-1][1] <= IDLE_S:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out
