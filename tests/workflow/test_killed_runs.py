"""A whole run that is killed again and again loses no video and blames none; a video that kills each run ends after few tries."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from harness import FIXTURES, Project, forget_snakemake, make_project, wait_for_quiet

DEADLY = FIXTURES / "quick_depth_that_kills_its_run.py"


def run_and_kill(project: Project, after_s: float) -> bool:
    """Starts the run, kills its whole process group after so long; True if it had ended well by then."""
    head = project.start()
    until = time.monotonic() + after_s
    while time.monotonic() < until and head.poll() is None:
        time.sleep(0.02)
    if head.poll() is not None:
        return head.returncode == 0
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    wait_for_quiet(head.pid)
    forget_snakemake(project)
    return False


def kills_and_then_ends(folder: Path, kills: int, seed: int, videos: int) -> Project:
    project = make_project(folder, videos=videos, seconds=0.6)
    rng = random.Random(seed)
    for _ in range(kills):
        if run_and_kill(project, rng.uniform(2, 12)):
            break
    project.seconds = 0
    assert project.run(timeout=600) == 0, project.terminal()
    return project


def holds(project: Project, undisturbed: Project, videos: int) -> None:
    assert f"{videos} in = {videos} done + 0 quarantined" in project.terminal().rsplit("Building DAG", 1)[-1]
    assert project.results() == undisturbed.results()


@pytest.mark.resume
@pytest.mark.timeout(3600)
def test_twenty_five_kills_of_the_whole_run_cost_six_videos_nothing(tmp_path):
    undisturbed = make_project(tmp_path / "undisturbed", videos=6, seconds=0)
    assert undisturbed.run() == 0
    holds(kills_and_then_ends(tmp_path / "killed", 25, 25, 6), undisturbed, 6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_video_that_takes_its_whole_run_with_it_ends_quarantined_and_the_others_are_done(tmp_path):
    project = make_project(tmp_path / "project", videos=4, seconds=0, depth={"backend": str(DEADLY)})
    for _ in range(9):  # seven that die, one that says so, one to spare
        head = project.start()
        head.wait(240)
        wait_for_quiet(head.pid)
        forget_snakemake(project)
        if "1 quarantined" in project.terminal():
            break
    assert "4 in = 3 done + 1 quarantined" in project.terminal()
    assert "clip2" in (project.output / "quarantine.csv").read_text()
