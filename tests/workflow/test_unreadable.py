"""A file that cannot be read is its own video's loss; a disk that is gone is nobody's."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from harness import Project, make_project

from stages.engine.plan import make_plan
from stages.job_command import main
from stages.settings import load_config
from videolift.errors import ExitCode
from videolift.paths import Layout
from videolift.records import freshness
from videolift.records.maintenance import lift_quarantines
from videolift.records.receipts import Receipt
from videolift.records.record_reader import RecordReader
from videolift.store import sha256_file


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project", videos=2, seconds=0)


def ingest(project: Project) -> int:
    """The exit code of the job of the first stage."""
    plan = make_plan(load_config(project.folder / "config.yaml"), project.folder)
    plan.write(cores=1, with_minutes=False)
    (target,) = plan.targets["ingest"].values()
    where = ["--run", str(plan.run), "--manifest", str(plan.manifest("ingest", target.batch)), "--cores", "1"]
    return main(["ingest", *where, "--batch", target.batch, "--token", target.token, "--generation", str(target.generation)])


def receipt(project: Project, video: str) -> Receipt | None:
    """What the records say of a video's ingest."""
    return RecordReader(Layout(project.output))("ingest", video)


def fail_on(monkeypatch, name: str, error: OSError) -> None:
    """Reading the file of that name fails, as for a user who may not read it, or over a bad sector; tests may run as root."""

    def read(path: Path) -> str:
        if path.name == name:
            raise error
        return sha256_file(path)

    monkeypatch.setattr(freshness, "sha256_file", create_autospec(sha256_file, side_effect=read))


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")])
def test_an_unreadable_source_is_that_videos_quarantine_and_the_others_are_done(project, monkeypatch, error):
    fail_on(monkeypatch, "clip0.mp4", error)
    assert ingest(project) == ExitCode.OK
    lost, done = (receipt(project, f"clip{i}") for i in (0, 1))
    assert (lost.state, lost.reason.code, done.state) == ("quarantined", "unreadable", "done")
    assert f"clip0.mp4 cannot be read ({error.strerror})" in lost.reason.text
    assert "videolift retry clip0" in lost.reason.remedy
    monkeypatch.undo()
    assert ingest(project) == ExitCode.OK
    assert receipt(project, "clip0").state == "quarantined"
    lift_quarantines(Layout(project.output), ["clip0"])
    assert ingest(project) == ExitCode.OK
    assert receipt(project, "clip0").state == "done"


def test_a_disk_that_is_gone_stops_the_batch_and_blames_no_video(project, monkeypatch, caplog):
    fail_on(monkeypatch, "clip0.mp4", OSError(errno.EIO, "Input/output error"))
    gone = OSError(errno.ENODEV, "No such device")
    listing = create_autospec(freshness.os.listdir, side_effect=gone)
    monkeypatch.setattr(freshness, "os", type("Os", (), {"listdir": listing}))
    assert ingest(project) == ExitCode.STORAGE
    assert "does not answer" in caplog.text
    assert receipt(project, "clip0") is None
