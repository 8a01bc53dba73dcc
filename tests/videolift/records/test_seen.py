"""What the plan saw counts for the verdict while nothing has changed; what is made, replaced or removed since is looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.scale import finish, make_videos
from stages.engine.plan import make_plan
from stages.settings import load_config
from videolift import paths
from videolift.paths import Layout
from videolift.records import seen
from videolift.records.batches import Assignment
from videolift.records.record_reader import hold_journal
from videolift.records.runs import latest_run
from videolift.records.seen import SeenOutput, still_settled
from videolift.records.settled import recorded_targets
from videolift.records.status import collect
from videolift.stage_table import STAGES

VIDEOS = 5


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A finished output folder that has just been planned again."""
    make_videos(tmp_path, VIDEOS)
    finish(tmp_path)
    monkeypatch.setattr(seen, "SETTLING_NS", 0)  # its folders are younger than that
    plan = make_plan(load_config(tmp_path / "config.yaml"), tmp_path)
    plan.write(cores=2, with_minutes=False)
    return plan.layout


def settled(layout: Layout) -> dict[str, int]:
    run = latest_run(layout.output)
    return dict(still_settled(run, recorded_targets(run, STAGES)))


def counts(layout: Layout) -> dict[str, int]:
    """As the verdict has them."""
    return dict(collect(latest_run(layout.output), only_chosen=True, settled=settled(layout)).counts)


def test_an_untouched_output_is_counted_as_if_every_artifact_had_been_asked(layout):
    run = latest_run(layout.output)
    assert settled(layout) == {"0000": VIDEOS}
    short, whole = collect(run, only_chosen=True, settled=settled(layout)), collect(run, only_chosen=True)
    assert (short.videos, len(whole.videos)) == ((), VIDEOS)
    assert (short.headline(), short.exit_code) == (whole.headline(), whole.exit_code)


def removed(layout: Layout, artifact: Path) -> None:
    artifact.unlink()


def replaced(layout: Layout, artifact: Path) -> None:
    shutil.copy2(artifact, artifact.with_suffix(".tmp"))
    os.replace(artifact.with_suffix(".tmp"), artifact)


def lost_manifest(layout: Layout, artifact: Path) -> None:
    next(layout.manifests("depth").iterdir()).unlink()


def lifted(layout: Layout, artifact: Path) -> None:
    with hold_journal(layout, "depth", "0000") as journal:
        journal.lift(next(iter(Assignment.load(layout.assignment).batches)))


def handed_over(layout: Layout, artifact: Path) -> None:
    layout.receipts("depth").mkdir(parents=True)


def moved_below(layout: Layout, artifact: Path) -> None:
    (artifact.parent / "3f").mkdir()
    artifact.rename(artifact.parent / "3f" / artifact.name)


def truncated(layout: Layout, artifact: Path) -> None:
    artifact.with_suffix(".tmp").write_bytes(b"x")
    os.replace(artifact.with_suffix(".tmp"), artifact)


@pytest.mark.parametrize("change", [removed, replaced, truncated, lost_manifest, lifted, handed_over, moved_below])
@pytest.mark.parametrize("stage", ["ingest", "create_h5"])
def test_after_any_change_the_verdict_is_that_of_asking_everything(layout, change, stage):
    change(layout, next(layout.all_artifacts(stage)))
    assert counts(layout) == dict(collect(latest_run(layout.output), only_chosen=True).counts)


def test_a_folder_that_changed_right_before_the_plan_vouches_for_nothing(layout, tmp_path, monkeypatch):
    monkeypatch.undo()
    make_plan(load_config(tmp_path / "config.yaml"), tmp_path).write(cores=2, with_minutes=False)
    assert SeenOutput.read(latest_run(layout.output).folder).times_ns == {}
    removed(layout, next(layout.all_artifacts("depth")))
    assert counts(layout)["pending"] == 1


@pytest.fixture
def spread(tmp_path, monkeypatch):
    """A finished output folder with sub-folders, planned again; since then a job has put a file into one of each stage."""
    monkeypatch.setattr(seen, "SETTLING_NS", 0)
    monkeypatch.setattr(paths, "FLAT_VIDEOS", 0)
    make_videos(tmp_path, VIDEOS)
    finish(tmp_path)
    plan = make_plan(load_config(tmp_path / "config.yaml"), tmp_path)
    plan.write(cores=2, with_minutes=False)
    for stage in STAGES:
        first = min(plan.layout.all_artifacts(stage), default=None)
        if first is not None:
            first.with_name("of_a_new_video.h5").touch()
    return plan.layout


@pytest.mark.parametrize("change", [removed, truncated, moved_below])
@pytest.mark.parametrize("which", [min, max], ids=["where the job worked", "elsewhere"])
@pytest.mark.parametrize("stage", ["ingest", "depth", "create_h5"])
def test_what_goes_between_plan_and_verdict_is_noticed_in_every_folder(spread, change, which, stage):
    assert counts(spread)["done"] == VIDEOS
    change(spread, which(path for path in spread.all_artifacts(stage) if path.stem != "of_a_new_video"))
    assert counts(spread) == {"done": VIDEOS - 1, "quarantined": 0, "excluded": 0, "pending": 1}


def test_only_folders_that_have_changed_and_packaged_files_are_asked(spread, monkeypatch):
    asked: list[str] = []

    def stat(path, **options):
        asked.append(str(path))
        return os_stat(path, **options)

    os_stat = os.stat
    monkeypatch.setattr("videolift.records.manifests.os.stat", stat)
    assert counts(spread)["done"] == VIDEOS
    assert sum(path.startswith("h5_dataset/") for path in asked) == VIDEOS
    assert 0 < sum(path.startswith("depth/") for path in asked) < VIDEOS


def test_a_packaged_file_overwritten_in_place_is_noticed_at_once_and_another_artifact_by_the_next_plan(spread, tmp_path):
    folder = max(spread.all_artifacts("depth")).parent
    before = folder.stat().st_mtime_ns
    max(spread.all_artifacts("depth")).write_bytes(b"x")
    assert folder.stat().st_mtime_ns == before
    assert counts(spread)["done"] == VIDEOS
    plan = make_plan(load_config(tmp_path / "config.yaml"), tmp_path)
    assert [target.batch for target in plan.open_targets("depth")] == ["0000"]
    max(path for path in spread.all_artifacts("create_h5")).write_bytes(b"x")
    assert counts(spread)["pending"] == 1
