"""Whatever happens to the files that say what is done: the same bytes again, or an error that names the file."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, STAGES, Project, make_project

from videolift.dataset.index import read_index
from videolift.errors import ConfigError
from videolift.records.journal import journal_numbers
from videolift.records.maintenance import exclude_video
from videolift.records.runs import latest_run

KINDS = ("truncated", "flipped", "emptied", "swapped", "removed", "wrong shape", "a folder")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Project:
    """A finished run of three videos, one of them excluded."""
    project = make_project(tmp_path_factory.mktemp("done") / "project", videos=4, seconds=0)
    assert project.run() == 0, project.terminal()
    (project.output / "excluded.json").write_text(json.dumps({"clip3": "test"}))
    assert project.run() == 0, project.terminal()
    return project


def copy_of(done: Project, folder: Path) -> Project:
    shutil.copytree(done.folder, folder, symlinks=True)
    return Project(folder, 0)


def state_files(project: Project) -> list[Path]:
    """Every file that says what is done, decided or assigned; none of the results."""
    folders = ("journals", "batches", "runs")
    files = [path for name in folders for path in sorted((project.output / name).rglob("*")) if path.is_file()]
    return [*files, project.output / "excluded.json", project.output / "h5_dataset" / "index.sqlite"]


def test_a_video_leaves_an_artifact_per_stage_and_a_batch_one_journal_and_one_manifest_per_stage(done):
    """File quotas count: at most six files per video at scale."""
    files = [path.relative_to(done.output) for path in done.output.rglob("*") if path.is_file() and "report" not in path.parts]
    own = [path for path in files if any(f"clip{i}" in path.name for i in range(4))]
    assert len(own) == len(STAGES) * 4, "with the excluded one's"
    (batch,) = {name for stage in STAGES for name in journal_numbers(done.layout.journals(stage))}
    for stage in STAGES:
        kept = [path.parts[0] for path in files if path.parts[0] in ("journals", "batches") and path.parent.name == stage]
        assert sorted(kept) == ["batches", "journals"]
        assert len([path for path in files if path.parts[:2] == ("logs", stage) and path.name.startswith(batch)]) <= 4
    # Of counts there is one file per bucket, however many videos there are.
    others = [path for path in files if path not in own and not {"logs", "journals", "batches", ".merged"} & {*path.parts}]
    assert len(others) == 11, "those of the run and of the dataset"


def damage(path: Path, kind: str, rng: random.Random, others: list[Path]) -> None:
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "flipped":
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "swapped":
        path.write_bytes(rng.choice(others).read_bytes())
    elif kind == "removed":
        path.unlink()
    elif kind == "wrong shape":
        shapes = ["[]", "{}", "null", '"text"', "[[]]"]
        if path.name == "excluded.json":
            shapes.remove("{}")  # a decision, no damage
        path.write_text(rng.choice(shapes))
    else:
        path.unlink()
        path.mkdir()


def survives(project: Project, undisturbed: dict[str, str], path: Path) -> None:
    """The run ends with the undisturbed bytes, or with an error that names what is damaged."""
    code = project.run()
    if code == 0:
        assert project.results() == undisturbed, project.terminal()
        assert "3 in = 3 done" in project.terminal() or "4 in = 3 done + 0 quarantined + 1 excluded" in project.terminal()
    else:
        assert path.name in project.terminal(), project.terminal()
        assert "Traceback" not in project.terminal().partition("rule ")[0], project.terminal()


@pytest.mark.parametrize("seed", range(7))
def test_damaged_state_is_made_again_or_named(done, tmp_path, seed):
    rng = random.Random(seed)
    project = copy_of(done, tmp_path / "project")
    files = state_files(project)
    path, kind = rng.choice(files), KINDS[seed % len(KINDS)]
    damage(path, kind, rng, files)
    survives(project, done.results(), path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(100, 200, 10))
def test_a_hundred_kinds_of_damage_make_no_dataset_smaller(done, tmp_path, first):
    for seed in range(first, first + 10):
        rng = random.Random(seed)
        project = copy_of(done, tmp_path / str(seed))
        files = state_files(project)
        path, kind = rng.choice(files), rng.choice(KINDS)
        damage(path, kind, rng, files)
        survives(project, done.results(), path)
        shutil.rmtree(project.folder)


def test_a_lost_journal_is_read_back_from_the_artifacts_and_nothing_is_computed(done, tmp_path):
    project = copy_of(done, tmp_path / "project")
    begun = len(project.begun())
    shutil.rmtree(project.output / "journals")
    assert project.run() == 0, project.terminal()
    assert project.begun()[begun:] == []
    assert project.results() == done.results()


def test_journals_and_index_lost_with_a_new_video_shrink_nothing(done, tmp_path):
    project = copy_of(done, tmp_path / "project")
    begun = len(project.begun())
    shutil.rmtree(project.output / "journals" / "create_h5")
    (project.output / "h5_dataset" / "index.sqlite").unlink()
    (project.folder / "videos" / "new.mp4").write_bytes(b"another video" * 300)
    assert project.run() == 0, project.terminal()
    index = read_index(project.output / "h5_dataset")
    assert [entry.video for entry in index.entries] == ["clip0", "clip1", "clip2", "new"]
    assert {video for _, video in project.begun()[begun:]} == {"new"}


def test_the_verdict_sees_what_went_since_the_plan(done, tmp_path):
    project = copy_of(done, tmp_path / "project")
    assert project.run() == 0, project.terminal()
    run = latest_run(project.output).folder
    (project.output / "h5_dataset" / "clip1.hdf5").unlink()
    verdict = [sys.executable, "-m", "stages", "verdict", "--run", str(run), "--stage", "create_h5"]
    said = subprocess.run(verdict, cwd=project.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True)
    assert (said.returncode != 0, "1 pending" in said.stdout) == (True, True), said.stdout + said.stderr


def test_damaged_exclusions_stop_the_run_and_are_kept(done, tmp_path):
    project = copy_of(done, tmp_path / "project")
    path = project.output / "excluded.json"
    path.write_text('{"clip3": "te')
    assert project.run() != 0
    assert "excluded.json cannot be read" in project.terminal()
    assert path.read_text() == '{"clip3": "te'


def test_lost_exclusions_are_not_taken_for_none(done, tmp_path):
    project = copy_of(done, tmp_path / "project")
    path = project.output / "excluded.json"
    path.unlink()
    assert project.run() != 0
    assert "excluded.json is gone, and the last run left out clip3" in project.terminal()
    with pytest.raises(ConfigError, match="is gone"):
        exclude_video(project.layout, "clip2", "nor may another decision be written over it")
    path.write_text('{"clix3": "test"}')
    assert project.run() != 0
    assert "excluded.json leaves out clix3, which no run has listed" in project.terminal()
    path.write_text("{}")
    assert project.run() == 0, project.terminal()
    assert "4 in = 4 done" in project.terminal()
