"""Where a running run stands and when it will end, from the events its pools append, on this machine or on a cluster's nodes.

The end follows from the work that is left: of every video what it typically takes, times how what is done of that backend compares
with that, batch by batch, divided by how many videos a pool and how many pools have worked at once, plus what every job cost so far
besides its work. Of a backend that has done nothing in this run, earlier runs of the output folder speak; else the video in work,
by how far it has come; else how this machine compares on the backends that are measured.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from videolift.pool.sentences import event_sentence
from videolift.records.record_reader import RecordReader
from videolift.records.runs import Run
from videolift.records.status import Status, collect
from videolift.report.job_costs import JobCosts
from videolift.stage_table import PACKAGING, SOURCE, STAGES, with_upstream
from videolift.typical_work import PIXELS, MeasuredWork, typical_work, usual_ratio

_EARLIER = 20
"""Videos of earlier runs that are asked, per stage: each may mean reading a journal."""
_LAST_EVENTS = 8
_LAST_JOBS = 2
"""After the last batch, over all videos: the job of statistics, and verdict and report, which take about as long as one."""
_TOLD = {"quarantined", "failed", "oom", "died", "hung", "fenced", "stopping", "leftover", "finished"}
_FINISHED = {"done", "none", "released", "quarantined", "blocked"}
_RECENT_S = 300.0
"""Rates are those of the last minutes; memory and workers of pools that have written nothing for longer are not counted."""


@dataclass(frozen=True)
class StageProgress:
    """One stage: videos done (before and in this run), quarantined or without a stage above, still to do, and in work now."""

    stage: str
    done: int
    lost: int
    todo: int
    running: int
    left_seconds: float
    """Work that is left, of one worker."""


@dataclass(frozen=True)
class DeviceProgress:
    """Workers alive on a device of one pool, memory they use and memory free there, in GiB."""

    pool: str
    device: str
    workers: int
    own_gib: float
    free_gib: float


@dataclass(frozen=True)
class RunProgress:
    """A run at one moment.

    Attributes:
        elapsed_seconds: since the run began.
        eta_seconds: until it ends; None while nothing is measured, 0 when nothing is left.
        videos_per_minute: videos that reached the last stage, over the last minutes.
        done, total: videos with nothing left to do, and all.
        last_events: sentences, oldest first.
    """

    elapsed_seconds: float
    eta_seconds: float | None
    videos_per_minute: float
    done: int
    total: int
    stages: tuple[StageProgress, ...]
    devices: tuple[DeviceProgress, ...]
    last_events: tuple[str, ...]


@dataclass(frozen=True)
class _InWork:
    """A video in work, as its worker told last.

    Attributes:
        moment: when that was; at first, when it was claimed.
        share: of it that is done, also by an earlier worker.
        share_taken, took_s: done since the worker's first word on it, and the seconds since then.
    """

    moment: float
    share: float | None = None
    share_taken: float = 0.0
    took_s: float = 0.0

    def told(self, moment: float, share: float) -> _InWork:
        """After the worker told how far it is. What it finds done when it begins took it no time."""
        if self.share is None:
            return _InWork(moment, share)
        return _InWork(moment, share, self.share_taken + share - self.share, self.took_s + moment - self.moment)


@dataclass
class _Stage:
    """What is known of one stage, in videos and in work of one worker."""

    todo: set[str] = field(default_factory=set)
    done: int = 0
    lost: int = 0
    running: dict[str, _InWork] = field(default_factory=dict)
    measured: dict[str, MeasuredWork] = field(default_factory=lambda: defaultdict(MeasuredWork))
    """By backend, of the videos done in this run; `earlier`: of some that were done before it."""
    earlier: dict[str, MeasuredWork] = field(default_factory=lambda: defaultdict(MeasuredWork))
    most_running: int = 0
    """The most videos that one pool has had in work."""


@dataclass(frozen=True)
class _Left:
    """Seconds of one worker that a batch still needs for a stage, for all its videos and for the longest of them."""

    total: float
    longest: float


@dataclass
class _Pool:
    workers: dict[str, int] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    began: float = 0.0
    last: float = 0.0
    has_claimed: bool = False
    ended: bool = False


class ProgressTracker:
    """Follows one run; call `read` now and then, and `progress` for what it comes to.

    Args:
        run: as its folder says.
        status: where every video stood before the events that `read` will see; None judges them now.
        began: when the run began, in seconds since the epoch; events before it are not of this run.
    """

    def __init__(self, run: Run, *, status: Status | None = None, began: float | None = None) -> None:
        self._run, self._logs = run, run.layout.output / "logs"
        self.began = (run.folder / "plan.json").stat().st_mtime if began is None else began
        self._receipts = RecordReader(run.layout)
        videos = [video for video in (status or collect(run)).videos if video.overall != "excluded"]
        self._stages: dict[str, _Stage] = {stage: _Stage() for stage in STAGES}
        self._variant = {entry.video.id: entry.variant for entry in run.entries()}
        self._batch = {entry.video.id: entry.batch for entry in run.entries()}
        self._most_workers = 1
        for video in videos:
            for stage, known in self._stages.items():
                kind = video.stages.get(stage, "done")
                if kind in ("quarantined", "blocked"):
                    known.lost += 1
                elif kind in _FINISHED:
                    known.done += 1
                else:
                    known.todo.add(video.video)
        self._total = len(videos)
        self._frames: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        for entry in run.entries():
            with suppress(OSError):  # a source that is gone is judged by the other videos' lengths
                self._sizes[entry.video.id] = float(os.path.getsize(entry.video.path))
        for stage, known in self._stages.items():
            done = (video for video in videos if video.stages.get(stage) == "done" and video.seconds.get(stage))
            for video in itertools.islice(done, _EARLIER):
                backend = self._backend(stage, video.video)
                known.earlier[backend].add(video.seconds[stage], self._typical_s(stage, video.video))
        self._tails: dict[Path, _Tail] = {}
        self._pools: dict[str, _Pool] = {}
        self._begun: set[str] = set()
        self._jobs = JobCosts()
        self._finished: deque[float] = deque()
        self._last: deque[str] = deque(maxlen=_LAST_EVENTS)

    def read(self) -> None:
        """Takes in what the pools have written since the last call."""
        found: list[tuple[float, str, str, Mapping[str, Any]]] = []
        for path in self._logs.glob("*/*.events.jsonl"):
            stage, name = path.parent.name, f"{path.parent.name} {path.name.removesuffix('.events.jsonl')}"
            if stage in self._stages:
                events = self._tails.setdefault(path, _Tail(path)).new_events()
                found += [(datetime.fromisoformat(event["time"]).timestamp(), stage, name, event) for event in events]
        # Files of several pools are read one after the other; their events happened side by side.
        for moment, stage, name, event in sorted(found, key=lambda one: one[0]):
            # Event files go on from run to run.
            if moment >= self.began:
                self.add(stage, name, event, moment)

    def add(self, stage: str, pool: str, event: Mapping[str, Any], moment: float) -> None:
        """Takes in one event of one pool."""
        known, here = self._stages[stage], self._pools.setdefault(pool, _Pool())
        kind, item, device = event["kind"], str(event.get("item") or ""), str(event.get("device") or "")
        here.last = moment
        if kind == "started":
            self._jobs.count(0 if pool in self._begun and not here.ended else 1, moment)
            self._begun.add(pool)
            self._pools[pool] = _Pool(began=moment, last=moment)
        elif kind in ("spawned", "gone"):
            here.workers[device] = max(0, here.workers.get(device, 0) + (1 if kind == "spawned" else -1))
            self._most_workers = max(self._most_workers, sum(here.workers.values()))
        elif kind == "resized":
            here.memory[device] = float(event.get("own_gib") or 0.0), float(event.get("free_gib") or 0.0)
        elif kind == "claimed":
            if not here.has_claimed and here.began:
                here.has_claimed = True
                self._jobs.claimed += 1
                self._jobs.to_claim += moment - here.began
            known.running[item] = _InWork(moment)
            here.running.add(item)
            known.most_running = max(known.most_running, len(here.running))
        elif kind == "progress" and event.get("of") and item in known.running:
            known.running[item] = known.running[item].told(moment, float(event["done"]) / float(event["of"]))
        elif kind in ("done", "quarantined", "failed", "oom", "died", "hung"):
            known.running.pop(item, None)
            here.running.discard(item)
        if kind == "done":
            if item in known.todo:
                known.todo.discard(item)
                known.done += 1
            typical_s = self._typical_s(stage, item)
            known.measured[self._backend(stage, item)].add(float(event.get("seconds") or 0.0), typical_s)
            # The rate counts videos that have reached the last stage.
            if stage == PACKAGING:
                self._finished.append(moment)
        elif kind == "quarantined" and item in known.todo:
            # What needs the lost part of a video is lost with it, unless the part may be missing.
            blocks = stage == SOURCE or stage in self._run.config.required
            for name, tally in self._stages.items():
                if item in tally.todo and (name == stage or (blocks and stage in with_upstream(name))):
                    tally.todo.discard(item)
                    tally.lost += 1
            if blocks or stage == PACKAGING:
                self._finished.append(moment)
        elif kind == "finished":
            # A pool that was stopped ends with items in work: they are to do again, and nobody is at them.
            for left in here.running:
                known.running.pop(left, None)
            here.workers, here.memory, here.running, here.ended = {}, {}, set(), True
            self._jobs.count(-1, moment)
        if kind in _TOLD:
            self._last.append(f"{datetime.fromtimestamp(moment):%H:%M:%S} {pool}: {event_sentence(event)}")

    def _weight(self, video: str) -> float:
        """Frames of a video; before it is decoded, guessed from the size of its source."""
        if video not in self._frames:
            receipt = self._receipts(SOURCE, video) if video not in self._stages[SOURCE].todo else None
            if receipt is not None and receipt.frames:
                self._frames[video] = float(receipt.frames)
        if video in self._frames:
            return self._frames[video]
        # Bytes are a fair guess of length among videos of one camera
        pairs = [(frames, self._sizes[name]) for name, frames in self._frames.items() if self._sizes.get(name)]
        if pairs and self._sizes.get(video):
            return self._sizes[video] * sum(frames for frames, _ in pairs) / sum(size for _, size in pairs)
        return sum(self._frames.values()) / len(self._frames) if self._frames else 100.0

    def _backend(self, stage: str, video: str) -> str:
        identity = self._run.variants[self._variant.get(video, 0)].identities.get(stage)
        return "" if identity is None else str(identity["name"])

    def _typical_s(self, stage: str, video: str) -> float:
        source = self._run.variants[self._variant.get(video, 0)].identities.get(SOURCE) or {}
        pixels = source.get("width", 0) * source.get("height", 0) or PIXELS
        return typical_work(self._backend(stage, video)).seconds(self._weight(video), pixels)

    def _left(self, now: float) -> dict[str, tuple[_Left, ...]]:
        """Work that is left per stage, batch by batch."""
        here = {stage: {**known.earlier, **known.measured} for stage, known in self._stages.items()}
        # Decoding depends on the source's codec and size as nothing else does.
        usual = usual_ratio(work for stage, by_backend in here.items() if stage != SOURCE for work in by_backend.values())
        left: dict[str, tuple[_Left, ...]] = {}
        for stage, known in self._stages.items():
            typical_s = {video: self._typical_s(stage, video) for video in known.todo}
            guessed: dict[str, MeasuredWork] = defaultdict(MeasuredWork)
            for video, work in known.running.items():
                if video in known.todo and work.took_s:
                    whole_s = work.took_s + (1 - work.share_taken) * usual * typical_s[video]
                    guessed[self._backend(stage, video)].add(whole_s, typical_s[video])
            batches: dict[str, list[float]] = defaultdict(list)
            for video in known.todo:
                backend, work = self._backend(stage, video), known.running.get(video, _InWork(now))
                measured = here[stage].get(backend) or guessed.get(backend)
                seconds = (1 - (work.share or 0.0)) * typical_s[video] * (measured.ratio if measured else usual)
                # Workers tell how far they are every few seconds.
                batches[self._batch.get(video, "")].append(max(0.0, seconds - (now - work.moment)))
            left[stage] = tuple(_Left(sum(seconds), max(seconds)) for seconds in batches.values())
        return left

    def progress(self, now: float | None = None) -> RunProgress:
        """The run at ``now``, by default this moment."""
        now = time.time() if now is None else now
        elapsed = max(now - self.began, 1e-3)
        left = self._left(now)
        todo = set[str]().union(*(known.todo for known in self._stages.values()))
        while self._finished and self._finished[0] < now - _RECENT_S:
            self._finished.popleft()
        window = min(elapsed, _RECENT_S)

        most = max(known.most_running for known in self._stages.values())
        work = 0.0
        for stage, known in self._stages.items():
            # A pool begins with one worker and adds more: until a video is done, it is taken to reach what others have had.
            workers = known.most_running if known.measured else max(most, self._most_workers)
            # No pool ends before its longest video, however many workers it has
            work += sum(max(batch.total / max(1, workers), batch.longest) for batch in left[stage])
        jobs = sum(map(len, left.values())) - self._jobs.at_work + _LAST_JOBS
        # Jobs go on as they have worked so far: so many at once, so many seconds lost with each.
        eta_seconds = (work + max(0, jobs) * self._jobs.overhead(now)) / self._jobs.at_once(now)
        if not todo:
            eta_seconds = 0.0

        devices = [
            DeviceProgress(name, device, workers, *pool.memory.get(device, (0.0, 0.0)))
            for name, pool in sorted(self._pools.items())
            for device, workers in sorted(pool.workers.items())
            if workers and pool.last > now - _RECENT_S  # a pool that was killed never said that its workers are gone
        ]
        is_measured = any(known.measured or known.earlier for known in self._stages.values())
        return RunProgress(
            elapsed_seconds=elapsed,
            eta_seconds=None if todo and (not is_measured or self._jobs.first is None) else eta_seconds,
            videos_per_minute=60 * len(self._finished) / window,
            done=self._total - len(todo),
            total=self._total,
            stages=tuple(
                StageProgress(
                    stage,
                    done=known.done,
                    lost=known.lost,
                    todo=len(known.todo),
                    running=len(known.running),
                    left_seconds=sum(batch.total for batch in left[stage]),
                )
                for stage, known in self._stages.items()
            ),
            devices=tuple(devices),
            last_events=tuple(self._last),
        )


@dataclass
class _Tail:
    """The lines a growing file got since they were last asked for; one that is not finished waits."""

    path: Path
    offset: int = 0

    def new_events(self) -> Iterable[Mapping[str, Any]]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole, _, _ = file.read().rpartition(b"\n")
        # The last line may still be being written; it is read again, whole, next time.
        self.offset += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # torn by a kill
                continue
