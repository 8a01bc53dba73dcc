"""Many injected faults in one run: nothing lost, nobody blamed for another's fault, nothing left behind."""

import random

import pytest

from tests.videolift.pool.conftest import item

# Per kind of fault: its steps, and what becomes of an item that meets one, two or three of them before it would work.
FAULTS = {
    "kill": (["kill"], ("done", "done", "crash")),
    "segfault": (["segfault"], ("done", "done", "crash")),
    "exit": (["exit", 0], ("done", "done", "crash")),
    "hang": (["spin"], ("done", "done", "hang")),
    "gil": (["hold_the_gil"], ("done", "done", "hang")),
    "raise": (["raise", "ValueError", "x"], ("done", "error", "error")),
    "oom": (["vram", 100.0], ("done", "done")),
    "storage": (["full_disk"], ("done", "done", "done")),
    "bad": (["raise", "BadInput", "c", "t", "r"], ("bad_input", "bad_input", "bad_input")),
}
QUICK_KINDS = ("kill", "segfault", "exit", "raise", "oom", "storage", "bad")
LOAD_FAULTS = (["segfault"], ["exit", 3], ["raise", "MemoryError"], ["vram", 100.0])


def plan(count, seed, slow_share):
    """Items with at least ``count`` faults among them, and what each must come to."""
    rng = random.Random(seed)
    items, expected, planned = [], {}, 0
    while planned < count:
        key = f"v{len(items):05d}"
        if rng.random() < 0.4:
            items.append(item(key, ["vram", 1.0, 0.01], size=rng.uniform(1, 9)))
            expected[key] = ("done", 1)
            continue
        name = rng.choice(list(FAULTS)) if rng.random() < slow_share else rng.choice(QUICK_KINDS)
        step, outcomes = FAULTS[name]
        times = rng.choice((1, 1, 1, 2, 3) if name != "oom" else (1, 2))  # a third one may be the last that shrinking allows
        endless = 6 if times == 3 and outcomes[2] in ("crash", "hang") else times  # some kills may be forgiven as the machine's
        items.append(item(key, *[step] * endless, ["vram", 1.0, 0.01], size=rng.uniform(1, 9)))
        expected[key] = (outcomes[times - 1], times + 1)
        planned += {"bad_input": 1, "error": 2}.get(outcomes[times - 1], times)
    return items, expected


def check(bench, count, seed, slow_share, item_timeout_s):
    items, expected = plan(count, seed, slow_share)
    rng = random.Random(seed)
    loads = [step for _ in range(count) for step in (rng.choice(LOAD_FAULTS) if rng.random() < 0.1 else [], [], [])]
    bench.with_cards(12, 8)
    report = bench.run(items, told={"load_steps": loads}, item_timeout_s=item_timeout_s, workers=3)
    assert report.stopped is None, report.text
    assert sorted(report.outcomes) == sorted(expected), "items were lost"
    wrong = {key: (outcome.kind, expected[key]) for key, outcome in report.outcomes.items() if outcome.kind != expected[key][0]}
    assert wrong == {}, "an item came to what its faults do not explain"
    blamed = [key for key, (_, most) in expected.items() if most == 1 and report.outcomes[key].attempts > 1]
    assert blamed == [], "an innocent item was charged"
    assert all(outcome.attempts <= max(3, expected[key][1]) for key, outcome in report.outcomes.items())
    assert [bench.cards.processes(uuid) for uuid in bench.cards.sizes] == [{}, {}], "memory of a card is still held"
    assert bench.ledger.claims == []
    assert bench.left_behind() == []
    done = {f"{key}.txt" for key, outcome in report.outcomes.items() if outcome.kind == "done"}
    assert set(bench.ledger.outputs()) == done
    injected = len(bench.events.of("died", "oom", "failed", "quarantined")) - sum(
        k in ("crash", "hang", "oom") for k, _ in expected.values()
    )
    print(f"{injected} faults, {bench.spawned} workers, {len(items)} items, {report.seconds:.0f} s")


def test_forty_faults_lose_nothing(bench):
    check(bench, 40, seed=3, slow_share=0.1, item_timeout_s=2.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_faults_lose_nothing(bench):
    check(bench, 1000, seed=1, slow_share=0.5, item_timeout_s=4.0)
