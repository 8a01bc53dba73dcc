"""What `videolift import y2r` wrote is done: the next run packages it, computes what was not there, and nothing again."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import yaml
from harness import FIXTURES, Project
from typer.testing import CliRunner

from stages.engine.plan import make_plan
from stages.engine.plan_report import PlanReport, StageOutlook
from stages.sample import render
from stages.settings import load_config
from tests.videolift.y2r.test_importer import FRAMES, LENGTH, packaged_with_its_mistakes
from videolift.cli import app
from videolift.dataset.index import read_index

IMPORTED = {"lift": ("ingest", "depth", "tracks", "hands"), "only frames": ("ingest", "depth")}
IDS = {"lift": "lift", "only frames": "only-frames-f541e840"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One video of which the packaged file is left, and one with frames and depth alone, imported; nothing was run yet."""
    truth = render("orbit", frames=FRAMES, width=128, height=96, side="left")
    E = truth.T_camera_world @ np.linalg.inv(truth.T_camera_world[0])
    (tmp_path / "data/h5_dataset").mkdir(parents=True)
    packaged_with_its_mistakes(tmp_path / "data/h5_dataset/lift.hdf5", truth, E)
    (tmp_path / "data/frames/only frames").mkdir(parents=True)
    for t, image in enumerate(truth.rgb):
        cv2.imwrite(str(tmp_path / f"data/frames/only frames/{t:05d}.png"), image[..., ::-1])
    (tmp_path / "data/vipe").mkdir()
    K = truth.K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    np.savez(tmp_path / "data/vipe/only frames.npz", depths=truth.depth_m.astype(np.float16), intrinsics=K, extrinsics=E)
    hands = {"backend": str(FIXTURES / "quick_hands.py")}
    depth = {"backend": str(FIXTURES / "quick_depth.py")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"depth": depth, "hands": hands, "keep": ["tracks", "hands"]}))
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["import", "y2r", "data", "output", "--scale", "metric"]).output
    assert "left out" not in said
    assert "snakemake --cores 2 --configfile output/imported.yaml" in said
    return Project(tmp_path, seconds=0)


def written(project: Project) -> dict[tuple[str, str], int]:
    return {key: mtime for key, mtime in project.finished().items() if key[0] != "create_h5"}


def test_imported_artifacts_are_done_and_what_was_not_there_is_computed(project):
    before = written(project)
    assert set(before) == {(stage, IDS[name]) for name, stages in IMPORTED.items() for stage in stages}
    assert project.run("--configfile", "output/imported.yaml") == 0, project.terminal()
    assert project.begun() == [("hands", IDS["only frames"])]
    after = written(project)
    assert {key: after[key] for key in before} == before
    assert all((project.output / folder / f"{video}.h5").exists() for folder in ("frames", "depth") for video in IDS.values())
    assert set(after) - set(before) == {("tracks", IDS["only frames"]), ("hands", IDS["only frames"])}
    receipt = project.receipt("tracks", "lift")
    assert receipt.backend == {"name": "imported_y2r", "version": 1}
    assert "window poses" in " ".join(receipt.checks) or "first camera" in " ".join(receipt.checks)
    index = read_index(project.output / "h5_dataset").descriptions()
    backends = json.loads((project.output / "h5_dataset/dataset.json").read_text())["backends"]
    assert list(index) == sorted(IDS.values())
    lift, other = list(index.values())[:2]
    assert (lift["window_length"], lift["size"], lift["tier"], lift["text"]) == (LENGTH, 96, "B", "lift")
    assert {backends[facts["backend"]]["name"] for facts in lift["lineage"].values()} == {"imported_y2r"}
    made_by = {stage: backends[facts["backend"]]["name"] for stage, facts in other["lineage"].items()}
    assert made_by == {"ingest": "imported_y2r", "depth": "imported_y2r", "tracks": "flow", "hands": "quick_hands"}
    plan = make_plan(
        load_config(project.output / "imported.yaml", yaml.safe_load((project.folder / "config.yaml").read_text())), project.folder
    )
    assert not [stage for stage in plan.targets if plan.open_targets(stage)]


def test_an_imported_artifact_that_is_gone_is_to_be_made_anew_and_the_others_stay(project):
    (project.output / "depth/lift.h5").unlink()
    changes = yaml.safe_load((project.folder / "config.yaml").read_text())
    plan = make_plan(load_config(project.output / "imported.yaml", changes), project.folder)
    lines = "\n".join(PlanReport.of(plan).lines())
    assert "depth      1 to redo (its artifact is missing or changed)" in lines
    assert "ingest     nothing to do" in lines


def test_a_changed_setting_makes_no_imported_artifact_stale(project):
    changes = {"ingest": {"fps": 5}, "depth": {"backend": "moge"}, "tracks": {"points": 10}, "hands": {"backend": "wilor"}}
    plan = make_plan(load_config(project.output / "imported.yaml", changes), project.folder)
    assert PlanReport.of(plan).stages["ingest"] == PlanReport.of(plan).stages["depth"] == StageOutlook()
    assert PlanReport.of(plan).stages["tracks"].todo == 1


def test_what_an_earlier_import_wrote_stays_done(project):
    table = project.output / "imported.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},imported", *(f"{row},ingest depth tracks hands" for row in rows)]) + "\n")
    changes = yaml.safe_load((project.folder / "config.yaml").read_text())
    plan = make_plan(load_config(project.output / "imported.yaml", changes), project.folder)
    assert not any(entry.video.metadata for entry in plan.entries)
    assert "ingest     nothing to do" in "\n".join(PlanReport.of(plan).lines())
