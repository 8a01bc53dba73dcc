"""Leases: one owner at a time, whoever is killed, stopped or on another machine."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from videolift.errors import ExitCode, LeaseHeld
from videolift.records import leases
from videolift.records.leases import Lease

HOLD = """
import sys, time
from pathlib import Path
from videolift.records.leases import Lease
with Lease.acquire(Path(sys.argv[1]), wait_s=0):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leases" / "depth" / "0003"


@pytest.fixture
def holder(path):
    """A process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def foreign(path, **changes) -> None:
    """Turns the lease on disk into one of another machine."""
    row = {"host": "node7", "boot_id": "b+1", "pid": 4711, "create_time": 1.0, "slurm_job_id": "99", "nonce": "n1"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row | changes))


def age(path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def files(path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_lease_is_a_file_while_it_is_held(path):
    with Lease.acquire(path, wait_s=0) as lease:
        row = json.loads(path.read_text())
        assert set(row) == {"host", "boot_id", "pid", "create_time", "slurm_job_id", "nonce"}
        assert row["pid"] == os.getpid()
        assert lease.still_ours()
    assert files(path) == []


def test_the_second_run_is_told_who_works_on_the_batch(path, holder):
    with pytest.raises(LeaseHeld, match=rf"batch depth/0003 is being worked on by pid {holder.pid} on ") as error:
        Lease.acquire(path, wait_s=0)
    assert error.value.exit_code is ExitCode.LEASED
    assert files(path) == ["0003"]


def test_the_slurm_job_is_named(path):
    foreign(path)
    with pytest.raises(LeaseHeld, match="pid 4711 on node7, SLURM job 99"):
        Lease.acquire(path, wait_s=0)


def test_the_slurm_job_of_a_lease_can_be_asked_for(path):
    assert leases.slurm_job(path) is None
    foreign(path)
    assert leases.slurm_job(path) == "99"


def test_who_waits_says_for_whom_now_and_then(path, caplog, monkeypatch):
    monkeypatch.setattr(leases, "_POLL_S", 0.02)
    foreign(path, create_time=time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)))
    line = "batch depth/0003 is being worked on by pid 4711 on node7, SLURM job 99, since 2026-01-02 03:04: waiting for it"
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=1.0)
    assert caplog.messages == [line]
    monkeypatch.setattr(leases, "SAY_EVERY_S", 0.1)
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=1.0)
    assert len(caplog.messages) > 2
    assert set(caplog.messages) == {line}


def test_a_waiting_run_takes_over_when_the_first_ends(path, holder):
    started = time.monotonic()
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=0.6)
    assert time.monotonic() - started > 0.5
    os.kill(holder.pid, signal.SIGINT)
    Lease.acquire(path, wait_s=120).release()


def test_a_killed_owner_on_this_machine_frees_the_lease_at_once(path, holder):
    holder.kill()
    holder.wait()
    with Lease.acquire(path, wait_s=0) as lease:
        assert lease.still_ours()
        assert files(path) == ["0003"]


def test_a_stopped_owner_on_this_machine_keeps_the_lease(path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    age(path, 3600)
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=0)


def test_an_owner_elsewhere_is_free_after_two_minutes_without_a_touch(path):
    foreign(path)
    age(path, 100)
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=0)
    age(path, 130)
    Lease.acquire(path, wait_s=0).release()
    assert files(path) == []


def test_age_is_judged_by_the_file_systems_clock_and_not_by_ours(path, monkeypatch):
    foreign(path)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(LeaseHeld):
        Lease.acquire(path, wait_s=0)


def test_a_lease_torn_by_a_kill_is_free_after_two_minutes(path):
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(LeaseHeld, match="a run that did not say who it is"):
        Lease.acquire(path, wait_s=0)
    age(path, 130)
    Lease.acquire(path, wait_s=0).release()


def test_who_removes_a_dead_lease_takes_it_however_long_that_took(path, monkeypatch):
    monkeypatch.setattr(leases, "_CONTEST_S", 0.0)
    foreign(path)
    age(path, 130)
    Lease.acquire(path, wait_s=0).release()


def test_an_owner_that_was_replaced_knows_and_leaves_the_new_one_alone(path):
    lease = Lease.acquire(path, wait_s=0)
    foreign(path)
    assert not lease.still_ours()
    lease.release()
    assert json.loads(path.read_text())["host"] == "node7"


def test_an_owner_whose_lease_vanished_no_longer_holds_it(path):
    lease = Lease.acquire(path, wait_s=0)
    path.unlink()
    assert not lease.still_ours()
    lease.release()


def test_the_owner_touches_its_lease_and_stops_when_it_is_replaced(path, monkeypatch):
    monkeypatch.setattr(leases, "TOUCH_S", 0.02)
    lease = Lease.acquire(path, wait_s=0)
    age(path, 500)
    until = time.monotonic() + 60
    while time.time() - path.stat().st_mtime > 400 and time.monotonic() < until:
        time.sleep(0.01)
    assert time.time() - path.stat().st_mtime < 100
    foreign(path)
    lease._heart.join(60)
    assert not lease._heart.is_alive()


def test_a_takeover_that_was_killed_half_way_blocks_nobody(path, holder):
    holder.kill()
    holder.wait()
    nonce = json.loads(path.read_text())["nonce"]
    heir = path.with_name(f".0003.{nonce}.heir")
    foreign(heir, **{k: v for k, v in json.loads(path.read_text()).items() if k != "nonce"})  # of a dead process too
    with Lease.acquire(path, wait_s=0):
        assert files(path) == ["0003"]


def test_a_slow_rival_that_saw_the_lease_dead_does_not_remove_the_new_one(path, monkeypatch):
    foreign(path)
    age(path, 130)
    judge, fast = leases._is_free, []

    def judge_and_be_overtaken(asked, holder):
        free = judge(asked, holder)
        if free and not fast:
            fast.append(None)
            fast[0] = Lease.acquire(path, wait_s=0)
        return free

    monkeypatch.setattr(leases, "_is_free", judge_and_be_overtaken)
    with pytest.raises(LeaseHeld, match=f"pid {os.getpid()}"):
        Lease.acquire(path, wait_s=0)
    assert fast[0].still_ours()
    fast[0].release()


RACE = """
import os, sys, time
from pathlib import Path
from videolift.errors import LeaseHeld
from videolift.records.leases import Lease
path, start = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
for k in range(int(sys.argv[3])):
    while not (start / str(k)).exists():
        time.sleep(0.0002)
    try:
        lease = Lease.acquire(path / str(k), wait_s=0)
        won = True
    except LeaseHeld:
        won = False
    (start / f"{k}-{os.getpid()}-{won}").touch()
    while not (start / f"{k}-over").exists():
        time.sleep(0.001)
    if won:
        assert lease.still_ours()
        lease.release()
"""


@pytest.mark.parametrize("dead", [False, True], ids=["free", "left by a dead run"])
def test_of_racing_runs_exactly_one_wins_every_time(tmp_path, dead):
    races, start = 50, tmp_path / "start"
    start.mkdir()
    command = [sys.executable, "-c", RACE, str(tmp_path / "leases"), str(start), str(races)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for run in runs:
            run.stdout.readline()
        for k in range(races):
            if dead:
                gone = {"host": "h", "boot_id": leases.this_process().boot_id, "pid": 2**22, "nonce": f"n{k}"}
                foreign(tmp_path / "leases" / str(k), **gone)
            (start / str(k)).touch()
            until = time.monotonic() + 60
            while len(done := list(start.glob(f"{k}-*-*"))) < len(runs):
                assert time.monotonic() < until
                time.sleep(0.001)
            (start / f"{k}-over").touch()
            assert sum(path.name.endswith("True") for path in done) == 1, f"race {k}"
        assert [run.wait(60) for run in runs] == [0, 0, 0]
        assert list((tmp_path / "leases").iterdir()) == []
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_where_waiting_costs_a_card_only_an_owner_that_cannot_be_asked_is_waited_for(path, holder):
    assert leases.patience_s(path) == 0
    assert leases.patience_s(path.with_name("0004")) == 0
    row = json.loads(path.read_text()) | {"host": "elsewhere", "boot_id": "another+1"}
    path.write_text(json.dumps(row))
    assert leases.patience_s(path) > leases.FREE_AFTER_S
