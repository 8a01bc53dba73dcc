"""Two stages' pools and another tenant on one card: each sees what is free and no plans of the other; nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

from tests.videolift.pool.conftest import item

ROOT = Path(__file__).parents[3]
SECOND = """
import sys
from pathlib import Path
from tests.videolift.pool.conftest import Bench, Meddler, item

bench = Bench(Path(sys.argv[1])).with_cards(12)
bench.events = Meddler(bench.folder / "second.jsonl")
report = bench.run([item(f"tracks{i}", ["vram", 1.5, 0.2]) for i in range(8)], told={"load": ["vram", 0.5]})
print(report.stopped, *sorted(f"{key} {outcome.kind}" for key, outcome in report.outcomes.items()), sep="\\n")
"""


def test_two_pools_and_a_tenant_share_a_card_and_every_item_is_done(bench):
    bench.with_cards(12)
    bench.cards.foreign("GPU-0", 3.0)
    second = []

    def start(event):
        if not second:  # while the first pool is at work, as another stage's job would
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-c", SECOND, str(bench.folder)]
            second.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))

    bench.events.on["done"] = start
    first = bench.run([item(f"depth{i}", ["vram", 2.0, 0.2]) for i in range(10)], told={"load": ["vram", 1.0]})
    said = second[0].communicate(timeout=500)[0].split("\n")
    assert first.stopped is None
    assert {outcome.kind for outcome in first.outcomes.values()} == {"done"}
    assert said[:-1] == ["None", *(f"tracks{i} done" for i in range(8))]


def test_a_card_that_others_fill_is_waited_for_and_one_that_nobody_holds_is_not(bench):
    bench.with_cards(12)
    bench.cards.foreign("GPU-0", 11.5)
    refused = []

    def leave(event):
        refused.append(event)
        if len(refused) == 5:
            bench.cards.foreign("GPU-0", 0)

    bench.events.on["failed"] = leave
    report = bench.run([item("depth", ["vram", 2.0])], told={"load": ["vram", 1.0]})
    assert report.stopped is None
    assert report.outcomes["depth"].kind == "done"
    assert {event["code"] for event in refused} == {"load"}

    refused.clear()
    assert bench.run([item("hands")], told={"load": ["vram", 13.0]}).stopped == "backend"
    assert len(refused) == 3


def test_a_card_that_others_do_not_give_back_stops_the_pool_with_who_holds_it(bench):
    bench.with_cards(12)
    bench.cards.foreign("GPU-0", 11.5)
    # Three tries; the time is also what a worker's interpreter has to start in.
    report = bench.run([item("depth", ["vram", 2.0])], told={"load": ["vram", 1.0]}, load_timeout_s=5.0, backoff_s=2.0)
    assert report.stopped == "backend"
    assert "others hold 11.5 GiB of 12.0 GiB" in report.text
