"""Pull the plug at any moment: the same command ends with the same bytes and does nothing twice that was finished."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest
from harness import STAGES, Project, forget_snakemake, interrupt, make_project, make_real_project, wait_for_quiet

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WHOM = ("snakemake", "job", "group")
CELLS = [pytest.param(what, whom, id=f"{what.name}-{whom}") for what in SIGNALS for whom in WHOM]
DIAGONAL = CELLS[:: len(WHOM) + 1]
MOMENTS = 20


@pytest.mark.parametrize(("what", "whom"), DIAGONAL)  # each signal and each target once; all pairs at many moments below
def test_the_same_command_goes_on_after_an_interruption(what, whom, tmp_path, undisturbed):
    check_interruption(make_project(tmp_path / "project"), undisturbed, what, whom, the_one_moment(what, whom))


@pytest.mark.resume
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("what", "whom"), CELLS)
def test_twenty_seeded_moments(what, whom, tmp_path, undisturbed):
    stages = [check_interruption(make_project(tmp_path / str(i)), undisturbed, what, whom, i) for i in range(MOMENTS)]
    print(f"{what.name} to {whom}: {dict(Counter(stages))}")
    assert set(stages) >= set(STAGES)


@pytest.mark.resume
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("what", "whom"), CELLS)
def test_the_cpu_preset_goes_on_after_an_interruption(what, whom, tmp_path, undisturbed_real):
    check_interruption(make_real_project(tmp_path / "project"), undisturbed_real, what, whom, the_one_moment(what, whom))


def the_one_moment(what: signal.Signals, whom: str) -> int:
    """Of a pair of which only one moment is tried; together they are spread over a run."""
    return 2 * (SIGNALS.index(what) * len(WHOM) + WHOM.index(whom)) + 1


def check_interruption(project: Project, undisturbed: Project, what: signal.Signals, whom: str, moment: int) -> str:
    """Interrupts a run at a seeded moment, resumes, compares; returns the stage that was hit."""
    rng = random.Random(f"{what}{whom}{moment}")
    total = len(undisturbed.finished())
    wanted = min(total - 1, moment * total // MOMENTS)
    head = project.start()
    while head.poll() is None and len(project.finished()) < wanted:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.5))
    hit = ""
    while head.poll() is None and not hit:
        hit = interrupt(head, what, whom)
        time.sleep(0.02)
    head.wait(300)
    wait_for_quiet(head.pid)
    finished = project.finished()
    if moment % 4 > 1:
        forget_snakemake(project)
    assert project.resume() == 0, project.terminal()
    assert project.results() == undisturbed.results()
    again = [work for work, written in finished.items() if project.finished()[work] != written]
    assert not again, f"done twice: {again}"
    return hit
