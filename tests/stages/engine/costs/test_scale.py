"""What many videos cost as a whole: the page says what the constants say, and a plan says where one run stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.engine.costs.scale import SCALE_STEPS, SIZES, STAGE_CONSTANTS, ScaleForecast, scale_limits, shards_for, tables
from stages.engine.plan_report import plan_command
from stages.settings import preset_backends
from videolift.typical_work import TYPICAL_WORK

PAGE = Path(__file__).parents[4] / "docs" / "scale.md"


def test_the_page_shows_what_the_constants_give():
    said = "run: PYTHONPATH=. python -m stages.engine.costs.scale, and put what it prints between the marks of docs/scale.md"
    assert f"-->\n\n{tables()}\n\n<!--" in PAGE.read_text(encoding="utf-8"), said


def test_every_stage_that_runs_by_itself_has_constants_and_its_backend_a_row_of_typical_work():
    assert {stage: constants.backend for stage, constants in STAGE_CONSTANTS.items()} == preset_backends("cpu")
    assert {constants.backend for constants in STAGE_CONSTANTS.values()} <= set(TYPICAL_WORK)


def test_files_bytes_and_hours_are_in_proportion_to_the_videos():
    few, many = (ScaleForecast(videos, frames=200) for videos in (1000, 10_000))
    assert few.files == {"everything kept": 5000, "`keep: []`": 1000}
    for name in ("files", "bytes", "stage_hours"):
        assert {key: 10 * value for key, value in getattr(few, name).items()} == pytest.approx(getattr(many, name))


def test_the_head_fits_its_limit_up_to_the_number_that_is_named_and_not_far_beyond():
    (head,) = (limit for limit in scale_limits() if limit.what == "memory of the head")
    assert ScaleForecast(head.videos).head_mb <= 4000 < ScaleForecast(head.videos + 100_000).head_mb
    assert max(step.memory_mb(SIZES[0]) for step in SCALE_STEPS if step.on_head) < 1000


def test_a_number_beyond_one_run_is_told_how_many_shards_to_make(tmp_path, monkeypatch, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text("videos: videos\noutput: output\n")
    monkeypatch.chdir(tmp_path)
    assert plan_command(["--what-if", "videos=10000000"]) == 0
    said = capsys.readouterr().out
    assert "10,000,000 videos as a whole" in said
    assert f"make {shards_for(10_000_000)} shards and merge them" in said
    assert "core-hours of typical work (ingest pyav, depth sfm, tracks flow, hands mediapipe, create_h5 hdf5)" in said
    assert "nobody has measured" not in said
    assert plan_command(["--what-if", "videos=100000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scale"]["files"]["`keep: []`"] == 100_000


def test_backends_that_were_never_measured_are_named_and_not_guessed(tmp_path):
    laptop, gpu = (ScaleForecast(1000, backends=preset_backends(preset)) for preset in ("laptop", "gpu"))
    assert laptop.unmeasured == {}
    assert laptop.stage_hours["depth"] == pytest.approx(1000 * (60 + 100 * 2.5) / 3600)
    assert list(gpu.stage_hours) == ["ingest", "create_h5"]
    assert any("not in these core-hours" in line and "depth vipe, tracks tapip3d, hands wilor" in line for line in gpu.lines())
