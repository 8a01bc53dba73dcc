"""The pool's smaller parts: messages, events, devices, memory, figures of earlier runs."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.videolift.pool.conftest import Meddler, item, plain
from videolift.errors import BackendUnavailable, Transient
from videolift.pool import EventSink, Item, cpu_device, find_devices, pools_at_work, read_events, summarize_events, summary_lines
from videolift.pool.decisions.figures import Peak, WorkerFigures, load_figures, save_figures
from videolift.pool.decisions.policy import Task
from videolift.pool.devices import Card
from videolift.pool.items import WorkQueue
from videolift.pool.memory import SystemGauge, cgroup_memory, pss_bytes
from videolift.pool.workers.machine import RunningClock
from videolift.pool.workers.messages import (
    Channel,
    ItemProgress,
    MessageTooLarge,
    encode,
    receive_blocking,
)

GIB = 2**30
REPOSITORY = Path(__file__).parents[3]


def test_a_message_that_comes_in_pieces_is_whole_when_its_last_piece_is_there():
    ours, theirs = socket.socketpair()
    first, second = ItemProgress(1, 2, 3), ItemProgress(1, 3, 3)
    channel, frame = Channel(ours), encode(first) + encode(second)
    for byte in frame[:-1]:
        theirs.send(bytes([byte]))
    assert channel.receive() == [first]
    theirs.send(frame[-1:])
    assert channel.receive() == [second]
    theirs.send(b"\x99")
    theirs.close()
    assert channel.receive() == []
    assert not channel.open
    channel.close()


def test_the_pools_clock_stands_still_while_the_pool_is_suspended_and_never_goes_back():
    looks = iter([10.0, 10.2, 40.2, 70.2, 131.0, 131.5])
    clock = RunningClock(lambda: next(looks))
    assert clock.now() == 10.2
    assert clock.now(waited_s=30.0) == 40.2, "it waited"
    assert clock.now() == 40.2, "suspended between two looks"
    assert clock.now(waited_s=0.8) == 41.0, "suspended while it waited"
    assert clock.now() == 41.5


def test_a_worker_that_does_not_read_never_blocks_the_supervisor():
    ours, theirs = socket.socketpair()
    channel, big = Channel(ours), encode(b"x" * 900_000)
    for _ in range(5):
        channel.send(big)
    assert channel.wants_to_write
    received = []
    while len(received) < 5:
        theirs.setblocking(True)
        channel.flush()
        received.append(receive_blocking_while_flushing(theirs, channel))
    assert not channel.wants_to_write
    theirs.close()
    channel.close()


def receive_blocking_while_flushing(theirs, channel):
    import threading

    result = []
    reader = threading.Thread(target=lambda: result.append(receive_blocking(theirs)))
    reader.start()
    while reader.is_alive():
        channel.flush()
        time.sleep(0.001)
    return result[0]


def test_a_message_above_one_mebibyte_is_refused():
    with pytest.raises(MessageTooLarge, match="return the path"):
        encode(b"x" * (2 << 20))


def test_events_tell_where_a_pool_stands(tmp_path):
    sink = EventSink(tmp_path / "e.jsonl", stream=None)
    sink.emit("started", items=3, devices=["cpu"])
    sink.emit("spawned", worker=1, device="cpu", pid=5, log="x")
    sink.emit("claimed", worker=1, device="cpu", item="a", attempt=1)
    sink.emit("progress", worker=1, item="a", done=3, of=9)
    sink.emit("resized", device="cpu", workers=2, busy=1, reason="memory", free_gib=3.0)
    now = summarize_events(read_events(tmp_path / "e.jsonl"))
    assert now.running == {"a": (1, 3, 9)}
    assert (now.total, now.done, now.workers, now.finished) == (3, 0, {"cpu": 1}, False)
    assert now.decisions["cpu"]["reason"] == "memory"
    assert summary_lines(now) == [
        "0/3 items, 0 quarantined",
        "cpu: 1 workers alive, 1 may work (memory); free_gib 3",
        "worker 1: a, 3/9",
    ]
    sink.emit("done", item="a", worker=1, seconds=1.0)
    sink.emit("quarantined", item="b", outcome="crash", code="crash", text="died")
    sink.emit("gone", worker=1, device="cpu")
    sink.emit("finished", stopped=None, text="", done=2)
    with (tmp_path / "e.jsonl").open("a") as file:
        file.write('{"kind": "cut o')
    after = summarize_events(read_events(tmp_path / "e.jsonl"))
    assert (after.done, after.failed, after.running, after.workers, after.finished) == (2, 1, {}, {"cpu": 0}, True)
    assert after.troubles[-1]["item"] == "b"
    assert summary_lines(after)[-1] == "last trouble: quarantined b died"


def test_pools_at_work_are_those_whose_supervisor_lives(bench):
    logs = bench.folder / "logs"
    bench.events = Meddler(logs / "depth" / "0001.events.jsonl")
    during = []
    bench.events.on["claimed"] = lambda event: during.append(pools_at_work(logs))
    bench.run(plain(1))
    assert during[0]["depth/0001"].total == 1
    assert pools_at_work(logs) == {}
    path = logs / "depth" / "0001.events.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"finished"' not in line))
    assert list(pools_at_work(logs)) == ["depth/0001"]
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194000'))
    assert pools_at_work(logs) == {}


def test_a_second_run_in_the_same_file_counts_alone(tmp_path):
    sink = EventSink(tmp_path / "e.jsonl", stream=None)
    for items in (9, 4):
        sink.emit("started", items=items, devices=[])
        sink.emit("done", item="a")
    assert (
        summarize_events(read_events(tmp_path / "e.jsonl")).total,
        summarize_events(read_events(tmp_path / "e.jsonl")).done,
    ) == (4, 1)


def test_progress_of_one_item_is_written_now_and_then_only(tmp_path):
    sink = EventSink(tmp_path / "e.jsonl", stream=None)
    for step in range(100):
        sink.emit("progress", worker=1, item="a", done=step, of=100)
    assert len(read_events(tmp_path / "e.jsonl")) == 1


def test_the_progress_line_says_done_rate_and_time_left():
    stream = io.StringIO()
    sink = EventSink(name="depth 0001", stream=stream)
    sink.line(1, 10, lambda: "cpu: 2 workers")
    assert stream.getvalue() == ""
    sink.line_every_s = 0.0
    sink._began -= 60.0
    sink.line(5, 10, lambda: "cpu: 2 workers")
    assert stream.getvalue().startswith("depth 0001: 5/10, 300/h, left 1.0 min, cpu: 2 workers")


def test_the_progress_line_counts_what_is_done_of_an_unfinished_item():
    stream = io.StringIO()
    sink = EventSink(name="depth 0001", stream=stream)
    sink.line_every_s = 0.0
    sink._began -= 1800.0
    sink.line(0, 1, lambda: "cpu: 1 workers", begun=0.25)
    assert stream.getvalue().startswith("depth 0001: 0/1 (+ 0.25 in work), 0.5/h, left 1.5 h, cpu: 1 workers")


def test_a_full_disk_under_the_events_loses_events_and_nothing_else(tmp_path):
    sink = EventSink(tmp_path / "e.jsonl", stream=None)
    sink._file = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  closed by the sink
    sink.emit("started", items=1)
    sink.emit("finished", stopped=None)
    assert sink._file is None


class Fixed:
    def __init__(self, *cards):
        self._cards = list(cards)

    def cards(self):
        return self._cards


def test_devices_carry_uuids_and_a_share_of_the_cores(monkeypatch):
    two = Fixed(Card("GPU-a", 0, "A", 8 * GIB), Card("GPU-b", 1, "B", 24 * GIB))
    found = find_devices("cuda", cards=two, environment={})
    assert [(d.id, d.name, d.memory_bytes) for d in found] == [("GPU-a", "A", 8 * GIB), ("GPU-b", "B", 24 * GIB)]
    assert [d.id for d in find_devices("cuda", cards=two, environment={"CUDA_VISIBLE_DEVICES": "1"})] == ["GPU-b"]


def test_a_mask_that_leaves_no_card_says_which_cards_there_are():
    with pytest.raises(BackendUnavailable, match=r"CUDA_VISIBLE_DEVICES is '7'.*0: A GPU-a"):
        find_devices("cuda", cards=Fixed(Card("GPU-a", 0, "A", GIB)), environment={"CUDA_VISIBLE_DEVICES": "7"})


def test_the_cpu_is_a_device_of_the_cores_we_may_run_on():
    (device,) = find_devices("cpu")
    assert device.cores == len(os.sched_getaffinity(0)) or device.cores >= 1
    assert cpu_device(7, threads=2).cores == 7


def test_memory_of_this_process_is_told_in_shared_pages():
    mine = pss_bytes(os.getpid())
    assert 1 << 20 < mine < 4 * GIB
    assert pss_bytes(1 << 22) == 0
    host = SystemGauge().host()
    assert 0 < host.free <= host.total


@pytest.mark.parametrize(
    ("line", "names", "limit", "usage"),
    [
        ("0::/job/step", ("memory.max", "memory.current"), "job", 3 * GIB),
        ("5:cpu,memory:/job/step", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "memory/job", 3 * GIB),
    ],
)
def test_the_tightest_control_group_above_us_counts(tmp_path, line, names, limit, usage):
    own = tmp_path / "own"
    own.write_text(f"9:cpu:/x\n{line}\n")
    base = tmp_path / ("memory" if "memory:" in line else "")
    for folder, most in ((base / "job", 8 * GIB), (base / "job/step", 1 << 62)):
        folder.mkdir(parents=True)
        (folder / names[0]).write_text(str(most))
        (folder / names[1]).write_text(str(usage))
    (base / "job" / "memory.stat").write_text(f"total_inactive_file {GIB}\n")
    assert cgroup_memory(tmp_path, own) == (8 * GIB, 6 * GIB)


def test_figures_are_remembered_by_label_and_device(tmp_path):
    path, figures = tmp_path / "history.json", WorkerFigures()
    for size in (100, 110, 120, 127, 900):
        figures.peaked(Peak(float(size), size * GIB, GIB))
    figures.loaded(12.0, GIB, GIB)
    figures.busied(1, 0.7)
    save_figures(path, "moge 512x384", {"Card A": figures}, busy_share=True)
    known = WorkerFigures()
    assert load_figures(path, "moge 512x384", "Card A", known)
    assert [peak.size for peak in known.peaks] == [900.0, 127.0, 120.0, 110.0]
    assert (known.load_s, known.samples, known.busy_share) == (12.0, 4, 0.7)
    assert not load_figures(path, "moge 512x384", "Card B", WorkerFigures())
    assert not load_figures(path, "vipe", "Card A", WorkerFigures())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "figures": {"l | d": {"peaks": [[1]]}}}'])
def test_a_bad_history_is_no_history(tmp_path, text):
    path = tmp_path / "history.json"
    path.write_text(text)
    assert not load_figures(path, "l", "d", WorkerFigures())


def test_remembered_figures_spare_the_probe(bench):
    history = {"history": bench.folder / "history.json", "label": "told"}
    from tests.videolift.pool.conftest import QUICK
    from videolift.config import PoolSettings
    from videolift.pool import run_pool

    for _ in range(2):
        run_pool(
            bench.factory(),
            plain(4, "sleep", 0.05),
            devices=[cpu_device(2)],
            settings=PoolSettings(reserve_gb=0.0),
            ledger=bench.ledger,
            events=bench.events,
            timing=QUICK,
            **history,
        )
    samples = [event["samples"] for event in bench.events.of("resized")]
    starts = [index for index, event in enumerate(bench.events.seen) if event["kind"] == "started"]
    assert samples[0] == 0
    second = [event for event in bench.events.seen[starts[1] :] if event["kind"] == "resized"]
    assert second[0]["samples"] > 0
    assert json.loads((bench.folder / "history.json").read_text())["format"] == 1


@pytest.mark.parametrize(("items", "settings", "threads"), [(1, {}, 6), (3, {}, 2), (9, {}, 1), (9, {"workers": 2}, 3)])
def test_cores_are_shared_among_the_workers_there_will_be(bench, items, settings, threads):
    report = bench.run(plain(items, "report"), devices=[cpu_device(6)], **settings)
    assert {outcome.value["threads"] for outcome in report.outcomes.values()} == {threads}
    assert {outcome.value["environment"]["OMP_NUM_THREADS"] for outcome in report.outcomes.values()} == {str(threads)}


def test_a_hidden_pid_list_is_measured_by_difference(bench):
    bench.with_cards(16, hidden=True)
    report = bench.run([item("a", ["vram", 3.0, 0.5])], told={"load": ["vram", 1.0]})
    assert report.outcomes["a"].peak_bytes == 4 * GIB


def test_what_does_not_fit_the_message_or_was_crashed_before_is_settled_without_a_worker(bench):
    heavy = Item("heavy", payload=b"x" * (2 << 20))
    report = bench.run([heavy, item("worn", attempts=3), *plain(1)])
    assert {key: outcome.kind for key, outcome in report.outcomes.items()} == {"heavy": "error", "worn": "crash", "plain0": "done"}
    assert bench.attempts("worn") == 0


def test_the_host_guard_takes_back_the_youngest_and_charges_nobody(bench):
    bench.with_cards(16, 16)
    gauge = Shrinking(bench.cards)
    from tests.videolift.pool.conftest import QUICK
    from videolift.config import PoolSettings
    from videolift.pool import run_pool

    bench.events.on["claimed"] = lambda event: setattr(gauge, "low", gauge.low or len(bench.events.of("claimed")) == 2)
    bench.events.on["gone"] = lambda event: setattr(gauge, "low", False)
    items = [item(f"v{i}", ["vram", 1.0, 0.8]) for i in range(6)]
    report = run_pool(
        bench.factory(),
        items,
        devices=bench.cards.devices(),
        settings=PoolSettings(reserve_gb=1.0, max_workers=1),
        ledger=bench.ledger,
        events=bench.events,
        timing=QUICK,
        gauge=gauge,
    )
    assert {outcome.kind for outcome in report.outcomes.values()} == {"done"}
    assert {outcome.attempts for outcome in report.outcomes.values()} == {1}
    assert [event["code"] for event in bench.events.of("failed")] == ["host_memory"]


class Shrinking(SystemGauge):
    low = False

    def host(self):
        real = super().host()
        return type(real)(real.total, GIB // 8) if self.low else real


def test_storage_that_fails_under_a_claim_is_waited_for_then_stops_the_pool(bench, monkeypatch):
    real, failures = bench.ledger.claimed, []

    def claimed(one, **claim):
        if len(failures) < limit:
            failures.append(one.key)
            raise Transient("disk quota exceeded")
        real(one, **claim)

    monkeypatch.setattr(bench.ledger, "claimed", claimed)
    limit = 1
    assert bench.run(plain(2)).outcomes.keys() == {"plain0", "plain1"}
    failures.clear()
    limit = 1000
    report = bench.run(plain(2, prefix="later"), transient_retries=1)
    assert (report.stopped, report.outcomes) == ("transient", {})
    assert "disk quota exceeded" in report.text
    assert bench.ledger.claims == []


def test_what_waits_for_another_try_when_the_pool_stops_leaves_no_claim(bench):
    """A later run would charge it for a death that never was."""
    bench.events.on["failed"] = lambda event: os.kill(os.getpid(), signal.SIGTERM)
    report = bench.run([item("a", ["raise", "ValueError", "x"], []), *plain(3, "sleep", 0.1)], workers=1)
    assert report.stopped == "signal"
    assert "a" not in report.outcomes
    assert ("finished", "a", "transient") in bench.ledger.calls
    assert bench.ledger.claims == []


def test_many_failed_tasks_are_taken_up_as_fast_each_as_a_few():
    def seconds_per_task(count):
        queue = WorkQueue([])
        began = time.process_time()
        for index in range(count):
            queue.put(Task(Item(str(index)), errors=1, avoid=frozenset({index % 2})))
        for _ in range(count):
            assert queue.take(0, 0.0, others=True) or queue.take(1, 0.0, others=True)
            assert queue.shared_size >= 0
        assert len(queue) == 0
        return (time.process_time() - began) / count

    few = min(seconds_per_task(1_000) for _ in range(3))
    assert seconds_per_task(30_000) < 6 * few  # thirty times as much each, if all were looked at for every one


def test_the_example_of_the_docs_runs(tmp_path):
    text = (REPOSITORY / "docs" / "pool.md").read_text()
    (tmp_path / "example.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1))
    for name, content in {"a": "1\n2\n", "b": "", "c": "1\n"}.items():
        (tmp_path / f"{name}.txt").write_text(content)
    done = subprocess.run([sys.executable, "example.py", "."], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == [
        "3 items, complete",
        "a.txt done 2",
        "b.txt bad_input b.txt is empty",
        "c.txt done 1",
    ]
