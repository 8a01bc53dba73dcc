"""The worker pool against ideal, multiprocessing.Pool, loky and the predecessor's pool, on the same loads.

    python -m benchmarks.pool                 # all, about 20 minutes, most of it asleep
    python -m benchmarks.pool cost faults     # some of: sleep cpu cost faults

`sleep`: 60 items that sleep 1.0 s in a worker that holds 1 GiB; `cpu`: 160 items of about 60 ms of arithmetic; 2 workers each.
Their clock runs from the first worker that is ready to the last item's receipt; start and load are told apart. `cost`: CPU seconds
of supervisor and workers for empty items, per item. `faults`: 40 items of 20 ms of which every fifth kills its worker the first
time; what is lost, how long the pool is without the killed worker. Every measurement is a fresh interpreter; systems are
interleaved; medians, and ratios with their 90 % bootstrap interval over the repeats.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import parser, times_faster
from videolift.config import PoolSettings
from videolift.pool import EventSink, Item, Ledger, Outcome, cpu_device, read_events, run_pool

GIB = 1 << 30
WORKERS = 2
REPEATS = {"sleep": 3, "cpu": 7, "cost": 3, "faults": 3}
LOADS: dict[str, dict[str, Any]] = {
    "sleep": {"items": 60, "seconds": 1.0, "hold": GIB},
    "cpu": {"items": 160, "spins": 400_000},
    "faults": {"items": 40, "seconds": 0.02, "kill_every": 5},
}
FAULT_LIMIT_S = 30.0


class Load:
    """What is done per item, the same for every system; leaves a line with the monotonic clock per start and per item."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.load = Path(folder), LOADS[name]
        self._held = bytearray(self.load.get("hold", 0))
        for page in range(0, len(self._held), 4096):
            self._held[page] = 1
        self._log = (self.folder / f"{os.getpid()}.log").open("a", buffering=1)
        self._log.write(f"ready {time.monotonic()}\n")

    def __call__(self, number: int) -> int:
        every = self.load.get("kill_every")
        if every and number % every == 0:
            first = self.folder / f"killed-{number}"
            if not first.exists():
                first.touch()
                os._exit(9)
        if "spins" in self.load:
            total = 0
            for value in range(self.load["spins"]):
                total += value * value % 7
        time.sleep(self.load.get("seconds", 0.0))
        self._log.write(f"item {time.monotonic()} {number}\n")
        return number


class Ours:
    """The load as a worker of our pool."""

    shrinks = (1.0,)

    def __init__(self, folder: str, name: str) -> None:
        self._make = functools.partial(Load, folder, name)

    def load(self, device: Any) -> None:
        """Makes the load."""
        self._do = self._make()

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> int | None:
        """Does one item."""
        return self._do(int(item.key))

    def close(self) -> None:
        """Nothing to do."""


class Empty(Ours):
    """Does nothing at all."""

    def load(self, device: Any) -> None:
        """Nothing to do."""

    def process(self, item: Item, *, shrink: float, progress: Callable[[int, int], None]) -> None:
        """Nothing to do."""


class Forgetful(Ledger):
    """Keeps nothing: what the ledger costs is its user's."""

    def claimed(self, item: Item, *, attempt: int, pid: int, start_time: float) -> None:
        """Keeps nothing."""

    def finished(self, item: Item, outcome: Outcome) -> None:
        """Keeps nothing."""


_load: Load | None = None


def _initialise(folder: str, name: str) -> None:
    global _load
    _load = Load(folder, name)


def _do(number: int) -> int:
    assert _load is not None
    return _load(number)


def ours(folder: str, name: str, history: Path | None = None, count: int | None = None) -> None:
    """videolift.pool with its default settings, events written."""
    items = [Item(str(i)) for i in range(count or LOADS[name]["items"])]
    sink = EventSink(Path(folder) / "events.jsonl", stream=None)
    run_pool(
        functools.partial(Ours, folder, name),
        items,
        devices=[cpu_device(WORKERS)],
        settings=PoolSettings(),
        ledger=Forgetful(),
        events=sink,
        history=history,
        label=name,
    )


def stdlib(folder: str, name: str) -> None:
    """multiprocessing.Pool, spawn, one item at a time."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(WORKERS, _initialise, (folder, name)) as pool:
        for _ in pool.imap_unordered(_do, range(LOADS[name]["items"])):
            pass


def loky(folder: str, name: str) -> None:
    """loky's executor."""
    from loky import get_reusable_executor  # type: ignore[import-not-found]  # not a dependency

    executor = get_reusable_executor(max_workers=WORKERS, initializer=_initialise, initargs=(folder, name))
    for future in [executor.submit(_do, number) for number in range(LOADS[name]["items"])]:
        future.exception()
    executor.shutdown()


def predecessor(folder: str, name: str) -> None:
    """See benchmarks/predecessor_pool.py."""
    from benchmarks.predecessor_pool import run

    run(functools.partial(Load, folder, name), range(LOADS[name]["items"]), WORKERS)


def ours_again(folder: str, name: str) -> None:
    """The same with the figures of an earlier run, as every batch of a workflow but the first has them."""
    history = Path(folder) / "history.json"
    with tempfile.TemporaryDirectory() as elsewhere:
        ours(elsewhere, name, history, count=4)
    (Path(folder) / "began").write_text(str(time.monotonic()))
    ours(folder, name, history)


SYSTEMS: dict[str, Callable[[str, str], None]] = {
    "videolift": ours,
    "videolift again": ours_again,
    "multiprocessing": stdlib,
    "loky": loky,
    "predecessor": predecessor,
}


def cost(count: int) -> dict[str, float]:
    """CPU seconds per empty item, supervisor and workers together, starting them included; to be run in a process of its own."""
    report = run_pool(
        functools.partial(Empty, "", "cpu"),
        [Item(str(i)) for i in range(count)],
        devices=[cpu_device(WORKERS)],
        settings=PoolSettings(),
        ledger=Forgetful(),
    )
    assert len(report.outcomes) == count
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"ms_per_item": 1000 * sum(u.ru_utime + u.ru_stime for u in used) / count}


def measure(system: str, name: str) -> dict[str, float]:
    """One system on one load, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from benchmarks.pool import SYSTEMS; SYSTEMS[{system!r}]({folder!r}, {name!r})"
        began = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-c", code], check=True, timeout=FAULT_LIMIT_S if name == "faults" else None, capture_output=True
            )
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        if (Path(folder) / "began").exists():
            began = float((Path(folder) / "began").read_text())
        lines = [line.split() for log in Path(folder).glob("*.log") for line in log.read_text().splitlines()]
        ready = min(float(line[1]) for line in lines if line[0] == "ready")
        receipts = [float(line[1]) for line in lines if line[0] == "item"]
        done = len({line[2] for line in lines if line[0] == "item"})
        result = {
            "seconds": max(receipts, default=ready) - ready,
            "start_s": ready - began,
            "lost": LOADS[name]["items"] - done,
            "ended": float(ended),
        }
        if system == "videolift" and name == "faults":
            result["recovery_s"] = _recovery(Path(folder) / "events.jsonl")
        return result


def _recovery(path: Path) -> float:
    """Median seconds from a worker's death to the next worker that is ready."""
    events = read_events(path)
    ready = [e["t"] for e in events if e["kind"] == "ready"]
    waits = [min((t - e["t"] for t in ready if t > e["t"]), default=None) for e in events if e["kind"] == "died"]
    return float(statistics.median(wait for wait in waits if wait is not None))


def compare(name: str, systems: list[str]) -> None:
    """Interleaved repeats of one load, one table."""
    repeats = REPEATS[name]
    found: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    for _ in range(repeats):
        for system in systems:
            found[system].append(measure(system, name))
    load = LOADS[name]
    ideal = load["items"] * load["seconds"] / WORKERS if name == "sleep" else None
    print(f"\n### {name}: {load}, {WORKERS} workers, {repeats} repeats\n")
    print("| system | seconds | speed against multiprocessing.Pool | start and load, s | items lost | ended |")
    print("|---|---|---|---|---|---|")
    for system in systems:
        rows = found[system]
        seconds = [row["seconds"] for row in rows]
        share = f" ({ideal / statistics.median(seconds):.1%} of ideal)" if ideal else ""
        ended = "yes" if all(row["ended"] for row in rows) else f"no, stopped after {FAULT_LIMIT_S:.0f} s"
        lost = statistics.median(row["lost"] for row in rows)
        start = statistics.median(row["start_s"] for row in rows)
        theirs = [row["seconds"] for row in found.get("multiprocessing", ())]
        against = times_faster(theirs, seconds) if theirs and all(seconds) else "-"
        print(f"| {system} | {statistics.median(seconds):.2f}{share} | {against} | {start:.2f} | {lost:.0f} | {ended} |")
    if name == "faults":
        recovery_s = statistics.median(row["recovery_s"] for row in found["videolift"])
        print(f"\nFrom a worker's death to the next ready one: {recovery_s:.2f} s.")


def costs() -> None:
    """Own cost per item at three sizes."""
    print("\n### cost: empty items, supervisor and workers, their start included\n")
    print("| items | CPU ms per item |")
    print("|---|---|")
    for count in (1_000, 10_000, 100_000):
        code = f"import json; from benchmarks.pool import cost; print(json.dumps(cost({count})))"
        repeats = REPEATS["cost"] if count < 100_000 else 1
        found = []
        for _ in range(repeats):
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1])["ms_per_item"])
        print(f"| {count} | {statistics.median(found):.3f} |")


def main() -> None:
    """Command line."""
    command = parser(__doc__)
    command.add_argument("what", nargs="*", default=["sleep", "cpu", "cost", "faults"])
    command.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    command.add_argument("--repeats", type=int, help="instead of the default of each load")
    chosen = command.parse_args()
    if chosen.repeats:
        REPEATS.update(dict.fromkeys(REPEATS, chosen.repeats))
    systems = list(chosen.systems)
    if "loky" in systems and importlib.util.find_spec("loky") is None:
        systems.remove("loky")
        print("loky is not installed: left out")
    for name in chosen.what:
        costs() if name == "cost" else compare(name, systems)


if __name__ == "__main__":
    main()
