"""What the plan saw counts for the verdict while nothing has changed; what is made, replaced or removed since is looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.scale import finish, make_videos
from stages.engine.plan import make_plan
from stages.settings import load_config
from videolift.paths import Layout
from videolift.records import seen
from videolift.records.batches import Assignment
from videolift.records.record_reader import hold_journal
from videolift.records.runs import latest_run
from videolift.records.seen import still_settled
from videolift.records.status import collect

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
    return dict(still_settled(layout, latest_run(layout.output).folder))


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


@pytest.mark.parametrize("change", [removed, replaced, lost_manifest, lifted, handed_over, moved_below])
@pytest.mark.parametrize("stage", ["ingest", "create_h5"])
def test_any_change_has_everything_looked_at_again(layout, change, stage):
    change(layout, next(layout.all_artifacts(stage)))
    assert settled(layout) == {}


def test_a_folder_that_changed_right_before_the_plan_vouches_for_nothing(layout, tmp_path, monkeypatch):
    monkeypatch.undo()
    make_plan(load_config(tmp_path / "config.yaml"), tmp_path).write(cores=2, with_minutes=False)
    assert settled(layout) == {}
