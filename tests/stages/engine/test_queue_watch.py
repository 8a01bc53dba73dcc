"""Why a queued job does not start: said once, with what to type; and a full queue is waited for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import stages.engine.queue_watch as module
from stages.engine.queue_watch import QueueWatch, squeue_command, waiting_jobs

FOLDER = Path("/scratch/project")
SHIM = Path(module.__file__).with_name("slurm_bin") / "sbatch"


def line(reason, job="7", folder=FOLDER, comment="rule_depth_batch_wildcards_0000_f00_0"):
    return f"{job}|short|33:00:00|8|16G|{comment}|{reason}|{folder}\n"


def test_a_time_limit_is_said_once_with_what_to_type():
    watch = QueueWatch(FOLDER, lambda: line("PartitionTimeLimit"))
    (said,) = watch.look()
    assert said.startswith("job 7 (depth_batch) does not start: it asks for 33:00:00, more than partition short allows")
    assert "--set-resources depth_batch:runtime=MINUTES" in said
    assert watch.look() == []


@pytest.mark.parametrize("reason", ["Priority", "Resources", "Dependency", "None"])
def test_a_job_that_waits_for_its_turn_is_not_spoken_of(reason):
    assert QueueWatch(FOLDER, lambda: line(reason)).look() == []


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("launch failed requeued held", "scontrol release 7"),
        ("JobHeldUser", "scontrol release 7"),
        ("QOSMaxSubmitJobPerUserLimit", "until others of your jobs end"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "sinfo -R"),
        ("BadConstraints", "8 cores, 16G"),
        ("SomethingNew", "SLURM says SomethingNew: scontrol show job 7"),
    ],
)
def test_every_other_reason_has_a_remedy(reason, text):
    (said,) = QueueWatch(FOLDER, lambda: line(reason)).look()
    assert text in said


def test_jobs_of_others_are_left_alone():
    text = line("PartitionTimeLimit", folder=Path("/scratch/other")) + line("PartitionTimeLimit", comment="my own job")
    assert waiting_jobs(text, FOLDER) == []


def test_every_field_asked_for_is_read():
    assert squeue_command()[-1].count("|") == line("x").count("|")


@pytest.fixture
def submit(tmp_path):
    """Runs our sbatch before one that refuses so many times with a text; returns (exit code, stdout, calls)."""

    def run(refusals: int, text: str):
        real = tmp_path / "bin" / "sbatch"
        real.parent.mkdir(exist_ok=True)
        calls = tmp_path / "calls"
        calls.write_text("")
        refuse = f'[ $(wc -l < {calls}) -gt {refusals} ] || {{ echo "{text}" >&2; exit 1; }}'
        real.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{refuse}\ncat; echo 42\n')
        real.chmod(0o755)
        environment = {**os.environ, "PATH": f"{SHIM.parent}:{real.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sbatch", "--wrap", "true"], env=environment, input="script\n", capture_output=True, text=True)
        return done.returncode, done.stdout, calls.read_text().splitlines()

    return run


def test_a_submission_that_a_limit_refuses_is_waited_out(submit):
    code, out, calls = submit(1, "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    assert (code, out, calls) == (0, "script\n42\n", ["--wrap true"] * 2)


def test_any_other_refusal_is_an_error_at_once(submit):
    code, _, calls = submit(1, "sbatch: error: invalid partition specified: nowhere")
    assert (code, len(calls)) == (1, 1)
