"""The worker pool on a real card: numbers chosen against every fixed number, memory used against the card, and faults for real.

    python -m benchmarks.gpu.pool                # every visible card, about 10 minutes
    python -m benchmarks.gpu.pool numbers oom    # some of: numbers oom foreign sticky orphan mask
    python -m benchmarks.gpu.pool --dry          # without a card: the same scenarios with made-up memory (needs the test extra)

Each scenario prints what it saw and OK or WRONG; the exit code is 1 if anything was wrong. Workers use the driver alone, through
ctypes. Memory is sampled by NVML every 0.1 s beside the pool.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.cuda_load import GIB, CardWorker, hold
from benchmarks.pool import Forgetful
from benchmarks.timing import parser
from videolift.config import PoolSettings
from videolift.pool import Device, EventSink, Item, PoolReport, Worker, find_devices, read_events, run_pool
from videolift.pool.devices import Cards, Nvml
from videolift.pool.memory import SystemGauge

LOADED_GIB = 1.0


class DryWorker(CardWorker):
    """The same payloads on a made-up card whose memory is files."""

    def load(self, device: Device) -> None:
        """Takes made-up memory."""
        from tests.videolift.pool.work import vram

        self._device, self._vram = device, functools.partial(vram, self._folder, device.id)
        self._vram(self._loaded_gib)

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> dict[str, Any]:
        """Takes made-up memory and sleeps."""
        told = item.payload
        if told.get("do") and not (self._folder / item.key).exists():
            (self._folder / item.key).touch()
            if told["do"] == "poke":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            os._exit(1)
        self._vram(self._loaded_gib + told["gib"] * shrink)
        steps = max(1, round(told["seconds"] / 0.05))
        for step in range(steps):
            time.sleep(0.05)
            progress(step + 1, steps)
        self._vram(self._loaded_gib)
        return {"mask": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "shrink": shrink}


class Bench:
    """One folder, the cards, and what was seen wrong."""

    def __init__(self, folder: Path, dry: bool) -> None:
        self.folder, self.dry, self.wrong, self.runs = folder, dry, 0, 0
        self.cards: Cards
        if dry:
            from tests.videolift.pool.conftest import MadeUpCards

            made_up: Any = MadeUpCards(folder, 24.0, busy=0.3)
            self.cards, self.devices = made_up, made_up.devices()
        else:
            self.cards = Nvml()
            self.devices = find_devices("cuda", cards=self.cards)
        self.kind: Callable[[str, float], Worker] = DryWorker if dry else CardWorker
        self.card_gib = self.devices[0].memory_bytes / GIB

    def run(
        self, items: list[Item], devices: list[Device] | None = None, **settings: Any
    ) -> tuple[PoolReport, list[dict[str, Any]], float]:
        """One pool; returns its report, its events and the most memory used on the first card, as a share of it."""
        self.runs += 1
        path = self.folder / f"events-{self.runs}.jsonl"
        most, stop = [0.0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.1):
                total, free = self.cards.memory(self.devices[0].id)
                most[0] = max(most[0], 1 - free / total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            report = run_pool(
                functools.partial(self.kind, str(self.folder), LOADED_GIB),
                items,
                devices=devices or self.devices[:1],
                settings=PoolSettings(**{"item_timeout_s": 60.0, **settings}),
                ledger=Forgetful(),
                events=EventSink(path, name=f"run {self.runs}"),
                log_folder=self.folder / f"logs-{self.runs}",
                gauge=SystemGauge(self.cards),
            )
        finally:
            stop.set()
            watcher.join()
        return report, read_events(path), most[0]

    def say(self, ok: bool, text: str) -> None:
        """One line of the result."""
        self.wrong += not ok
        print(f"{'OK   ' if ok else 'WRONG'} {text}", flush=True)

    def nothing_left(self) -> None:
        """No worker of ours holds memory any more."""
        pids = {e["pid"] for path in self.folder.glob("events-*.jsonl") for e in read_events(path) if e["kind"] == "spawned"}
        held = [pid for device in self.devices for pid in self.cards.processes(device.id) or {} if pid in pids]
        self.say(not held, f"memory held by ended workers: {held or 'none'}")


def plain(count: int, gib: float, seconds: float = 1.0, **more: Any) -> list[Item]:
    """Items that take memory and keep the card busy for 30 % of the time."""
    return [Item(f"v{i}", seconds, {"gib": gib, "seconds": seconds, **more}) for i in range(count)]


def done(report: PoolReport) -> int:
    """Items that were done."""
    return sum(outcome.kind == "done" for outcome in report.outcomes.values())


def numbers(bench: Bench) -> None:
    """The chosen number against every fixed one: where memory decides (items of a fifth of the card), and where its time does."""
    for name, gib in (("memory", bench.card_gib / 5), ("time", 0.5)):
        chosen, events, share = bench.run(plain(60, gib))
        number = max(chosen.workers.values())
        times = {}
        for fixed in range(1, number + 3):
            report, _, _ = bench.run(plain(60, gib), max_workers=fixed)
            times[fixed] = (report.seconds, max(report.workers.values()))
        best = min(times, key=lambda n: times[n][0])
        reason = [event["reason"] for event in events if event["kind"] == "resized"][-1]
        bench.say(
            abs(number - times[best][1]) <= 1 and done(chosen) == 60,
            f"numbers/{name}: chose {number} ({reason}), {chosen.seconds:.1f} s; best cap {best}, {times[best][0]:.1f} s; "
            f"peak use {share:.0%} of the card; " + ", ".join(f"{n}: {seconds:.1f} s" for n, (seconds, _) in times.items()),
        )
        bench.say(share < 1.0, f"numbers/{name}: the card was never full ({share:.1%})")


def oom(bench: Bench) -> None:
    """One item that fits with smaller chunks, one that never fits, among others."""
    items = [
        *plain(6, 1.0),
        Item("half", 2.0, {"gib": bench.card_gib * 1.5, "seconds": 0.5}),
        Item("never", 3.0, {"gib": bench.card_gib * 9, "seconds": 0.5}),
    ]
    report, _, _ = bench.run(items)
    half, never = report.outcomes["half"], report.outcomes["never"]
    bench.say(done(report) == 7 and half.kind == "done" and half.shrink == 0.5, f"oom: {half.kind} at share {half.shrink}")
    bench.say(never.kind == "oom" and bool(never.peak_bytes), f"oom: {never.kind}: {never.text}; {never.remedy}")
    bench.nothing_left()


def foreign(bench: Bench) -> None:
    """Somebody else takes 60 % of what is free in the middle, and gives it back."""
    ready, holders = bench.folder / "foreign", []

    def take() -> None:
        time.sleep(8.0)
        gib = 0.6 * bench.cards.memory(bench.devices[0].id)[1] / GIB
        if bench.dry:
            bench.cards.foreign(bench.devices[0].id, gib)  # type: ignore[attr-defined]
        else:
            holders.append(hold(gib, 600.0, ready))

    taker = threading.Thread(target=take)
    taker.start()
    report, events, share = bench.run(plain(60, bench.card_gib / 8))
    taker.join()
    for holder in holders:
        holder.kill()
        holder.wait()
    if bench.dry:
        bench.cards.foreign(bench.devices[0].id, 0.0)  # type: ignore[attr-defined]
    counts = [event["busy"] for event in events if event["kind"] == "resized"]
    bench.say(done(report) == 60, f"foreign: {done(report)} of 60 done, workers over time {counts}, peak use {share:.0%}")


def sticky(bench: Bench) -> None:
    """A kernel writes where it may not; the context is lost, the item is not."""
    report, events, _ = bench.run([*plain(4, 1.0), Item("poke", 1.0, {"gib": 0.5, "seconds": 0.2, "do": "poke"})], max_workers=1)
    spawned = sum(event["kind"] == "spawned" for event in events)
    texts = [event["text"] for event in events if event["kind"] == "failed"]
    bench.say(done(report) == 5 and spawned >= 2, f"sticky: {done(report)} of 5 done by {spawned} workers after {texts}")
    (bench.folder / "poke").unlink(missing_ok=True)


def orphan(bench: Bench) -> None:
    """A worker dies and leaves a child that holds 60 % of the card; the item needs 80 %."""
    items = [
        Item("orphan", 1.0, {"gib": 0.6 * bench.card_gib, "seconds": 0.5, "do": "orphan"}),
        *plain(2, 0.8 * bench.card_gib - LOADED_GIB),
    ]
    report, _, _ = bench.run(items, max_workers=1)
    bench.say(done(report) == 3, f"orphan: {done(report)} of 3 done")
    (bench.folder / "orphan").unlink(missing_ok=True)
    bench.nothing_left()


def mask(bench: Bench) -> None:
    """Every card is used, and each worker sees its own alone."""
    report, _, _ = bench.run(plain(8 * len(bench.devices), 0.5, 0.5), bench.devices, max_workers=1)
    seen = {outcome.value["mask"] for outcome in report.outcomes.values() if outcome.value}
    bench.say(seen == {device.id for device in bench.devices}, f"mask: workers saw {sorted(seen)}")


SCENARIOS = {f.__name__: f for f in (numbers, oom, foreign, sticky, orphan, mask)}


def main() -> int:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("what", nargs="*", default=list(SCENARIOS))
    command.add_argument("--dry", action="store_true")
    command.add_argument("--out", type=Path, help="keeps events and logs here")
    chosen = command.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, chosen.dry)
        print(json.dumps([{"id": d.id, "name": d.name, "gib": round(d.memory_bytes / GIB, 1)} for d in bench.devices]))
        for name in chosen.what:
            SCENARIOS[name](bench)
        bench.nothing_left()
    return 1 if bench.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
