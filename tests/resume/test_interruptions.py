"""Pull the plug at any moment: the same command ends with the same bytes and does nothing twice that was finished."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from harness import Project, forget_snakemake, interrupt, make_project, wait_for_quiet

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WHOM = ("snakemake", "job", "group")
CELLS = [pytest.param(what, whom, id=f"{what.name}-{whom}") for what in SIGNALS for whom in WHOM]


@pytest.mark.parametrize(("what", "whom"), CELLS)
def test_the_same_command_goes_on_after_an_interruption(what, whom, tmp_path, undisturbed):
    stage = check_interruption(tmp_path, undisturbed, what, whom, moment=CELLS.index(pytest.param(what, whom, id=f"{what.name}-{whom}")))
    assert stage is not None


@pytest.mark.resume
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("what", "whom"), CELLS)
def test_twenty_seeded_moments(what, whom, tmp_path, undisturbed, record_property):
    stages = [check_interruption(tmp_path / str(moment), undisturbed, what, whom, moment) for moment in range(20)]
    record_property("stages", stages)
    assert {"ingest", "depth", "tracks", "hands", "create_h5"} <= set(stages)


def check_interruption(folder: Path, undisturbed: Project, what: signal.Signals, whom: str, moment: int) -> str:
    """Interrupts a run at a seeded moment, resumes, compares; returns the stage that was hit."""
    rng = random.Random(f"{what}{whom}{moment}")
    project = make_project(folder)
    wanted = (moment % 5) * 3 + rng.randrange(3)
    head = project.start()
    while head.poll() is None and len(project.begun()) <= wanted:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.25))
    while head.poll() is None and not interrupt(head, what, whom):
        time.sleep(0.02)
    head.wait(120)
    wait_for_quiet(head.pid)
    finished, begun = project.finished(), len(project.begun())
    if moment % 2:
        forget_snakemake(project)
    assert project.resume() == 0, project.terminal()
    assert project.results() == undisturbed.results()
    again = [work for work in project.begun()[begun:] if work in finished]
    assert not again, f"done twice: {again}"
    return project.begun()[begun - 1][0]
