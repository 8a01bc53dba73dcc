"""Claims and the processes they name: alive, dead, a later process of the same pid, another machine."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from videolift.processes import ProcessName, is_alive, this_boot, this_process
from videolift.records.claims import Claim, read_claim, write_claim


@pytest.fixture
def sleeper():
    """A running process and its start time."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process, psutil.Process(process.pid).create_time()
    process.kill()
    process.wait()


def test_a_process_lives_until_it_is_killed(sleeper):
    process, started = sleeper
    assert is_alive(process.pid, started)
    os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while is_alive(process.pid, started) and time.monotonic() < until:  # a zombie until it is waited for: dead all the same
        time.sleep(0.01)
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert not is_alive(process.pid, started)
    process.wait()
    assert not is_alive(process.pid, started)


def test_a_later_process_of_the_same_pid_is_another_one(sleeper):
    process, started = sleeper
    assert not is_alive(process.pid, started - 3600)


def test_this_process_is_alive_and_named_for_this_boot():
    name = this_process()
    assert name.pid == os.getpid()
    assert name.is_alive()
    assert not name.died_with_its_machine


def test_of_another_machine_or_container_nothing_can_be_said():
    name = this_process()
    boot, container = this_boot().split("+")
    assert replace(name, host="elsewhere", boot_id="0-0-0+1").is_alive() is None
    assert replace(name, boot_id=f"{boot}+{int(container) + 1}").is_alive() is None


def test_a_claim_survives_the_disk(tmp_path, sleeper):
    process, started = sleeper
    path = tmp_path / "claims" / "depth" / "a.json"
    written = write_claim(path, pid=process.pid, start_time=started, fingerprint="f1", attempt=2, kinds=["crash"])
    assert read_claim(path) == written == Claim(written.owner, "f1", 2, ("crash",))
    assert written.is_alive()


def test_no_claim_and_a_torn_claim_are_none(tmp_path):
    (tmp_path / "torn.json").write_text('{"host": "x", "pi')
    assert read_claim(tmp_path / "none.json") is None
    assert read_claim(tmp_path / "torn.json") is None


def test_a_killed_worker_is_charged_once(tmp_path, sleeper):
    process, started = sleeper
    claim = write_claim(tmp_path / "a.json", pid=process.pid, start_time=started, fingerprint="f", attempt=2, kinds=["hang"])
    assert claim.charged_attempts() == 1
    process.kill()
    process.wait()
    assert read_claim(tmp_path / "a.json").charged_attempts() == 2


def test_a_reboot_charges_nobody():
    old = ProcessName(this_process().host, "an-earlier-boot+1", os.getpid(), 0.0)
    assert old.died_with_its_machine
    assert Claim(old, "f", attempt=1).charged_attempts() == 0


def test_a_machine_that_took_its_video_with_it_is_charged_on_the_next_one():
    lost = ProcessName("another-host", "another-boot+1", 77, 0.0)
    assert Claim(lost, "f", attempt=3).charged_attempts() == 3


def test_a_restarted_container_is_no_reboot():
    name = replace(this_process(), boot_id=this_boot().split("+")[0] + "+1")
    assert Claim(name, "f", attempt=1).charged_attempts() == 1
