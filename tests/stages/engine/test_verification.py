"""What no worker has read again is read by the job; what fails stands in the journal, and from there in every verdict."""

from __future__ import annotations

import os
import shutil

import pytest

from stages.engine.verification import verify_unread
from tests.videolift.report.conftest import output, run_output, truth  # noqa: F401  fixtures
from videolift.errors import ExitCode
from videolift.paths import Layout
from videolift.records.journal import Journal
from videolift.records.record_reader import RecordReader
from videolift.records.runs import latest_run
from videolift.records.status import collect
from videolift.report.page import report_content


@pytest.fixture
def adopted(run_output, tmp_path):  # noqa: F811
    """An output folder whose packaged file was made elsewhere: its receipt is there, and nobody has read it again."""
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    layout = Layout(mine)
    layout.assignment.parent.mkdir(parents=True)
    layout.assignment.write_text("".join(f'{{"video": "{video}", "batch": 0}}\n' for video in ("pick", "broken", "waiting")))
    receipt = RecordReader(layout)("create_h5", "pick")
    layout.receipt("create_h5", "pick").unlink()
    with Journal.take_over(layout.journals("create_h5"), "0000", handed_over=[receipt]):
        return layout


def verify(layout: Layout) -> list[str]:
    with Journal.take_over(layout.journals("create_h5"), "0000") as journal:
        return verify_unread(layout, journal, ["pick", "broken", "waiting"])


def state_in_report(layout: Layout) -> str:
    return next(row["state"] for row in report_content(latest_run(layout.output))["videos"] if row["id"] == "pick")


def test_a_file_that_holds_what_it_says_is_read_once_and_counts_as_verified(adopted):
    assert verify(adopted) == []
    report = report_content(latest_run(adopted.output))
    assert (report["verified"], report["packaged"]) == (1, 1)
    adopted.artifact("create_h5", "pick").unlink()
    assert verify(adopted) == [], "it was not read a second time"


def test_a_failed_verification_stands_in_the_verdict_the_status_the_report_and_the_exit_code(adopted):
    path = adopted.artifact("create_h5", "pick")
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = collect(latest_run(adopted.output))
    assert next(video.overall for video in before.videos if video.video == "pick") == "done"
    assert verify(adopted) == ["pick"]
    status = collect(latest_run(adopted.output))
    pick = next(video for video in status.videos if video.video == "pick")
    assert (pick.overall, pick.loss.code) == ("quarantined", "fails_verification")
    assert "does not hold what it says" in pick.loss.line()
    assert status.exit_code == ExitCode.LOST
    assert any("quarantined pick" in line for line in status.lines())
    assert state_in_report(adopted) == "quarantined"
    assert path.with_name("pick.hdf5.damaged").exists()
    assert not path.exists()
