"""The same command on a real SLURM: the same bytes, cards only where they are asked for, and nothing lost whatever is killed."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from harness import FIXTURES, ROOT, Project, make_project

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

PROFILE = ("--workflow-profile", str(ROOT / "profiles" / "slurm"), "--default-resources", "slurm_partition=lab")
FOR_TESTS = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5", "--slurm-keep-successful-logs")
CORES = ("--set-threads", *(f"{stage}_batch=1" for stage in ("ingest", "depth", "tracks", "hands", "create_h5")))
CARD = {"backend": str(FIXTURES / "quick_depth_on_card.py")}


def slurm_project(folder: Path, *, seconds: float = 0.0, **settings) -> Project:
    project = make_project(folder, seconds=seconds, **settings)
    project.where = (*PROFILE, *FOR_TESTS, *CORES)
    return project


def wait_for(what, timeout: float = 120) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def done_twice(project: Project, finished: set, begun: int) -> list:
    return [work for work in project.begun()[begun:] if work in finished]


def test_the_line_ends_with_the_same_bytes_and_only_depth_holds_a_card(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", depth=CARD)
    assert project.run(timeout=500) == 0, project.terminal()
    assert project.results() == undisturbed.results()
    seen = re.findall(r"^depth GPU-(\d):(\S+) card$", project.log.read_text(), re.MULTILINE)
    assert seen, "no worker of depth loaded on a card"
    assert all(uuid == f"GPU-{index}" for index, uuid in seen), seen
    asked = cluster.command("squeue", "-h", "-t", "all", "-o", "%k %b %m %l %C").splitlines()
    cards = {line.split()[0]: line.split()[1:] for line in asked}
    print(cards)
    assert all(("gpu" in row[0]) == ("depth" in rule) for rule, row in cards.items()), cards


def test_a_cancelled_job_is_tried_again_and_keeps_what_it_had_finished(cluster, tmp_path, undisturbed):
    project = slurm_project(tmp_path / "project", seconds=3.0)
    head = project.start()
    wait_for(lambda: sum(stage == "depth" for stage, _ in project.finished()) == 1)
    cluster.command("scancel", cluster.wait_for_job("depth"))
    finished, begun = project.finished(), len(project.begun())
    project.seconds = 0.0
    assert head.wait(400) == 0, project.terminal()
    assert "CANCELLED" in project.terminal()
    assert project.results() == undisturbed.results()
    assert done_twice(project, finished, begun) == []
