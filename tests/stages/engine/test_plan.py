"""Tokens: what changes the manifest that a batch should have, and what leaves it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.engine.plan import make_plan
from stages.settings import parse_config, preset_backends
from videolift.stage_table import STAGES


@pytest.fixture
def tokens(tmp_path):
    """Stage to token by batch, of a catalog of empty files kept in the assignment."""

    def of(*videos: str, batch_size: int = 2, **settings: object) -> dict[str, dict[str, str]]:
        for video in videos:
            path = tmp_path / "videos" / f"{video}.mp4"
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.touch()
        config = parse_config({"videos": "videos", "output": "output", "batch_size": batch_size, **settings})
        plan = make_plan(config, tmp_path)
        plan.assignment.append_new(plan.layout.assignment)
        return {stage: {batch: target.token for batch, target in plan.targets[stage].items()} for stage in STAGES}

    return of


def with_fps(video: str, fps: float) -> dict[str, object]:
    return {"overrides": {video: {"ingest": {"fps": fps}}}}


def test_the_same_catalog_and_settings_give_the_same_tokens(tokens):
    assert tokens("b", "c") == tokens()


def test_a_setting_changes_its_stage_and_what_reads_it(tokens):
    before, after = tokens("b"), tokens(tracks={"stride": 7})
    assert [stage for stage in STAGES if before[stage] != after[stage]] == ["tracks", "create_h5"]


def test_which_video_of_a_batch_has_settings_of_its_own_matters(tokens):
    assert len({str(tokens("b", "c", **settings)["ingest"]) for settings in ({}, with_fps("b", 5), with_fps("c", 5))}) == 3


def test_a_new_video_with_settings_of_its_own_leaves_other_batches_alone(tokens):
    before = tokens("b", "c", batch_size=1)
    after = tokens("a", batch_size=1, **with_fps("a", 5))
    for stage in preset_backends("cpu"):
        assert before[stage].items() <= after[stage].items()
        assert set(after[stage]) == {"0000", "0001", "0002"}


def test_a_replaced_file_changes_the_whole_chain_and_another_batch_nothing(tokens, tmp_path):
    before = tokens("b", "c", batch_size=1)
    Path(tmp_path / "videos" / "c.mp4").write_bytes(b"other")
    after = tokens(batch_size=1)
    for stage in preset_backends("cpu"):
        assert [batch for batch in before[stage] if before[stage][batch] != after[stage][batch]] == ["0001"]


def test_a_model_that_can_do_without_a_card_asks_for_one_where_there_may_be_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "b.mp4").touch()

    def on_cards(backend, *, on_cluster):
        config = parse_config({"videos": "videos", "output": "output", "depth": {"backend": backend}})
        return make_plan(config, tmp_path, on_cluster=on_cluster).gpu

    assert on_cards("mapanything", on_cluster=False) == set()
    assert on_cards("mapanything", on_cluster=True) == {"depth"}
    assert on_cards("moge", on_cluster=False) == {"depth"}


def test_a_stage_that_was_added_and_is_off_has_no_jobs_and_changes_no_token(tokens):
    off, on = tokens("b"), tokens(masks={"backend": "sam2"})
    assert off["masks"] == {}
    assert [stage for stage in STAGES if off[stage] != on[stage]] == ["masks", "tracks", "create_h5"]
