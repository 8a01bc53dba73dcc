"""What user code, and the libraries under it, may do to its own process: that item's fault alone, whatever it is."""

import errno
from pathlib import Path

import psutil
import pytest

from tests.videolift.pool.conftest import item, plain, wait_until
from tests.videolift.pool.test_faults import bench_driver, claimed_pids, kinds
from videolift.pool import read_events
from videolift.pool.workers.machine import LocalMachine


def values(report):
    return {key: outcome.value for key, outcome in report.outcomes.items()}


def plain_ones_are_done(report, count):
    """Every plain item is done, with its own result, and none was charged."""
    plain_ones = {key: outcome for key, outcome in report.outcomes.items() if key.startswith("plain")}
    assert {key: (outcome.kind, outcome.value, outcome.attempts) for key, outcome in plain_ones.items()} == {
        f"plain{number}": ("done", f"plain{number}", 1) for number in range(count)
    }


def test_a_copy_of_a_forked_worker_answers_for_nobody(bench):
    forks = [item(f"fork{number}", ["fork", 0.05 * number, 0.1], size=2.0) for number in range(5)]  # before and after their own
    report = bench.run([*forks, *plain(20, "sleep", 0.05)], workers=1)
    assert report.stopped is None, report.text
    plain_ones_are_done(report, 20)
    assert [key for key, value in values(report).items() if value != key] == []
    assert set(kinds(report).values()) == {"done"}


@pytest.mark.parametrize("key", ["forger", "plain5"])
def test_an_answer_that_does_not_fit_what_was_claimed_is_ignored_and_its_sender_ended(bench, key):
    report = bench.run([item("forger", ["answer_for", key, 0.3], size=2.0), *plain(6, "sleep", 0.3)], workers=1)
    assert report.stopped is None, report.text
    assert "forged" not in values(report).values()
    plain_ones_are_done(report, 6)
    assert [event["code"] for event in bench.events.of("failed")] == ["stray"]
    assert bench.spawned == 2


def test_an_item_that_answers_for_others_each_time_is_set_aside(bench):
    report = bench.run([item("forger", ["answer_now_for", "plain0"], size=2.0), *plain(3)], attempts=2)
    assert report.stopped is None, report.text
    assert (report.outcomes["forger"].kind, bench.attempts("forger")) == ("crash", 4)  # forgiven twice, charged twice
    assert "was not given" in report.outcomes["forger"].text
    plain_ones_are_done(report, 3)


def test_a_worker_that_has_leaked_its_descriptors_is_replaced_and_nobody_is_charged(bench):
    report = bench.run(plain(20, "leak", 15), workers=1)
    assert report.stopped is None, report.text
    plain_ones_are_done(report, 20)
    assert bench.spawned > 3


def test_an_item_that_needs_more_descriptors_than_there_are_is_in_error_alone(bench):
    report = bench.run([item("greedy", ["leak", 100]), *plain(4)])
    assert report.stopped is None, report.text
    assert (report.outcomes["greedy"].kind, report.outcomes["greedy"].code) == ("error", "OSError")
    plain_ones_are_done(report, 4)


def test_a_supervisor_without_descriptors_of_its_own_says_so_and_no_disk_is_blamed(bench, monkeypatch):
    def full(self, serial, device):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(LocalMachine, "start_worker", full)
    report = bench.run(plain(3))
    assert (report.stopped, report.outcomes) == ("backend", {})
    assert "no process can be started: [Errno 24] Too many open files" in report.text
    assert bench.ledger.claims == []


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (["progress", 400], "error"),
        (["progress", 5_000], "error"),
        (["return", "exits"], "error"),
        (["return", "dies"], "crash"),
        (["return", "exits_elsewhere"], "error"),
        (["close_descriptors"], "done"),  # it can no longer say so, but its result was recorded
        (["write_nonsense", 255, 255, 255, 255, 1], "crash"),
        (["write_nonsense", 3, 0, 0, 0, 1, 2, 3], "crash"),
        (["write_nonsense", 5, 0, 0, 0, 128, 5, 75, 1, 46], "crash"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else value,
)
def test_what_ends_or_confuses_a_process_is_its_items_fault_alone(bench, step, kind):
    report = bench.run([item("odd", step, size=2.0), *plain(5)], item_timeout_s=600.0)  # no test lasts so long
    assert report.stopped is None, report.text
    assert report.outcomes["odd"].kind == kind
    plain_ones_are_done(report, 5)


def shared_memory_left(bench):
    return [path.name for path in bench.folder.glob("shared-*") if (Path("/dev/shm") / path.read_text()).exists()]


def test_shared_memory_of_a_worker_ends_with_it(bench):
    report = bench.run(
        [item("a", ["share_memory_then", "kill"]), item("b", ["share_memory_then", "spin"])], item_timeout_s=2.0, attempts=1
    )
    assert kinds(report) == {"a": "crash", "b": "hang"}
    assert len(list(bench.folder.glob("shared-*"))) == 2
    wait_until(lambda: shared_memory_left(bench) == [])


def test_after_the_supervisor_is_killed_its_workers_children_and_its_temporary_folder_are_gone(bench, monkeypatch):
    temporary = bench.folder / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    driver = bench_driver(bench, [item("a", ["leave_children", 3])], log_folder=None)
    wait_until(lambda: len(list(bench.folder.glob("child-*"))) == 3 and len(claimed_pids(bench)) == 1)
    pids = [int(path.read_text()) for path in bench.folder.glob("child-*")]
    pids += [event["pid"] for event in read_events(bench.folder / "events.jsonl") if event["kind"] == "spawned"]
    assert len(list(temporary.glob("videolift-pool-*"))) == 1
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    wait_until(lambda: list(temporary.glob("videolift-pool-*")) == [])
    wait_until(lambda: bench.left_behind() == [])
