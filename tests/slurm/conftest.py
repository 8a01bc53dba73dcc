"""A real SLURM for the session, and the quick project run on it and without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "resume"))

from harness import Project, make_project

from tests.slurm import cluster as slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm.Cluster]:
    if (reason := slurm.why_not()) is not None:
        pytest.skip(reason)
    try:
        slurm.install()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"SLURM's packages could not be installed: {error}")
    with slurm.Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same videos and settings, run without SLURM and without cards."""
    project = make_project(tmp_path_factory.mktemp("undisturbed"), seconds=0)
    assert project.run() == 0, project.terminal()
    return project
