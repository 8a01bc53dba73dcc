import functools
import json
import time
from pathlib import Path

import pytest

from tests.videolift.pool.work import FOREIGN, GIB, Told, used_by_pid
from videolift.config import PoolSettings
from videolift.pool import EventSink, Item, Outcome, Timing, cpu_device, run_pool
from videolift.pool.devices import Card
from videolift.pool.interface import Device, Ledger
from videolift.pool.memory import SystemGauge

MARK = "POOL_BENCH"
QUICK = Timing(sample=0.1, progress=0.02, close=60.0, kill=60.0, hiccup=0.15, tick=0.05, settle=1.0)
"""What is short is so on any machine; what waits for a process is long enough for a busy one."""


class Files(Ledger):
    """Claims and outcomes as files, as a stage keeps them; every call is noted in order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []
        (folder / "claims").mkdir(parents=True, exist_ok=True)
        (folder / "outcomes").mkdir(exist_ok=True)

    def claimed(self, item, *, attempt, pid, start_time):
        self.calls.append(("claimed", item.key, attempt))
        row = {"attempt": attempt, "pid": pid, "start_time": start_time}
        (self.folder / "claims" / item.key).write_text(json.dumps(row))

    def recorded(self, item):
        return Outcome("done", code="recorded") if (self.folder / "out" / f"{item.key}.txt").exists() else None

    def finished(self, item, outcome):
        self.calls.append(("finished", item.key, outcome.kind))
        if outcome.kind != "transient":
            (self.folder / "outcomes" / item.key).write_text(outcome.kind)
        (self.folder / "claims" / item.key).unlink(missing_ok=True)

    @property
    def claims(self):
        return sorted(path.name for path in (self.folder / "claims").iterdir())

    def outputs(self):
        return {path.name: path.read_bytes() for path in sorted((self.folder / "out").glob("*.txt"))}


class Meddler(EventSink):
    """Keeps every event, and calls ``on[kind](event)`` in the middle of the supervisor's work."""

    def __init__(self, path=None, on=None):
        super().__init__(path, stream=None)
        self.seen, self.on = [], on or {}

    def emit(self, kind, **fields):
        self.seen.append({"kind": kind, **fields})
        super().emit(kind, **fields)
        if kind in self.on:
            self.on[kind]({"kind": kind, **fields})

    def of(self, *kinds):
        return [event for event in self.seen if event["kind"] in kinds]

    def pid_of(self, serial):
        return next(event["pid"] for event in self.of("spawned") if event["worker"] == serial)


class MadeUpCards:
    """Cards whose memory is files in a folder: see ``work.vram``."""

    def __init__(self, folder: Path, *gib: float, busy=0.1, hidden=False) -> None:
        self.folder, self.hidden, self.busy = folder, hidden, busy
        self.sizes = {f"GPU-{i}": int(size * GIB) for i, size in enumerate(gib)}
        (folder / "cards.json").write_text(json.dumps(self.sizes))

    def cards(self):
        return [Card(uuid, i, f"Card {size // GIB} GiB", size) for i, (uuid, size) in enumerate(self.sizes.items())]

    def devices(self):
        return [Device("cuda", c.uuid, c.name, c.memory_bytes, 1, 2) for c in self.cards()]

    def memory(self, uuid):
        used = sum(used_by_pid(self.folder / "vram" / uuid).values())
        return self.sizes[uuid], max(0, self.sizes[uuid] - used)

    def processes(self, uuid):
        return None if self.hidden else used_by_pid(self.folder / "vram" / uuid)

    def busy_share(self, uuid):
        return self.busy

    def foreign(self, uuid, gib):
        """Somebody else takes memory (or, with 0, gives it back)."""
        held = self.folder / "vram" / uuid
        held.mkdir(parents=True, exist_ok=True)
        (held / str(FOREIGN + 1)).write_text(f"{int(gib * GIB)} 0")


class Bench:
    """Everything a test of the pool needs, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Files(folder)
        self.events = Meddler(folder / "events.jsonl")
        self.cards = None

    def with_cards(self, *gib, **options):
        self.cards = MadeUpCards(self.folder, *gib, **options)
        return self

    def factory(self, **told):
        return functools.partial(Told, str(self.folder), **told)

    def run(self, items, *, devices=None, workers=None, told=None, environment=None, timing=QUICK, history=None, **settings):
        chosen = {"reserve_gb": 0.0, "backoff_s": 0.05, "grace_s": 10.0, "load_timeout_s": 60.0, "max_workers": workers} | settings
        if devices is None:
            devices = self.cards.devices() if self.cards else [cpu_device(2)]
        return run_pool(
            self.factory(**(told or {})),
            items,
            devices=devices,
            settings=PoolSettings(**chosen),
            ledger=self.ledger,
            events=self.events,
            environment={MARK: str(self.folder)} | (environment or {}),
            log_folder=self.folder / "logs",
            gauge=SystemGauge(self.cards) if self.cards else None,
            timing=timing,
            history=history,
        )

    def attempts(self, key):
        path = self.folder / "counts" / f"try-{key}"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def spawned(self):
        return len(self.events.of("spawned"))

    def left_behind(self):
        """Processes that were started for this bench and live."""
        return marked_processes(f"{MARK}={self.folder}")


def marked_processes(needle):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if needle.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def item(key, *steps, size=1.0, attempts=0):
    """An item whose n-th attempt follows the n-th step."""
    return Item(key, size, {"steps": [list(step) for step in steps]}, attempts)


def plain(count, *step, prefix="plain"):
    """So many items that all follow one step."""
    return [item(f"{prefix}{i}", step) for i in range(count)]


def wait_until(true):
    """For what happens at once; on a busy machine that takes a while."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_oom_kills_of_others(request, monkeypatch):
    """The kernel counts its OOM kills over the whole machine: those of a test beside this one must not be taken for ours."""
    if "small_group" not in request.fixturenames:
        monkeypatch.setattr(SystemGauge, "oom_kills", lambda self: 0)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    assert made.left_behind() == [], "a worker, or what it started, was left behind"
