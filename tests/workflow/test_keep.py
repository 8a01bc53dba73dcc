"""``keep``: artifacts that nothing reads any more are deleted, nothing becomes stale by it, who needs one makes it again."""

from __future__ import annotations

import shutil

import pytest
import yaml
from harness import Project, make_project

from stages.engine.plan import make_plan
from stages.engine.plan_report import PlanReport
from stages.settings import load_config

FOLDERS = ("frames", "depth", "tracks_3d", "hand_poses")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three videos packaged, of whose intermediates only depth was to stay."""
    project = make_project(tmp_path_factory.mktemp("keep") / "project", seconds=0, keep=["depth"])
    assert project.run() == 0, project.terminal()
    return project


def artifacts(project: Project) -> dict[str, int]:
    return {folder: sum(path.suffix in (".h5", ".hdf5") for path in (project.output / folder).iterdir()) for folder in FOLDERS}


def forecast(project: Project) -> str:
    return "\n".join(PlanReport.of(make_plan(load_config(project.folder / "config.yaml"), project.folder)).lines())


def test_only_what_is_to_stay_stays_and_nothing_is_to_do(project):
    assert artifacts(project) == {"frames": 0, "depth": 3, "tracks_3d": 0, "hand_poses": 0}
    receipt = project.receipt("ingest", "clip0")
    assert receipt.state == "released"
    assert receipt.artifact.bytes > 0
    begun = len(project.begun())
    assert project.run() == 0, project.terminal()
    assert project.begun()[begun:] == []
    assert "create_h5  nothing to do" in forecast(project)


def test_who_needs_a_released_artifact_makes_it_again_and_lets_it_go_again(project):
    path = project.folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"tracks": config["tracks"] | {"options": {"unused": 1}}}))
    before, begun = project.results(), len(project.begun())
    assert "ingest     3 to redo (released, and needed again)" in forecast(project)
    assert project.run() == 0, project.terminal()
    ran = {stage for stage, _ in project.begun()[begun:]}
    assert {"ingest", "tracks"} <= ran <= {"ingest", "tracks", "hands"}  # hands if asked before tracks turned out the same
    assert project.results() == before
    assert artifacts(project)["frames"] == 0


def test_a_run_stops_before_its_disk_budget_and_goes_on_when_it_is_raised(tmp_path):
    project = make_project(tmp_path / "project", seconds=0, disk_budget_gb=8e-5, pool={"max_workers": 1})
    assert project.run() != 0
    assert "disk_budget_gb" in project.terminal()
    held = sum(path.stat().st_size for folder in FOLDERS for path in (project.output / folder).glob("*.h5"))
    assert 0 < held <= 8e-5 * 1e9
    path = project.folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"disk_budget_gb": 1.0}))
    assert project.run() == 0, project.terminal()


def test_a_lost_journal_of_packaging_computes_nothing_that_was_let_go_of(tmp_path):
    """With everything let go of, the packaged files alone can say so."""
    project = make_project(tmp_path / "project", seconds=0, keep=[])
    assert project.run() == 0, project.terminal()
    begun = len(project.begun())
    shutil.rmtree(project.layout.journals("create_h5"))
    assert project.run() == 0, project.terminal()
    assert project.begun()[begun:] == []
