"""The fault cases that the pool must survive, as one table. Cards are made up: files stand for their memory."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.videolift.pool.conftest import MARK, QUICK, item, plain, wait_until
from tests.videolift.pool.work import GIB
from videolift.errors import LeaseHeld
from videolift.pool import Item, Outcome, cpu_device, exits, read_events
from videolift.pool.decisions.policy import RetryRules, Task
from videolift.pool.devices import Card, visible_cards
from videolift.pool.items import ItemTracker, WorkQueue
from videolift.pool.memory import SystemGauge
from videolift.pool.stopping import StopRequests, StopState
from videolift.pool.workers.worker_process import WorkerProcess
from videolift.processes import kill_process, still_runs

REPOSITORY = Path(__file__).parents[3]
CASES = {}


def case(number, title):
    def register(function):
        assert number not in CASES, number
        CASES[number] = (title, function)
        return function

    return register


def kinds(report):
    return {key: outcome.kind for key, outcome in report.outcomes.items()}


def all_done(report, count):
    assert report.stopped is None, report.text
    assert kinds(report) == dict.fromkeys(report.outcomes, "done")
    assert len(report.outcomes) == count


# Death


@case(1, "a worker killed before its first claim costs no item an attempt")
def _(bench, monkeypatch):
    bench.events.on["ready"] = lambda event: event["worker"] == 1 and os.kill(bench.events.pid_of(1), signal.SIGKILL)
    report = bench.run([item("a")])
    all_done(report, 1)
    assert report.outcomes["a"].attempts <= 2
    assert bench.spawned == 2


@case(2, "a worker killed in the middle of an item: the item is done at the second attempt")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["kill"], []), *plain(2)])
    all_done(report, 3)
    assert report.outcomes["a"].attempts == 2
    assert ("claimed", "a", 2) in bench.ledger.calls


@case(3, "a worker killed after publishing its result and before saying so has done its item")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["result_then_kill"])])
    all_done(report, 1)
    assert bench.attempts("a") == 1


@case(4, "a segfault while loading charges no item")
def _(bench, monkeypatch):
    report = bench.run(plain(2), told={"load_steps": [["segfault"], []]})
    all_done(report, 2)
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}


@case(5, "a segfault in an item is that item's, with the place in its traceback")
def _(bench, monkeypatch):
    report = bench.run([item("bad", ["segfault"]), *plain(3)], attempts=2)
    bad = report.outcomes.pop("bad")
    assert (bad.kind, bad.attempts) == ("crash", 2)
    assert "SIGSEGV" in bad.text
    assert "do_segfault" in bad.traceback
    all_done(report, 3)


@case(6, "exit code 0 in the middle of an item is a death")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["exit", 0], [])])
    all_done(report, 1)
    assert report.outcomes["a"].attempts == 2


@case(7, "sys.exit and KeyboardInterrupt in user code are errors of that item, and the worker goes on")
def _(bench, monkeypatch):
    report = bench.run(
        [item("exit", ["raise", "SystemExit", 3]), item("interrupt", ["raise", "KeyboardInterrupt"]), *plain(2)], workers=1
    )
    assert kinds(report) == {"exit": "error", "interrupt": "error", "plain0": "done", "plain1": "done"}
    assert bench.spawned == 1


@case(8, "the kernel's OOM killer: the item is retried alone, then out of memory, never a crash")
def _(bench, monkeypatch):
    kills = iter(range(100))
    monkeypatch.setattr(SystemGauge, "oom_kills", lambda self: next(kills))
    report = bench.run([item("a", ["kill"]), *plain(1)], told={"shrinks": (1.0, 0.5)})
    assert report.outcomes["a"].kind == "oom"
    assert report.outcomes["a"].shrink == 0.5
    assert report.outcomes["plain0"].kind == "done"


@case(9, "abort with 40 MB of standard error blocks nothing, and the last words are kept")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["abort_loudly", 40])], attempts=1)
    assert report.outcomes["a"].kind == "crash"
    assert "last words" in report.outcomes["a"].traceback
    assert len(report.outcomes["a"].traceback) < 100_000


# Load


@case(10, "loading that raises everywhere stops the pool once, with the cause, and leaves everything pending")
def _(bench, monkeypatch):
    report = bench.run(plain(3), told={"load": ["raise", "ValueError", "no such layer: conv7"]})
    assert report.stopped == "backend"
    assert "no such layer: conv7" in report.text
    assert report.outcomes == {}
    assert bench.ledger.claims == []


@case(11, "loading that fails on one card only: the others do the work")
def _(bench, monkeypatch):
    bench.with_cards(8, 8)
    report = bench.run(plain(4, "sleep", 0.05), told={"load": ["raise_on", "GPU-0", "BackendUnavailable", "this card is sick"]})
    all_done(report, 4)
    assert "this card is sick" in bench.events.of("fenced")[0]["text"]
    assert report.workers["GPU-1"] >= 1


@case(12, "loading that takes longer than an item may is still loading")
def _(bench, monkeypatch):
    report = bench.run(plain(1), told={"load": ["sleep", 2.5]}, item_timeout_s=2.0)
    all_done(report, 1)
    assert bench.spawned == 1


@case(13, "loading that hangs ends at its own deadline")
def _(bench, monkeypatch):
    report = bench.run(plain(1), told={"load": ["sleep", 600]}, load_timeout_s=0.7)
    assert report.stopped == "backend"
    assert "did not finish loading within 0.7 s" in report.text


@case(14, "missing weights are tried once, not three times")
def _(bench, monkeypatch):
    report = bench.run(plain(1), told={"load": ["raise", "BackendUnavailable", "weights are missing. Run: videolift models get x"]})
    assert report.stopped == "backend"
    assert "videolift models get x" in report.text
    assert bench.spawned == 1


# Memory of cards


@case(15, "out of memory while loading one more worker: the card stays with those it has")
def _(bench, monkeypatch):
    bench.with_cards(8)
    bench.events.on["failed"] = lambda event: (bench.folder / "refused").touch()
    # Work lasts until the second worker has been refused: on a slow machine it would otherwise not be worth starting.
    items = [item(f"v{i}", ["vram_until", 0.1, "refused"]) for i in range(10)]
    report = bench.run(items, told={"load_steps": [["vram", 1.0], ["vram", 7.5]]})
    all_done(report, 10)
    assert "Tried to allocate 7.50 GiB" in bench.events.of("failed")[0]["text"]
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}
    assert bench.events.of("resized")[-1]["reason"] in ("out of memory before", "not worth starting")


@case(16, "out of memory in an item: again alone, then with smaller chunks; the share is in the outcome")
def _(bench, monkeypatch):
    bench.with_cards(8)
    report = bench.run([item("big", ["vram", 12.0]), *plain(2)])
    all_done(report, 3)
    assert report.outcomes["big"].shrink == 0.5
    assert report.outcomes["plain0"].shrink == 1.0


@case(17, "out of memory alone and fully shrunk: quarantined with the measured peak and what would do")
def _(bench, monkeypatch):
    bench.with_cards(8)
    report = bench.run([item("huge", ["vram", 100.0]), *plain(1)], told={"load": ["vram", 2.0]})
    huge = report.outcomes["huge"]
    assert (huge.kind, huge.shrink) == ("oom", 0.25)
    assert huge.peak_bytes == 2 * GIB
    assert "8.0 GiB" in huge.text
    assert "more than 8.0 GiB" in huge.remedy
    unshrunk = bench.run([item("huge2", ["vram", 12.0])], allow_shrink=False).outcomes["huge2"]
    assert (unshrunk.kind, unshrunk.shrink) == ("oom", 1.0)
    assert "allow_shrink" in unshrunk.remedy


@case(18, "another tenant takes memory after sizing: fewer workers, nothing lost")
def _(bench, monkeypatch):
    bench.with_cards(12)
    numbers = []

    def on_claimed(event):
        if len(bench.events.of("claimed")) - len(bench.events.of("done")) == 3:
            (bench.folder / "three").touch()

    def on_done(event):
        if len(bench.events.of("done")) == 6:
            bench.cards.foreign("GPU-0", 6.0)

    def on_resized(event):
        numbers.append((event["busy"], event["reason"]))
        if 3 in [busy for busy, _ in numbers] and numbers[-1] == (2, "memory"):
            (bench.folder / "fewer").touch()

    bench.events.on |= {"claimed": on_claimed, "done": on_done, "resized": on_resized}
    # The first is what the worth of a further worker is judged by; then three must work at once, then two.
    steps = [["vram", 2.0, 0.8], *[["vram_until", 2.0, "three"]] * 5, *[["vram_until", 2.0, "fewer"]] * 10]
    report = bench.run([item(f"v{i:02}", step, size=2.0 - i / 100) for i, step in enumerate(steps)], workers=3)
    all_done(report, 16)
    assert (bench.folder / "fewer").exists()


@case(19, "fragmentation: a fresh process alone succeeds at full size")
def _(bench, monkeypatch):
    bench.with_cards(8)
    items = [item("first", size=2.0), item("second", ["vram", 1.0, 0.0, True, True], size=1.0)]
    report = bench.run(items, workers=1)
    all_done(report, 2)
    assert report.outcomes["second"].shrink == 1.0


@case(20, "an orphan that holds a card's memory is found and killed before anything is started there")
def _(bench, monkeypatch):
    bench.with_cards(8)
    report = bench.run([item("a", ["vram_in_orphan_then_kill", 6.0], ["vram", 6.0])])
    all_done(report, 1)
    assert not _runs(int((bench.folder / "orphan.pid").read_text()))


@case(21, "a sticky CUDA error: the worker is replaced, the item is done elsewhere")
def _(bench, monkeypatch):
    bench.with_cards(8)
    text = "CUDA error: an illegal memory access was encountered"
    report = bench.run([item("a", ["raise", "RuntimeError", text], []), *plain(1)], workers=1)
    all_done(report, 2)
    assert bench.spawned == 2


@case(22, "a lost card is fenced and named, the others finish, the item is not blamed")
def _(bench, monkeypatch):
    bench.with_cards(8, 8)
    text = "CUDA error: uncorrectable ECC error encountered"
    report = bench.run(plain(6, "lose_card", "GPU-0", text), workers=1)
    all_done(report, 6)
    (fenced,) = bench.events.of("fenced")
    assert (fenced["device"], fenced["name"], fenced["text"]) == ("GPU-0", "Card 8 GiB", text)
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}


@case(23, "the mask of the environment is respected as index, UUID, beginning of a UUID, and MIG")
def _(bench, monkeypatch):
    whole = [Card(f"GPU-{name}", i, "card", GIB) for i, name in enumerate(("aa11", "ab22", "cc33"))]
    slices = [Card(f"MIG-{name}", 3, "slice", GIB, "GPU-dd44") for name in ("x", "y")]
    cards = whole + slices

    def seen(mask):
        return [card.uuid for card in visible_cards(cards, mask)]

    assert seen("2,0") == ["GPU-cc33", "GPU-aa11"]
    assert seen("GPU-cc") == ["GPU-cc33"]
    assert seen("GPU-a") == []  # two cards begin so
    assert seen("MIG-y") == ["MIG-y"]
    assert seen("3") == ["MIG-x", "MIG-y"]
    assert seen("1,9,0") == ["GPU-ab22"]  # everything from the first unknown entry on is invisible
    assert seen("") == seen("-1") == seen("NoDevFiles") == []
    bench.with_cards(8, 8)
    report = bench.run([item("a", ["report"])], devices=bench.cards.devices()[1:])
    assert report.outcomes["a"].value["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-1"


@case(24, "unequal cards get different numbers of workers")
def _(bench, monkeypatch):
    bench.with_cards(5, 16)
    busy, most = {"GPU-0": 0, "GPU-1": 0}, {"GPU-0": 0, "GPU-1": 0}

    def count(event):
        device = next(spawned["device"] for spawned in bench.events.of("spawned") if spawned["worker"] == event["worker"])
        busy[device] += 1 if event["kind"] == "claimed" else -1
        most[device] = max(most[device], busy[device])
        if most["GPU-1"] == 2:
            (bench.folder / "two").touch()

    bench.events.on |= {"claimed": count, "done": count}
    first = [item(f"first{i}", ["vram", 3.0, 0.5], size=2.0) for i in range(2)]  # one per card; by them the others are judged
    report = bench.run([*first, *(item(f"v{i}", ["vram_until", 3.0, "two"]) for i in range(14))])
    all_done(report, 16)
    assert most["GPU-0"] == 1
    assert most["GPU-1"] >= 2


# Hang


@case(25, "an endless loop in Python is a hang")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["spin"]), *plain(2)], item_timeout_s=2.0, attempts=1)
    assert kinds(report) == {"a": "hang", "plain0": "done", "plain1": "done"}
    assert "item_timeout_s" in report.outcomes["a"].text


@case(26, "native code that holds the GIL, so that no thread of the worker runs, is a hang")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["hold_the_gil"], [])], item_timeout_s=1.5)
    all_done(report, 1)
    assert report.outcomes["a"].attempts == 2


@case(27, "a process that cannot be killed is given up, its card fenced and reported")
def _(bench, monkeypatch):
    bench.with_cards(8, 8)
    monkeypatch.setattr(WorkerProcess, "kill", lambda self: None)
    timing = dataclasses.replace(QUICK, kill=0.3)
    try:
        report = bench.run([item("a", ["sleep", 600], [])], item_timeout_s=1.5, timing=timing, workers=1)
    finally:
        monkeypatch.undo()
        for event in bench.events.of("spawned"):
            if psutil.pid_exists(event["pid"]):
                psutil.Process(event["pid"]).kill()
    all_done(report, 1)
    assert len(bench.events.of("fenced")) == 1
    assert "cannot be killed" in bench.events.of("leftover")[0]["text"]


@case(28, "slow but alive: progress extends the deadline")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["slow_but_alive", 3.0, 0.1])], item_timeout_s=1.5)
    all_done(report, 1)
    assert report.outcomes["a"].seconds > 2.9


@case(29, "a result of 100 MB is refused with what to do instead, and blocks nothing")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["return", "large"]), *plain(2)])
    assert report.outcomes["a"].kind == "error"
    assert "write it to a file and return the path" in report.outcomes["a"].text
    assert kinds(report)["plain1"] == "done"


# Poison and retries


@case(30, "an item that always kills is quarantined after three, and no other is touched")
def _(bench, monkeypatch):
    report = bench.run([item("poison", ["kill"]), *plain(6)])
    poison = report.outcomes.pop("poison")
    assert (poison.kind, poison.attempts, bench.attempts("poison")) == ("crash", 3, 3)
    all_done(report, 6)
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}


@case(31, "an item that raises restarts no worker and keeps its traceback")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["raise", "ValueError", "seven is odd"]), *plain(2)], workers=1)
    assert report.outcomes["a"].kind == "error"
    assert "ValueError: seven is odd" in report.outcomes["a"].traceback
    assert "do_raise" in report.outcomes["a"].traceback
    assert (bench.spawned, bench.attempts("a")) == (1, 2)


@case(32, "storage that fails for a moment is waited for; a bad input is never retried")
def _(bench, monkeypatch):
    items = [
        item("a", ["fail_to_write"], ["fail_to_write"], []),
        item("b", ["raise", "BadInput", "no_audio", "It is silent", "Speak up"]),
    ]
    report = bench.run(items)
    assert kinds(report) == {"a": "done", "b": "bad_input"}
    assert (report.outcomes["b"].code, report.outcomes["b"].text) == ("no_audio", "It is silent")
    assert (bench.attempts("a"), bench.attempts("b")) == (3, 1)
    assert report.outcomes["a"].attempts == 1  # charged: none


@case(33, "all workers killed at once: the machine's doing, nobody is charged")
def _(bench, monkeypatch):
    def kill_both(event):
        if {progress["item"] for progress in bench.events.of("progress")} == {"a", "b"} and not bench.events.of("died"):
            for claim in bench.events.of("claimed"):
                os.kill(bench.events.pid_of(claim["worker"]), signal.SIGKILL)

    bench.events.on["progress"] = kill_both
    bench.with_cards(8, 8)
    # At once for us; the kernel takes its time to end them on a busy machine.
    timing = dataclasses.replace(QUICK, hiccup=1.0)
    report = bench.run([item(key, ["wait_for", "never"], []) for key in "ab"], workers=1, timing=timing)
    all_done(report, 2)
    assert len(bench.events.of("died")) == 2
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}


@case(34, "a crash loop ends with a clear error")
def _(bench, monkeypatch):
    report = bench.run(plain(2), told={"load": ["exit", 7]}, workers=1)
    assert report.stopped == "backend"
    assert "exit code 7" in report.text
    assert bench.spawned == 3
    monkeypatch.setattr(exits, "MAX_DEATHS_IN_A_ROW", 4)
    for end in (["exit", 9], ["raise", "Crash", "the model's process: it ended"]):
        report = bench.run([item(f"{end[0]}{i}", end) for i in range(9)])
        assert report.stopped == "backend"
        assert "4 workers died one after another" in report.text


# Results


@case(35, "a result that cannot be pickled, or not be read again, is that item's error")
def _(bench, monkeypatch):
    report = bench.run([item("lambda", ["return", "lambda"]), item("here", ["return", "only_here"]), *plain(1)])
    assert kinds(report) == {"lambda": "error", "here": "error", "plain0": "done"}
    assert "pickle" in report.outcomes["lambda"].text
    assert "can only be read where it was made" in report.outcomes["here"].text


@case(36, "an exception that cannot travel, and whose text raises, is told all the same")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["raise", "OddError", 1, 2]), *plain(1)])
    assert (report.outcomes["a"].kind, report.outcomes["a"].code) == ("error", "OddError")
    assert "its text raised ValueError" in report.outcomes["a"].text


@case(37, "a second result for an item changes nothing")
def _(bench, monkeypatch):
    task = Task(Item("a"))
    stopping = StopState(StopRequests(), bench.events, 1.0, time.monotonic)
    tracker = ItemTracker([task], bench.ledger, bench.events, stopping, RetryRules(3, True, 3, 1.0), time.monotonic)
    tracker.finish(task, Outcome("done", value=1))
    tracker.finish(task, Outcome("crash"))
    assert tracker.outcomes["a"].value == 1
    assert bench.ledger.calls == [("finished", "a", "done")]


@case(38, "a half-written file is never seen under its name")
def _(bench, monkeypatch):
    seen = []
    bench.events.on["died"] = lambda event: seen.append((bench.folder / "out" / "a.txt").exists())
    report = bench.run([item("a", ["partial_then_kill"], [])])
    all_done(report, 1)
    assert seen == [False]
    assert (bench.folder / "out" / "a.txt").read_text() == "a at 1.0\n"


@case(39, "a full disk stops the pool politely; the item is computed once and stays pending, no file is truncated")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["full_disk"], size=1.0), *plain(2)])
    assert bench.attempts("a") == 1
    assert report.stopped == "transient"
    assert "No space left" in report.text
    assert "a" not in report.outcomes
    assert not (bench.folder / "out" / "a.txt").exists()
    assert bench.ledger.claims == []


@case(40, "a result that arrives after the stop counts")
def _(bench, monkeypatch):
    bench.events.on["claimed"] = lambda event: os.kill(os.getpid(), signal.SIGTERM)
    report = bench.run([item("a", ["sleep", 0.4]), *plain(2)], workers=1)
    assert (report.stopped, report.signal) == ("signal", signal.SIGTERM)
    assert kinds(report) == {"a": "done"} or list(kinds(report).values()) == ["done"]
    assert bench.ledger.claims == []


# Control


@case(41, "Ctrl-C once: nothing more is claimed, what runs is finished")
def _(bench, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    bench.events.on["claimed"] = lambda event: os.kill(os.getpid(), signal.SIGINT)
    report = bench.run(plain(4, "sleep", 0.3), workers=1)
    assert (report.stopped, report.signal) == ("signal", signal.SIGINT)
    assert list(kinds(report).values()) == ["done"]
    assert bench.ledger.claims == []
    assert signal.getsignal(signal.SIGINT) is before


@case(42, "Ctrl-C twice: everything ends at once, whatever the grace")
def _(bench, monkeypatch):
    def twice(event):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    bench.events.on["claimed"] = twice
    report = bench.run([item("a", ["hold_the_gil"]), *plain(2)], workers=1, grace_s=600.0)  # no test lasts so long
    assert report.stopped == "signal"
    assert report.outcomes == {}
    assert bench.ledger.claims == []
    assert ("finished", "a", "transient") in bench.ledger.calls or len(bench.ledger.calls) == 2


@case(43, "SIGUSR1 and SIGTERM with little time: what does not finish stays pending and is not charged")
def _(bench, monkeypatch):
    for number in (signal.SIGUSR1, signal.SIGTERM):
        bench.events.on["claimed"] = lambda event, number=number: (
            os.kill(os.getpid(), signal.SIGCONT),
            os.kill(os.getpid(), number),
        )
        report = bench.run([item("a", ["sleep", 600])], grace_s=0.3)
        assert (report.stopped, report.signal) == ("signal", number)
        assert report.outcomes == {}
        assert bench.ledger.claims == []


@case(44, "the driver is killed: its workers end with it")
def _(bench, monkeypatch):
    driver = bench_driver(bench, [item("a", ["sleep", 600]), item("b", ["hold_the_gil"])])
    wait_until(lambda: len(claimed_pids(bench)) >= 1)
    pids = [event["pid"] for event in read_events(bench.folder / "events.jsonl") if event["kind"] == "spawned"]
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(_runs(pid) for pid in pids))
    assert bench.ledger.claims != []  # what a later run counts as a crash
    wait_until(lambda: bench.left_behind() == [])  # the reaper, too


@case(45, "an exception in a callback of the driver ends everything and is raised")
def _(bench, monkeypatch):
    def fail(event):
        raise ZeroDivisionError("in a callback")

    bench.events.on["done"] = fail
    with pytest.raises(ZeroDivisionError):
        bench.run(plain(3, "sleep", 0.05))
    assert bench.left_behind() == []


@case(46, "a second driver is refused by the ledger, and leaves nothing behind")
def _(bench, monkeypatch):
    def held(item, **claim):
        raise LeaseHeld("another run works on this batch")

    monkeypatch.setattr(bench.ledger, "claimed", held)
    with pytest.raises(LeaseHeld):
        bench.run(plain(2))
    assert bench.attempts("plain0") == 0


@case(47, "whatever interrupts a run, the same call again gives the same bytes")
def _(bench, monkeypatch):
    def interrupted(event):
        if len(bench.events.of("claimed")) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    items = [
        item("a", ["kill"], ["sleep", 0.01]),
        item("b", ["result_then_kill"]),
        *plain(3, "sleep", 0.05),
        item("c", ["fail_to_write"], []),
    ]
    bench.events.on["claimed"] = interrupted
    first = bench.run(items)
    bench.events.on.clear()
    second = bench.run([one for one in items if one.key not in first.outcomes])
    assert {**kinds(first), **kinds(second)} == dict.fromkeys([one.key for one in items], "done")
    assert bench.ledger.outputs() == {f"{one.key}.txt": f"{one.key} at 1.0\n".encode() for one in items}


@case(48, "no item, one item, fewer items than workers; and many in a queue that stays fast")
def _(bench, monkeypatch):
    assert bench.run([]).outcomes == {}
    assert bench.spawned == 0
    all_done(bench.run(plain(1), devices=[cpu_device(8)]), 1)
    assert bench.spawned == 1
    took = []
    for count in (2_000, 50_000):
        queue = WorkQueue(Task(Item(str(i), float(i % 97))) for i in range(count))
        begin = time.process_time()
        for _ in range(1_000):
            queue.take(1, 0.0, others=True)
            assert queue.largest
            assert queue.shared_size
        took.append(time.process_time() - begin)
    assert took[1] < 5 * took[0] + 0.05


@case(49, "items that raise midway: nothing has been started")
def _(bench, monkeypatch):
    def items():
        yield item("a")
        raise LookupError("the listing broke")

    with pytest.raises(LookupError):
        bench.run(items())
    assert bench.spawned == 0
    with pytest.raises(ValueError, match="two items have the key 'a'"):
        bench.run([item("a"), item("a")])


@case(50, "no spawn storm: at most one loads beside the first, where that is slow; what workers and their children print is kept")
def _(bench, monkeypatch):
    report = bench.run([item(f"v{i}", ["print", f"hello {i}"]) for i in range(6)], devices=[cpu_device(4)])
    all_done(report, 6)
    kinds_seen = [event["kind"] for event in bench.events.of("spawned", "ready")]
    assert kinds_seen.index("ready") <= 2
    printed = "".join(path.read_text() for path in (bench.folder / "logs").glob("worker-*.log"))
    assert "hello 3" in printed
    assert "child says hello 5" in printed


@case(51, "restarts leak no descriptor")
def _(bench, monkeypatch):
    open_before = len(os.listdir("/proc/self/fd"))
    bench.run([item(f"p{i}", ["exit", 1], []) for i in range(6)])
    assert bench.spawned >= 6
    open_after = len(os.listdir("/proc/self/fd")) - 1  # the event file stays open
    assert open_after <= open_before


@case(52, "a pid that belongs to somebody else by now is left alone")
def _(bench, monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as other:
        real, earlier = psutil.Process(other.pid), psutil.Process(other.pid)
        earlier._ident = (other.pid, earlier._ident[1] - 1000)  # one that had this pid before
        assert still_runs(real)
        assert not still_runs(earlier)
        kill_process(earlier)
        assert other.poll() is None
        kill_process(real)
        assert other.wait(60) == -signal.SIGKILL


@case(53, "a step of the clock changes nothing")
def _(bench, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * (len(bench.events.seen) % 2))
    report = bench.run(plain(4, "sleep", 0.05), item_timeout_s=600.0)
    all_done(report, 4)
    assert all(0 <= outcome.seconds < 600 for outcome in report.outcomes.values())


@case(54, "thread counts and the user's variables are set before the interpreter starts")
def _(bench, monkeypatch):
    report = bench.run([item("a", ["report"])], devices=[cpu_device(2, threads=2)], environment={"MINE": "yes"})
    said = report.outcomes["a"].value
    assert said["environment"] == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "", "MINE": "yes"}
    assert not said["numpy_was_loaded"]
    assert said["start_method"] == "spawn"
    assert said["sigint"]


@case(55, "a script without a __main__ guard does not multiply; -O reaches the workers")
def _(bench, monkeypatch):
    script = bench.folder / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import functools, sys
            from tests.videolift.pool.work import Told
            from tests.videolift.pool.conftest import Files
            from videolift.config import PoolSettings
            from videolift.pool import Item, cpu_device, run_pool
            from pathlib import Path

            class Mine(Told):
                pass

            folder = Path({str(bench.folder)!r})
            factory = functools.partial(Mine if sys.argv[1] == "here" else Told, str(folder))
            report = run_pool(factory, [Item("a", payload={{"steps": [["report"]]}})], devices=[cpu_device(2)],
                              settings=PoolSettings(backoff_s=0.05), ledger=Files(folder))
            print(report.stopped, report.text, report.outcomes)
            """
        )
    )
    elsewhere = _python("-O", str(script), "elsewhere")
    assert "'optimize': 1" in elsewhere
    here = _python(str(script), "here")
    assert 'if __name__ == "__main__"' in here
    assert here.count("report") < 20


@case(56, "a pool that is suspended with its workers, and goes on, calls nobody hung and no item slow")
def _(bench, monkeypatch):
    driver = bench_driver(bench, [item("a", ["slow_but_alive", 2.0, 0.05])], item_timeout_s=2.0)
    events = bench.folder / "events.jsonl"
    wait_until(lambda: any(event["kind"] == "progress" for event in read_events(events)))
    pids = [driver.pid, *(event["pid"] for event in read_events(events) if event["kind"] == "spawned")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)  # the driver looks around before a worker can say anything
    assert driver.wait() == 0
    assert [event["kind"] for event in read_events(events) if event["kind"] in ("hung", "died", "done")] == ["done"]
    claimed, done = (event for event in read_events(events) if event["kind"] in ("claimed", "done"))
    assert done["seconds"] < done["t"] - claimed["t"] - 2.0, "the item's seconds are those for which the pool ran"
    wait_until(lambda: bench.left_behind() == [])  # the reaper, too


def _python(*arguments):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def bench_driver(bench, items, log_folder="logs", **settings):
    """A driver of its own, in the bench's folder."""
    (bench.folder / "items.pickle").write_bytes(pickle.dumps(items))
    code = textwrap.dedent(
        """
        import functools, json, pickle, sys
        from pathlib import Path
        from tests.videolift.pool.conftest import Files, QUICK
        from tests.videolift.pool.work import Told
        from videolift.config import PoolSettings
        from videolift.pool import EventSink, cpu_device, run_pool

        folder = Path(sys.argv[1])
        items = pickle.loads((folder / "items.pickle").read_bytes())
        events = EventSink(folder / "events.jsonl", stream=None)
        settings = PoolSettings(reserve_gb=0.0, **json.loads(sys.argv[3]))
        run_pool(functools.partial(Told, str(folder)), items, devices=[cpu_device(2)], settings=settings,
                 ledger=Files(folder), events=events, log_folder=folder / sys.argv[2] if sys.argv[2] else None, timing=QUICK)
        """
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), MARK: str(bench.folder)}
    command = [sys.executable, "-c", code, str(bench.folder), log_folder or "", json.dumps(settings)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment)


def claimed_pids(bench):
    rows = [path.read_text() for path in (bench.folder / "claims").iterdir()]
    return [json.loads(row)["pid"] for row in rows if row]


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_table_is_whole():
    assert sorted(CASES) == list(range(1, 57))


@pytest.mark.parametrize("number", sorted(CASES), ids=lambda number: f"{number:02d}-{CASES[number][0].replace(' ', '_')}"[:70])
def test_fault(number, bench, monkeypatch):
    CASES[number][1](bench, monkeypatch)
