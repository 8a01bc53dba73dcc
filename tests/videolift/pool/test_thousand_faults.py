"""Many injected faults in one run: nothing lost, nobody blamed for another's fault, nothing left behind."""

import os
import random
from pathlib import Path

import pytest

from tests.videolift.pool.conftest import item
from videolift.pool.devices import DeviceLost

# Per kind of fault: its steps, and what becomes of an item that meets one, two or three of them before it would work.
FAULTS = {
    "kill": (["kill"], ("done", "done", "crash")),
    "segfault": (["segfault"], ("done", "done", "crash")),
    "exit": (["exit", 0], ("done", "done", "crash")),
    "shared": (["share_memory_then", "kill"], ("done", "done", "crash")),
    "nonsense": (["write_nonsense", 255, 255, 255, 255], ("done", "done", "crash")),
    "hang": (["spin"], ("done", "done", "hang")),
    "gil": (["hold_the_gil"], ("done", "done", "hang")),
    "raise": (["raise", "ValueError", "x"], ("done", "error", "error")),
    "progress": (["progress", 400], ("done", "error", "error")),
    "oom": (["vram", 100.0], ("done", "done")),
    "storage": (["fail_to_write"], ("done", "done", "done")),
    "bad": (["raise", "BadInput", "c", "t", "r"], ("bad_input", "bad_input", "bad_input")),
    # what harms others rather than itself: nobody is charged
    "fork": (["fork", 0.02], ("done",)),
    "forge": (["answer_for", "v00000"], ("done",)),
    "leak": (["leak", 40], ("done",)),
    "close": (["close_descriptors"], ("done",)),
}
SLOW_KINDS = {"hang", "gil"}
UNCHARGED = {"fork", "forge", "leak", "close"}
LOAD_FAULTS = (["segfault"], ["exit", 3], ["raise", "MemoryError"], ["vram", 100.0])
CARDS_GIB = (12, 8, 8, 8)


def plan(count, seed, slow_share):
    """Items with at least ``count`` faults among them, and what each must come to."""
    rng = random.Random(seed)
    quick = [name for name in FAULTS if name not in SLOW_KINDS]
    items, expected, planned = [], {}, 0
    while planned < count:
        key = f"v{len(items):05d}"
        if rng.random() < 0.4:
            items.append(item(key, ["vram", 1.0, 0.01], size=rng.uniform(1, 9)))
            expected[key] = ("done", 1)
            continue
        name = rng.choice(list(FAULTS)) if rng.random() < slow_share else rng.choice(quick)
        step, outcomes = FAULTS[name]
        times = 1 if name in UNCHARGED else rng.choice((1, 1, 1, 2, 3) if name != "oom" else (1, 2))  # a third shrinks to the last
        outcome = outcomes[times - 1]
        repeated = times if outcome == "done" else 6  # some may be forgiven as the machine's, or a lost card's
        items.append(item(key, *[step] * repeated, ["vram", 1.0, 0.01], size=rng.uniform(1, 9)))
        expected[key] = (outcome, 1 if name in UNCHARGED else times + 1)
        planned += {"bad_input": 1, "error": 2}.get(outcome, times)
    return items, expected


def lose_cards(bench, at):
    """``at``: after so many items with an outcome, the driver says that this card is lost."""
    real, lost = bench.cards.memory, set()

    def memory(uuid):
        if uuid in lost:
            raise DeviceLost(f"the driver no longer answers for card {uuid}: GPU is lost")
        return real(uuid)

    def on_outcome(event):
        lost.update(uuid for uuid, count in at.items() if len(bench.events.of("done", "quarantined")) >= count)

    bench.cards.memory = memory
    bench.events.on |= {"done": on_outcome, "quarantined": on_outcome}


def check(bench, count, seed, slow_share, item_timeout_s):
    items, expected = plan(count, seed, slow_share)
    rng = random.Random(seed)
    loads = [step for _ in range(count) for step in (rng.choice(LOAD_FAULTS) if rng.random() < 0.1 else [], [], [])]
    bench.with_cards(*CARDS_GIB)
    lose_cards(bench, {"GPU-2": len(items) // 4, "GPU-3": len(items) // 2})
    descriptors = len(os.listdir("/proc/self/fd"))
    report = bench.run(items, told={"load_steps": loads}, item_timeout_s=item_timeout_s, workers=3)
    assert report.stopped is None, report.text
    assert sorted(report.outcomes) == sorted(expected), "items were lost"
    wrong = {key: (outcome.kind, expected[key]) for key, outcome in report.outcomes.items() if outcome.kind != expected[key][0]}
    assert wrong == {}, "an item came to what its faults do not explain"
    blamed = [key for key, (_, most) in expected.items() if most == 1 and report.outcomes[key].attempts > 1]
    assert blamed == [], "an innocent item was charged"
    assert all(outcome.attempts <= max(3, expected[key][1]) for key, outcome in report.outcomes.items())
    done = {key: outcome for key, outcome in report.outcomes.items() if outcome.kind == "done"}
    forged = {key: outcome.value for key, outcome in done.items() if outcome.code != "recorded" and outcome.value != key}
    assert forged == {}, "an item has another's value"
    outputs = bench.ledger.outputs()
    assert set(outputs) == {f"{key}.txt" for key in done}
    assert [key for key in done if not outputs[f"{key}.txt"].startswith(f"{key} at ".encode())] == []
    assert {event["device"] for event in bench.events.of("fenced")} == {"GPU-2", "GPU-3"}
    assert all(bench.cards.processes(uuid) == {} for uuid in bench.cards.sizes), "memory of a card is still held"
    assert bench.ledger.claims == []
    assert bench.left_behind() == []
    shared = [path.read_text() for path in bench.folder.glob("shared-*")]
    assert [name for name in shared if (Path("/dev/shm") / name).exists()] == [], "shared memory is left"
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the event file
    injected = len(bench.events.of("died", "oom", "failed", "quarantined")) - sum(
        k in ("crash", "hang", "oom") for k, _ in expected.values()
    )
    print(f"{injected} faults, {bench.spawned} workers, {len(items)} items, {report.seconds:.0f} s")


def test_forty_faults_lose_nothing(bench):
    check(bench, 40, seed=3, slow_share=0.1, item_timeout_s=4.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_faults_lose_nothing(bench):
    check(bench, 1000, seed=1, slow_share=0.5, item_timeout_s=4.0)
