"""Change something, run the same command: exactly what depends on it runs, and ``snakemake -n`` says so beforehand."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import yaml
from harness import STAGES, Project, forget_snakemake, make_project
from typer.testing import CliRunner

from stages.engine.plan import make_plan
from stages.engine.plan_report import PlanReport
from stages.settings import load_config
from videolift.cli import app
from videolift.paths import Layout
from videolift.records.maintenance import lift_quarantines

VIDEOS = {"clip0", "clip1", "clip2", "clip3"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of four videos, to be copied."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project", seconds=0, videos=len(VIDEOS))
    assert project.run() == 0, project.terminal()
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A finished run of four videos to change something in; paths inside are relative, so a copy is as good."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True, copy_function=shutil.copy2)
    return Project(tmp_path / "project", seconds=0)


def configure(project: Project, **changes: object) -> None:
    path = project.folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def what_runs(project: Project, *, code: int = 0) -> dict[str, set[str]]:
    """Runs the same command; stage to the videos that were worked on."""
    before = len(project.begun())
    assert project.run() == code, project.terminal()
    ran: dict[str, set[str]] = {}
    for stage, video in project.begun()[before:]:
        ran.setdefault(stage, set()).add(video)
    return ran


def forecast(project: Project) -> str:
    """What ``snakemake -n`` adds of its own accord; the same function, without Snakemake around it."""
    return "\n".join(forecast_of(project).lines())


def forecast_of(project: Project) -> PlanReport:
    return PlanReport.of(make_plan(load_config(project.folder / "config.yaml"), project.folder))


def nothing_is_left(project: Project) -> bool:
    """True if Snakemake would find every manifest in place."""
    plan = forecast_of(project).plan
    return not any(plan.open_targets(stage) for stage in plan.targets)


def test_nothing_changed_nothing_runs_even_without_snakemakes_own_records(project):
    forget_snakemake(project)
    path = project.folder / "config.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert project.run("-n", "-q") == 0
    assert "create_h5  nothing to do" in project.terminal()
    assert what_runs(project) == {}


def test_a_changed_setting_redoes_its_stage_and_equal_bytes_stop_the_wave(project):
    backend = {"backend": yaml.safe_load((project.folder / "config.yaml").read_text())["tracks"]["backend"]}
    configure(project, tracks=backend | {"options": {"unused": 1}})
    assert "options.unused None -> 1" in forecast(project)
    assert what_runs(project) == {"tracks": VIDEOS}


def test_a_new_or_replaced_video_is_done_alone_and_a_touched_one_not_again(project):
    videos = project.folder / "videos"
    os.utime(videos / "clip2.mp4")
    assert " to redo" not in forecast(project)
    (videos / "clip1.mp4").write_bytes(b"other" * 1000)
    assert "ingest     1 to redo (path changed)" in forecast(project)
    (videos / "new.mp4").write_bytes(b"new" * 1000)
    assert "ingest     1 to do, 1 to redo" in forecast(project)
    assert what_runs(project) == {stage: {"clip1", "new"} for stage in STAGES}
    assert nothing_is_left(project)


def test_a_vanished_video_stays_and_more_than_a_tenth_stops_the_run(project):
    (project.folder / "videos" / "clip2.mp4").unlink()
    assert project.run() != 0
    assert "no longer listed" in project.terminal()
    configure(project, max_vanished=1)
    assert what_runs(project) == {}
    assert (project.output / "h5_dataset" / "clip2.hdf5").exists()


def test_what_was_deleted_damaged_or_removed_is_made_again_and_nothing_else(project):
    before = project.results()
    lost = {"ingest": project.output / "frames" / "clip0.h5", "create_h5": project.output / "h5_dataset" / "clip1.hdf5"}
    for name, path in lost.items():
        path.unlink()
        assert f"{name:<10} 1 to redo (its artifact is missing or changed)" in forecast(project)
    flip(project.output / "depth" / "clip2.h5")
    assert videolift(project, "remove", "clip3", "--yes") == 0
    ran = what_runs(project)
    assert {stage: videos - {"clip3"} for stage, videos in ran.items()} == {
        **{stage: set() for stage in STAGES},
        "ingest": {"clip0"},
        "depth": {"clip2"},
        "create_h5": {"clip1"},
    }
    assert all("clip3" in videos for videos in ran.values())  # from its source
    assert project.results() == before
    assert nothing_is_left(project)


def test_a_flipped_byte_that_kept_its_time_never_reaches_the_dataset(project):
    path = project.output / "depth" / "clip0.h5"
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    configure(project, create_h5={"backend": config_of(project)["create_h5"]["backend"], "size": 128})
    assert project.run() != 0
    assert "is damaged" in project.terminal()
    assert what_runs(project).get("depth") == {"clip0"}


def test_other_shares_of_splits_redo_the_statistics_alone(project):
    configure(project, statistics={"splits": {"train": 0.0, "val": 0.0, "test": 1.0}})
    assert what_runs(project) == {}
    index = json.loads((project.output / "h5_dataset" / "dataset.json").read_text())
    assert index["splits"] == {"test": len(VIDEOS)}


def test_a_retried_video_is_tried_again(project):
    (project.folder / "videos" / "clip1.mp4").write_bytes(b"bad" * 1000)
    assert what_runs(project, code=1) == {"ingest": {"clip1"}}
    assert nothing_is_left(project)
    assert lift_quarantines(Layout(project.output), ["clip1"]) == {"clip1": ["ingest"]}
    assert what_runs(project, code=1) == {"ingest": {"clip1"}}


def test_redoing_more_than_the_limit_is_refused_until_it_is_named(project):
    configure(project, redo_limit=0, ingest={"backend": config_of(project)["ingest"]["backend"], "options": {"unused": 1}})
    assert project.run() != 0
    assert "redo_limit" in project.terminal()
    assert "--config 'redo=[ingest]'" in project.terminal()
    configure(project, redo=["ingest"])
    forecast_of(project).refuse()


def config_of(project: Project) -> dict:
    return yaml.safe_load((project.folder / "config.yaml").read_text())


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("stage", ["ingest", "create_h5"])
def test_a_stage_that_was_cleaned_is_computed_anew(project, stage):
    """Nothing that other files say of its work brings it back: a person threw it away."""
    before = project.results()
    assert videolift(project, "clean", "--stage", stage, "--yes") == 0
    assert what_runs(project)[stage] == VIDEOS
    assert project.results() == before


def videolift(project: Project, *command: str) -> int:
    return CliRunner().invoke(app, [*command, "-o", str(project.output)]).exit_code
