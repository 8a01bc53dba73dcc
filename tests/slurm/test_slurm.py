"""The same command on a real SLURM: the same bytes, cards only where they are asked for, and nothing lost whatever is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from harness import FIXTURES, ROOT, Project, make_project

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

PROFILE = ("--workflow-profile", str(ROOT / "profiles" / "slurm"), "--default-resources", "slurm_partition=lab")
FOR_TESTS = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5", "--slurm-keep-successful-logs")
STAGES = ("ingest", "depth", "tracks", "hands", "create_h5")
CORES = ("--set-threads", *(f"{stage}_batch=1" for stage in STAGES))
CARD = {"backend": str(FIXTURES / "quick_depth_on_card.py")}
PATIENCE_S = 550


def slurm_project(folder: Path, *, seconds: float = 0.0, **settings) -> Project:
    project = make_project(folder, seconds=seconds, **settings)
    project.where = (*PROFILE, *FOR_TESTS, *CORES)
    return project


def wait_for(what, timeout: float = PATIENCE_S) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def in_the_middle_of(project: Project, stage: str) -> bool:
    """Some videos of the stage are done, others are not; two workers may end at once."""
    return 0 < sum(done == stage for done, _ in project.finished()) < 3


def resumes_well(project: Project, undisturbed: Project, finished: set, begun: int) -> None:
    """The same command ends with the same bytes and begins nothing again that was finished."""
    project.seconds = 0.0
    assert project.run(timeout=PATIENCE_S) == 0, project.terminal()
    ended_well(project, undisturbed, finished, begun)


def ended_well(project: Project, undisturbed: Project, finished: set, begun: int) -> None:
    assert project.results() == undisturbed.results()
    assert [work for work in project.begun()[begun:] if work in finished] == []


def test_the_line_ends_with_the_same_bytes_and_only_depth_holds_a_card(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", depth=CARD)
    assert project.run(timeout=PATIENCE_S) == 0, project.terminal()
    assert project.results() == undisturbed.results()
    seen = re.findall(r"^depth GPU-(\d):(\S+) card$", project.log.read_text(), re.MULTILINE)
    assert seen, "no worker of depth loaded on a card"
    assert all(mask == f"GPU-{index}" for index, mask in seen), seen
    asked = {
        re.search(r"Comment=rule_(\w+?)(_batch)?_wildcards", line)[1]: line for line in cluster.shown() if str(tmp_path) in line
    }
    assert set(asked) == {*STAGES, "statistics"}, "nothing but the head runs where it was started"
    assert {stage for stage, line in asked.items() if "gpu" in line} == {"depth"}, asked["depth"]


def test_a_cancelled_job_is_tried_again_and_keeps_what_it_had_finished(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=2.0)
    # The executor asks after 1, 12 and 33 seconds: the jobs that nobody cancels end before the second time.
    head = project.start(environment={"VIDEOLIFT_TEST_ONLY": "depth"})
    wait_for(lambda: in_the_middle_of(project, "depth"))
    cluster.command("scancel", cluster.wait_for_job("depth"))
    finished, begun = project.finished(), len(project.begun())
    assert head.wait(PATIENCE_S) == 0, project.terminal()
    assert "CANCELLED" in project.terminal()
    ended_well(project, undisturbed, finished, begun)


@pytest.mark.slow
def test_one_interrupt_cancels_the_jobs_and_the_same_command_goes_on(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=4.0)
    assert interrupted(project, times=1) != 0
    cluster.wait_for_empty_queue()
    assert cluster.jobs() == {}
    resumes_well(project, undisturbed, project.finished(), len(project.begun()))


@pytest.mark.slow
def test_jobs_that_two_interrupts_left_running_are_kept_off_by_their_leases(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=4.0)
    interrupted(project, times=2)
    cluster.wait_for_empty_queue(PATIENCE_S)  # cancelled or not, what runs ends by itself
    resumes_well(project, undisturbed, project.finished(), len(project.begun()))


@pytest.mark.slow
def test_after_its_head_process_was_killed_the_same_command_queues_behind_the_jobs_left_and_goes_on(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=20.0)
    head = project.start()
    wait_for(lambda: in_the_middle_of(project, "ingest"))
    head.kill()
    head.wait()
    assert project.run() != 0
    assert "--unlock" in project.terminal()
    assert project.run("--unlock") == 0, project.terminal()
    (left,) = cluster.jobs("RUNNING")
    project.seconds = 0.0
    assert project.run(timeout=PATIENCE_S) == 0, project.terminal()
    assert f"batch ingest/0000 is being worked on by SLURM job {left}: the new job waits in the queue" in project.terminal()
    assert "failed, SLURM status" not in project.terminal()
    assert project.results() == undisturbed.results()
    assert len(project.begun()) == len(set(project.begun()))


@pytest.mark.slow
def test_unlocking_is_refused_while_the_head_process_lives(cluster, tmp_path):
    project = slurm_project(tmp_path / "project", seconds=4.0)
    head = project.start()
    wait_for(lambda: cluster.jobs("RUNNING"))
    assert project.run("--unlock") != 0
    assert f"pid {head.pid}" in project.terminal()
    head.send_signal(signal.SIGINT)
    head.wait(PATIENCE_S)


@pytest.mark.slow
def test_a_second_head_on_one_output_stops_before_it_submits_anything(cluster, tmp_path, undisturbed):
    """Two working directories, one output folder."""
    one = slurm_project(tmp_path / "one", seconds=1.0)
    shared = (*one.where, "--config", f"videos={one.folder / 'videos'}", f"output={one.output}")
    two = Project(tmp_path / "two", one.seconds, shared)
    two.folder.mkdir()
    (two.folder / "config.yaml").write_text((one.folder / "config.yaml").read_text())
    one.where = shared
    head = one.start()
    wait_for(lambda: one.begun())
    assert two.run(timeout=PATIENCE_S) != 0
    assert f"output {one.output} is being worked on by pid {head.pid}" in two.terminal()
    assert "Submitted" not in two.terminal()
    assert head.wait(PATIENCE_S) == 0, one.terminal()
    assert one.results() == undisturbed.results()


@pytest.mark.slow
def test_a_job_that_would_ask_for_more_than_its_partition_allows_asks_for_what_fits(cluster, tmp_path, undisturbed):
    """Nothing has been measured, so a job asks for four hours; the partition `short` allows one."""
    project = slurm_project(tmp_path / "project")
    project.where = tuple("slurm_partition=short" if word == "slurm_partition=lab" else word for word in project.where)
    assert project.run(timeout=PATIENCE_S) == 0, project.terminal()
    asked = {re.search(r"TimeLimit=(\S+)", line)[1] for line in cluster.shown() if str(tmp_path) in line and "_batch_" in line}
    assert asked == {"01:00:00"}
    assert project.results() == undisturbed.results()


@pytest.mark.slow
def test_a_job_that_can_never_start_is_spoken_of_with_what_to_type(cluster, tmp_path):
    project = slurm_project(tmp_path / "project")
    head = project.start("--set-resources", "ingest_batch:mem_mb=999000")
    wait_for(lambda: "does not start" in project.terminal() or head.poll() is not None)
    head.send_signal(signal.SIGINT)
    head.wait(PATIENCE_S)
    assert "ingest_batch" in project.terminal()


@pytest.mark.slow
def test_a_failed_prolog_is_spoken_of_within_a_minute_and_a_released_job_goes_on(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project")
    with cluster.failing_prolog():
        head = project.start()
        wait_for(lambda: "does not start" in project.terminal() or head.poll() is not None, timeout=90)
    said = re.search(r"job (\d+) \(ingest_batch\) does not start: .*scontrol release", project.terminal())
    assert said, project.terminal()
    cluster.command("scontrol", "release", said[1])
    assert head.wait(PATIENCE_S) == 0, project.terminal()
    assert project.results() == undisturbed.results()


@pytest.mark.slow
def test_a_limit_on_submissions_is_waited_out(cluster, tmp_path, undisturbed, monkeypatch):
    """A cluster that holds two jobs of a user at a time, played by a wrapper around the real sbatch: limits take a database."""
    real, folder = shutil.which("sbatch"), tmp_path / "bin"
    folder.mkdir()
    refuse = 'echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1'
    (folder / "sbatch").write_text(f'#!/bin/sh\n[ $(squeue --me -h | wc -l) -lt 2 ] || {{ {refuse}; }}\nexec {real} "$@"\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    project = slurm_project(tmp_path / "project", batch_size=1)
    assert project.run("--retries", "0", "ingest", timeout=PATIENCE_S) == 0, project.terminal()  # three jobs
    assert "SLURM takes no more jobs for now" in project.terminal()
    assert project.results() == {name: digest for name, digest in undisturbed.results().items() if name.startswith("frames/")}


@pytest.mark.slow
def test_a_time_limit_costs_at_most_the_video_in_flight(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=4.0, pool={"grace_s": 2.0})
    head = project.start()
    wait_for(lambda: in_the_middle_of(project, "depth"))
    job = cluster.wait_for_job("depth")
    cluster.command("scancel", "--signal=TERM", job)  # what --signal=TERM@120 sends two minutes before the limit
    finished, begun = project.finished(), len(project.begun())
    assert head.wait(PATIENCE_S) == 0, project.terminal()
    assert f"SLURM-job '{job}' failed" in project.terminal()
    ended_well(project, undisturbed, finished, begun)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["job", "node"])
def test_one_allocation_for_all_is_requeued_and_goes_on(cluster, tmp_path, undisturbed, whom):
    project = slurm_project(tmp_path / "project", seconds=4.0)
    quick = ["--partition=lab", "--cpus-per-task=2", "--gpus=0", "--mem=4000", "--time=60", "--begin=now"]
    environment = {"VIDEOLIFT_CHECKOUT": str(ROOT), "VIDEOLIFT_PYTHON": sys.executable, "VIDEOLIFT_TEST_LOG": str(project.log)}
    environment |= {"VIDEOLIFT_TEST_SECONDS": str(project.seconds)}
    submitted = subprocess.run(
        ["sbatch", "--parsable", *quick, "--output", str(tmp_path / "sbatch.log"), str(ROOT / "videolift.sbatch")],
        cwd=project.folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    wait_for(lambda: in_the_middle_of(project, "depth"))
    finished, begun = project.finished(), len(project.begun())
    if whom == "job":
        cluster.command("scancel", "--batch", "--signal=USR1", job)  # what comes three minutes before the time limit
    else:
        for process in processes_of(project):  # as when the node fails: nobody says goodbye, and the lock stays
            process.kill()
        cluster.command("scontrol", "requeue", job)
    start_again_soon(cluster, job)
    wait_for(lambda: "3 in = 3 done" in (tmp_path / "sbatch.log").read_text() and not cluster.jobs())
    ended_well(project, undisturbed, finished, begun)


def interrupted(project, *, times: int) -> int:
    """Ctrl-C while depth is at work; the head's exit code."""
    head = project.start()
    wait_for(lambda: in_the_middle_of(project, "depth"))
    for _ in range(times):
        os.killpg(head.pid, signal.SIGINT)
    return head.wait(PATIENCE_S)


def start_again_soon(cluster, job: str) -> None:
    """SLURM lets a requeued job wait for two minutes: a node refuses a job that it has ended in the same second (measured)."""
    wait_for(lambda: job in cluster.jobs("PENDING") and job not in cluster.jobs("COMPLETING"))
    time.sleep(3)
    cluster.command("scontrol", "update", f"JobId={job}", "StartTime=now")


def processes_of(project: Project) -> list[psutil.Process]:
    """All that runs for a project."""
    mark, found = f"VIDEOLIFT_TEST_LOG={project.log}".encode(), []
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found
