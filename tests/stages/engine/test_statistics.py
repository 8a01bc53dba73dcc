"""The statistics take the plan's word for folders that have not changed; what has gone since the plan is left out all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.scale import finish, make_videos
from stages.engine import statistics
from stages.engine.plan import ALL, Plan, make_plan
from stages.engine.statistics import run_statistics
from stages.settings import load_config
from tests.videolift.dataset.conftest import write_packaged
from videolift import paths
from videolift.dataset.index import read_index
from videolift.paths import Layout
from videolift.records import manifests, seen
from videolift.records.runs import read_run
from videolift.stage_table import STAGES, STATISTICS

VIDEOS = 5
NEW = "of_a_new_video.h5"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Of a finished output folder with sub-folders; since it looked, a job has put a file into one of each stage."""
    monkeypatch.setattr(seen, "SETTLING_NS", 0)
    monkeypatch.setattr(paths, "FLAT_VIDEOS", 0)
    write_packaged(tmp_path / "packaged.hdf5", 1)
    make_videos(tmp_path, VIDEOS)
    finish(tmp_path, [tmp_path / "packaged.hdf5"])
    for link in (tmp_path / "output" / "h5_dataset").rglob("*.hdf5"):  # a file of its own, so that one can change alone
        shutil.copy2(link, link.with_suffix(".copy"))
        link.with_suffix(".copy").rename(link)
    plan = make_plan(load_config(tmp_path / "config.yaml"), tmp_path)
    plan.write(cores=2, with_minutes=False)
    for stage in STAGES:
        for first in sorted(plan.layout.all_artifacts(stage))[:1]:
            first.with_name(NEW).touch()
    return plan


def published(plan: Plan) -> list[str]:
    """The videos of the dataset that the statistics publish."""
    assert run_statistics(read_run(plan.run), plan.targets[STATISTICS][ALL], plan.manifest(STATISTICS, ALL)) == 0
    return [entry.video for entry in read_index(plan.layout.dataset).entries]


def removed(artifact: Path) -> None:
    artifact.unlink()


def truncated(artifact: Path) -> None:
    artifact.unlink()
    artifact.write_bytes(b"x")


def overwritten_in_place(artifact: Path) -> None:
    folder, before = artifact.parent, artifact.parent.stat().st_mtime_ns
    artifact.write_bytes(artifact.read_bytes()[:-1])
    assert folder.stat().st_mtime_ns == before


def some_artifact(layout: Layout, stage: str, *, where_a_job_worked: bool) -> Path:
    artifacts = sorted(path for path in layout.all_artifacts(stage) if path.name != NEW)
    return artifacts[0 if where_a_job_worked else -1]


@pytest.mark.parametrize("where_a_job_worked", [True, False])
@pytest.mark.parametrize(
    ("stage", "change"),
    [("ingest", removed), ("depth", truncated), *(("create_h5", c) for c in (removed, truncated, overwritten_in_place))],
)
def test_what_goes_between_plan_and_statistics_is_left_out(plan, stage, change, where_a_job_worked):
    gone = some_artifact(plan.layout, stage, where_a_job_worked=where_a_job_worked)
    change(gone)
    assert published(plan) == sorted(entry.video.id for entry in plan.entries if entry.video.id != gone.stem)


def test_only_packaged_files_and_what_lies_where_a_job_worked_is_asked(plan, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(manifests, "_files_unchanged", lambda output, files: asked.extend(place for place, *_ in files) or True)
    assert len(published(plan)) == VIDEOS
    assert sum(place.startswith("h5_dataset/") for place in asked) == VIDEOS
    assert 0 < sum(place.startswith("depth/") for place in asked) < VIDEOS
    asked.clear()
    monkeypatch.setattr(statistics, "unchanged_folders", lambda run: frozenset())
    assert len(published(plan)) == VIDEOS
    assert sum(place.startswith("depth/") for place in asked) == VIDEOS
