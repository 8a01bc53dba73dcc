"""One undisturbed run of the quick project, which interrupted ones are compared with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Project, make_project, make_real_project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("undisturbed"))
    assert project.run() == 0, project.terminal()
    return project


@pytest.fixture(scope="session")
def undisturbed_real(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_real_project(tmp_path_factory.mktemp("undisturbed_real"))
    assert project.run(timeout=900) == 0, project.terminal()
    return project
