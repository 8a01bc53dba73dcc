"""What work has cost so far, and what a run costs by that: hours, card-hours and GB.

Turns a sample of each stage's receipts into means, and means and the events of a pool into jobs, which it plays as the workflow
would: one batch on the CPU at a time, one on the cards, each stage of a batch after those it reads. A job on cards uses all of
them. Starts nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from videolift.paths import Layout
from videolift.records.journal import journal_numbers
from videolift.records.receipts import read_receipt
from videolift.records.record_reader import RecordReader
from videolift.stage_table import SPECS, STAGES

SECONDS_PER_HOUR = 3600.0
CPU, CARDS = "CPU", "cards"
SAMPLED = 200
"""Receipts that figures are taken from, per stage."""
BATCHES_SAMPLED = 8


@dataclass(frozen=True)
class PastWork:
    """One stage's past work; at least one video.

    Attributes:
        seconds: of each video sampled, wall time of one worker.
        seconds_per_byte: of the videos' sources together, 0 where their sizes are not known.
        bytes: of an artifact, mean.
    """

    seconds: tuple[float, ...]
    seconds_per_byte: float
    bytes: float

    @property
    def mean_s(self) -> float:
        """Seconds per video."""
        return fmean(self.seconds)


def measure_past_work(layout: Layout, stage: str, source_bytes: Mapping[str, int]) -> PastWork | None:
    """Figures of what a stage has done so far, None where nothing was.

    Args:
        source_bytes: size of the source by video id.
    """
    # Batches spread over the run: early ones hold the longest videos.
    batches = sorted(journal_numbers(layout.journals(stage)))
    read, sample = RecordReader(layout), []
    for batch in batches[:: max(1, len(batches) // BATCHES_SAMPLED)]:
        records = read.of_batch(stage, batch).values()
        sample += [record.receipt for record in records if record.receipt and record.receipt.state != "quarantined"]
    if not sample:
        files = sorted(layout.receipts(stage).glob("*.json"))
        handed_over = map(read_receipt, files[:: max(1, len(files) // SAMPLED)])
        sample = [receipt for receipt in handed_over if receipt and receipt.state != "quarantined"]
    if not sample:
        return None
    sample = sample[:: max(1, len(sample) // SAMPLED)]
    sized = [(receipt.seconds, size) for receipt in sample if (size := source_bytes.get(receipt.video))]
    # Of all together, not the mean of ratios: a short video's ratio is mostly its start.
    per_byte = sum(s for s, _ in sized) / sum(size for _, size in sized) if sized else 0.0
    artifacts = [receipt.artifact.bytes for receipt in sample if receipt.artifact]
    return PastWork(tuple(receipt.seconds for receipt in sample), per_byte, fmean(artifacts) if artifacts else 0.0)


@dataclass(frozen=True)
class StageCost:
    """One stage's work on one device.

    Attributes:
        on_cards: it runs on cards.
        video_s: seconds per video of one worker.
        workers: how many worked at once on one device, on average; of the whole CPU, or of one card.
        start_s: from a job's start to the first video.
        bytes: of an artifact.
    """

    on_cards: bool
    video_s: float
    workers: float
    start_s: float
    bytes: float

    def job_s(self, videos: float, cards: int) -> float:
        """Seconds of a job."""
        return self.start_s + videos * self.video_s / (self.workers * (cards if self.on_cards else 1)) if videos else 0.0


@dataclass(frozen=True)
class RunCost:
    """What a run costs.

    Attributes:
        hours: from beginning to end.
        busy_h: hours for which the CPU, or the cards, are at work, by stage.
        card_hours: of all cards together.
        gb: per stage, once everything is done; its sum is the most there ever is, less what ``keep`` lets go.
        unknown: stages of which nothing has been measured; they count as nothing.
    """

    videos: int
    cards: int
    hours: float
    busy_h: Mapping[str, Mapping[str, float]]
    card_hours: float
    gb: Mapping[str, float]
    unknown: tuple[str, ...]

    @property
    def bottleneck(self) -> tuple[str, str, float]:
        """What is busy most, its longest stage, and the share of the time for which it is busy."""
        what = max((CPU, CARDS), key=lambda name: sum(self.busy_h[name].values()))
        stages = self.busy_h[what]
        stage = max(stages, key=lambda name: stages[name], default="")
        return what, stage, sum(stages.values()) / self.hours if self.hours else 0.0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        what, stage, share = self.bottleneck
        figures = {name: getattr(self, name) for name in ("videos", "cards", "hours", "card_hours", "busy_h", "gb", "unknown")}
        return figures | {"bottleneck": {"what": what, "stage": stage, "share": share}}

    def lines(self) -> list[str]:
        """For people; nothing where nothing is to do."""
        if not self.videos:
            return []
        what, stage, share = self.bottleneck
        gb = ", ".join(f"{name} {size:.2f}" for name, size in self.gb.items() if size)
        videos = "1 video" if self.videos == 1 else f"{self.videos} videos"
        cards = "1 card" if self.cards == 1 else f"{self.cards} cards"
        on_cards = f"on {cards}: {self.hours:.2f} h, {self.card_hours:.2f} card-hours"
        out = [f"  {videos} {on_cards if self.busy_h[CARDS] else f'on the CPU: {self.hours:.2f} h'}"]
        # Where nothing was measured there is no stage to name.
        out += [f"  bottleneck: {what}, busy {share:.0%} of the time, most of it in {stage}"] if stage else []
        out += [f"  GB: {gb}; {sum(self.gb.values()):.2f} in all at most"] if gb else []
        out += (
            [f"  not measured yet, and not in these figures: {', '.join(self.unknown)}; run a few videos first"]
            if self.unknown
            else []
        )
        return out


def stage_cost(measured: PastWork, events: Iterable[Mapping[str, Any]], *, on_cards: bool) -> StageCost:
    """A stage's cost from its receipts and the events of one of its pools."""
    began: dict[str, float] = {}
    work_s, devices, started, first, last = 0.0, 1, 0.0, math.inf, 0.0
    for event in events:
        if event["kind"] == "started":
            devices, started = len(event["devices"]), event["t"]
        elif event["kind"] == "claimed":
            began[event["item"]], first = event["t"], min(first, event["t"])
        # Only videos whose beginning stands in this log: a pool that goes on after a kill claims its videos anew.
        elif event["kind"] == "done" and event["item"] in began:
            work_s, last = work_s + event["t"] - began[event["item"]], max(last, event["t"])
    if last <= first:
        return StageCost(on_cards, measured.mean_s, workers=1.0, start_s=0.0, bytes=measured.bytes)
    # From when the first video is claimed: loading models is counted by start_s.
    workers = work_s / (last - first) / (devices if on_cards else 1)
    return StageCost(on_cards, measured.mean_s, workers=max(workers, 1e-3), start_s=first - started, bytes=measured.bytes)


def run_cost(costs: Mapping[str, StageCost], videos: Mapping[str, int], *, batch_size: int, cards: int) -> RunCost:
    """Plays a run.

    Args:
        costs: of the stages that have been measured.
        videos: how many each stage has to do.
        batch_size: videos per job.
        cards: how many there are.
    """
    # The stage with most to do decides the number of jobs; the others have shorter ones.
    most = max(videos.values(), default=0)
    batches = max(1, -(-most // batch_size))
    seconds = {s: costs[s].job_s(videos[s] / batches, cards) if s in costs else 0.0 for s in STAGES}
    where = {s: CARDS if s in costs and costs[s].on_cards else CPU for s in STAGES}
    # Also stages of which nothing is known, at 0, so that every stage has a figure.
    busy = {name: {s: batches * seconds[s] / SECONDS_PER_HOUR for s in STAGES if where[s] == name} for name in (CPU, CARDS)}
    return RunCost(
        videos=most,
        cards=cards,
        hours=_play(seconds, where, batches) / SECONDS_PER_HOUR,
        busy_h=busy,
        card_hours=sum(busy[CARDS].values()) * cards,
        gb={s: costs[s].bytes * videos[s] / 1e9 for s in STAGES if s in costs},
        unknown=tuple(s for s in STAGES if s not in costs and videos[s]),
    )


def _play(seconds: Mapping[str, float], where: Mapping[str, str], batches: int) -> float:
    """Seconds until the last job has ended; of jobs that may start, the one of the earliest batch does, its latest stage first."""
    # The place is negative, so that of a batch the latest stage comes first.
    ready: dict[str, list[tuple[int, int]]] = {CPU: [], CARDS: []}
    missing = {(batch, stage): len(SPECS[stage].reads) for batch in range(batches) for stage in STAGES}
    running: list[tuple[float, str, int, str]] = []
    idle, now = {CPU, CARDS}, 0.0

    def offer(batch: int, stage: str) -> None:
        heapq.heappush(ready[where[stage]], (batch, -STAGES.index(stage)))

    for batch in range(batches):
        offer(batch, STAGES[0])
    while True:
        for server in [server for server in (CPU, CARDS) if server in idle and ready[server]]:
            batch, place = heapq.heappop(ready[server])
            heapq.heappush(running, (now + seconds[STAGES[-place]], server, batch, STAGES[-place]))
            idle.discard(server)
        if not running:
            return now
        now, server, batch, done = heapq.heappop(running)
        idle.add(server)
        for stage in STAGES:
            if done in SPECS[stage].reads:
                missing[batch, stage] -= 1
                # A stage starts when all that it reads is there.
                if not missing[batch, stage]:
                    offer(batch, stage)
