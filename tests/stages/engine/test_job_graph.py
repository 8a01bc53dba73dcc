"""Of many batches Snakemake is shown those with something to do, and no other."""

from __future__ import annotations

import os

import pytest

from stages.engine import job_graph
from stages.engine.plan import ALL, make_plan
from stages.engine.session import Session
from stages.settings import parse_config
from videolift.stage_table import PACKAGING, STATISTICS


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Five batches of one video each, every one finished at second 100 and the statistics at second 200."""
    monkeypatch.setattr(job_graph, "MAX_WHOLE", 3)
    (tmp_path / "videos").mkdir()
    for number in range(5):
        (tmp_path / "videos" / f"v{number}.mp4").touch()
    plan = make_plan(parse_config({"videos": "videos", "output": "output", "batch_size": 1}), tmp_path)
    for stage, targets in plan.targets.items():
        plan.layout.manifests(stage).mkdir(parents=True, exist_ok=True)
        for batch in targets:
            plan.manifest(stage, batch).touch()
            made_at(plan, stage, batch, 200 if stage == STATISTICS else 100)
    return plan


def made_at(plan, stage: str, batch: str, second: int) -> None:
    os.utime(plan.manifest(stage, batch), (second, second))


def shown(plan) -> set[str]:
    """Batches of which some manifest is asked for by the target `all`."""
    session = Session(plan.config, plan.layout, plan.run, plan.targets, {}, frozenset(), 1, lambda stage, batch: 1, plan)
    names = {os.path.basename(path) for path in [*session.reach(PACKAGING)(None), *session.targets(STATISTICS)]}
    return {name.split("-")[0] for name in names}


def test_of_finished_batches_none_is_shown(plan):
    assert shown(plan) == set()


def test_a_few_batches_are_all_shown(plan, monkeypatch):
    monkeypatch.setattr(job_graph, "MAX_WHOLE", 6)
    assert shown(plan) == {*plan.targets["ingest"], ALL}


@pytest.mark.parametrize("stage", ["ingest", "tracks", PACKAGING])
def test_a_missing_manifest_shows_its_batch_and_the_statistics(plan, stage):
    plan.manifest(stage, "0003").unlink()
    assert shown(plan) == {"0003", ALL}


def test_a_stage_repaired_by_a_run_that_was_killed_then_has_what_reads_it_done_again(plan):
    made_at(plan, "ingest", "0001", 150)
    assert shown(plan) == {"0001", ALL}


def test_statistics_that_are_missing_or_older_than_a_packaging_job_are_shown(plan):
    for batch in plan.targets["ingest"]:
        made_at(plan, PACKAGING, batch, 300)
    assert shown(plan) == {ALL}
    made_at(plan, STATISTICS, ALL, 300)
    assert shown(plan) == set()
    plan.manifest(STATISTICS, ALL).unlink()
    assert shown(plan) == {ALL}
