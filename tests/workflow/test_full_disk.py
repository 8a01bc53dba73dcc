"""A disk that fills up in each stage: exit code 4, a text that says what to do, nothing half-written, later the same bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import STAGES, Project, make_project

from stages.engine.plan import Plan, make_plan
from stages.job_command import main
from stages.settings import load_config
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION
from videolift.errors import ExitCode
from videolift.store import open_hdf5

QUICKLY = {"backoff_s": 0.1}
VIDEOS = 2


def planned(project: Project) -> Plan:
    """The plan as it stands now, written for its jobs."""
    plan = make_plan(load_config(project.folder / "config.yaml"), project.folder)
    plan.write(cores=1, with_minutes=False)
    return plan


def work(plan: Plan, stage: str, log: Path) -> int:
    """The exit code of the stage's one job, run as its rule runs it."""
    (target,) = plan.targets[stage].values()
    where = ["--run", str(plan.run), "--manifest", str(plan.manifest(stage, target.batch)), "--cores", "1", "--log", str(log)]
    return main([stage, *where, "--batch", target.batch, "--token", target.token, "--generation", str(target.generation)])


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes."""
    (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return disk / "filler"


def published(output: Path) -> list[Path]:
    """Everything under a final name that is an artifact, a packaged file or a manifest; each is opened to see that it is whole."""
    readers = {"frames": Clip, "depth": Depth, "tracks_3d": Tracks, "hand_poses": Hands}
    found = [path for name in readers for path in (output / name).glob("[!.]*.h5")]
    for path in found:
        readers[path.parent.name](path).close()
    packaged = list((output / "h5_dataset").glob("[!.]*.hdf5"))
    for path in packaged:
        open_hdf5(path, DATASET_FORMAT, DATASET_VERSION).close()
    return found + packaged + list((output / "batches").glob("*/*.json"))


def contents(output: Path) -> dict[str, bytes]:
    """Artifacts and packaged files by name."""
    return {str(path.relative_to(output)): path.read_bytes() for path in published(output) if path.suffix != ".json"}


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Project:
    """The same project on a disk with room."""
    project = make_project(tmp_path_factory.mktemp("truth") / "project", seconds=0, videos=VIDEOS, pool=QUICKLY)
    for stage in (*STAGES, "statistics"):
        assert work(planned(project), stage, project.folder / "log") == ExitCode.OK
    return project


def test_a_disk_that_fills_up_in_any_stage_stops_it_politely_and_resumes(truth, small_disk, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOLIFT_TEST_SECONDS", "0")
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    project = make_project(tmp_path / "project", seconds=0, videos=VIDEOS, pool=QUICKLY, output=str(small_disk / "output"))
    monkeypatch.setenv("VIDEOLIFT_TEST_LOG", str(project.log))
    for stage in (*STAGES, "statistics"):
        for leave in (0, 8 * 4096):
            plan = planned(project)
            before, begun = published(small_disk / "output"), len(project.begun())
            filler = fill(small_disk, leave)
            code = work(plan, stage, tmp_path / "log")
            told = capsys.readouterr().err
            assert code == ExitCode.STORAGE, f"{stage} with {leave} bytes left: {told}"
            assert "No space left on device" in told
            assert "Free space" in told
            assert len(project.begun()) - begun <= VIDEOS, "computed again for a disk that stays full"
            left = set(published(small_disk / "output")) - set(before)
            assert not [path for path in left if path.suffix == ".json"], "a manifest of unfinished work"
            filler.unlink()
        assert work(planned(project), stage, tmp_path / "log") == ExitCode.OK
    assert project.begun(), "the test backends wrote down nothing"
    assert contents(small_disk / "output") == contents(truth.output)
