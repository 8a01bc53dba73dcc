"""The report says of every video what a run knows, worst first, in one file that needs nothing else."""

import base64
import json
import re
import shutil
import sqlite3
from contextlib import closing
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from stages.job_command import main as workflow
from videolift.dataset.index import read_index
from videolift.dataset.quality import SCORES
from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.records.journal import Journal
from videolift.records.runs import latest_run
from videolift.records.status import VideoStatus
from videolift.report import page as page_module
from videolift.report import write_preview, write_report
from videolift.report.page import is_report_fresh, report_content, report_html
from videolift.report.rows import worst_videos


@pytest.fixture(scope="module")
def content(run_output):
    return report_content(latest_run(run_output))


@pytest.fixture(scope="module")
def page(run_output):
    path = write_report(run_output)
    assert path == run_output / "report" / "index.html"
    return path.read_text(encoding="utf-8")


def row(content, video):
    return next(row for row in content["videos"] if row["id"] == video)


def test_every_video_is_there_with_its_state_losses_first(content):
    found = [(row["id"], row["state"]) for row in content["videos"]]
    assert found == [("broken", "quarantined"), ("waiting", "pending"), ("pick", "done"), ("gone", "excluded")]
    assert content["counts"] == {"done": 1, "quarantined": 1, "excluded": 1, "pending": 1}


def test_of_too_many_videos_the_lost_and_the_worst_are_listed_and_all_are_counted(run_output, content, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_ROWS", 3)
    some = report_content(latest_run(run_output))
    assert [video["id"] for video in some["videos"]] == ["broken", "waiting", "pick"]
    for name in ("counts", "stage_states", "packaged", "verified", "totals", "length_s", "work_s"):
        assert some[name] == content[name], name
    assert (some["length_s"], some["work_s"]) == (3.4, 9.0)


def test_the_worst_of_done_videos_are_listed_by_how_far_their_worst_score_lies_beyond_its_limit(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output / "h5_dataset", mine)
    with closing(sqlite3.connect(mine / "index.sqlite")) as index, index:
        index.execute("UPDATE video SET quality_valid_depth = 0.1")
    videos = [VideoStatus(name, "done") for name in ("better", "pick", "other")]
    assert [video.video for video in worst_videos(videos, read_index(mine), 2)] == ["pick", "better"]


def test_a_loss_comes_with_its_code_reason_and_remedy(content):
    loss = content["losses"][row(content, "broken")["losses"][0]]
    assert loss == {
        "stage": "ingest",
        "code": "audio_only",
        "text": "there is <no> video stream",
        "remedy": "Give a file with pictures.",
    }
    assert "wrong person" in content["losses"][row(content, "gone")["losses"][0]]["text"]
    assert content["left_out"] == {"broken": "audio only"}


def test_a_pending_video_says_what_it_waits_for(content):
    assert row(content, "waiting")["waits"].startswith("ingest: ")


def test_a_done_video_shows_its_worth_scores_figures_and_notes(content):
    pick = row(content, "pick")
    assert (pick["tier"], pick["scale"], pick["pose"], pick["frames"], pick["windows"]) == ("A", "metric", "given", 34, 27)
    assert content["backends"][pick["backends"]]["tracks"] == "flow"
    assert pick["figures"][content["figures"].index("depth.valid_share")] == 0.9877
    assert pick["notes"] == ["depth given in <metres>"]
    assert pick["scores"][list(SCORES).index("valid_depth")] == pytest.approx(1.0)
    assert dict(zip(content["stages"], pick["seconds"], strict=True)) == {**dict.fromkeys(content["stages"], 1.5), "masks": None}


def test_done_videos_are_ordered_by_how_far_their_worst_score_lies_beyond_its_limit(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    with closing(sqlite3.connect(mine / "h5_dataset" / "index.sqlite")) as index, index:
        index.execute("UPDATE video SET quality_valid_depth = 0.1, quality_depth_residual = 0.05")
    pick = row(report_content(latest_run(mine)), "pick")
    assert (pick["worst"], pick["excess"]) == (list(SCORES).index("valid_depth"), pytest.approx(3.0))


def test_distributions_count_every_value_of_the_dataset(content, run_output):
    assert list(content["distributions"]) == ["A-metric"]
    depth = next(one for one in content["distributions"]["A-metric"] if one["name"] == "depth")
    assert depth["samples"] == 34 * 96 * 96
    assert sum(depth["counts"]) + depth["below"] + depth["above"] == depth["samples"]


def test_files_count_as_verified_only_with_the_bytes_that_were_checked(run_output, tmp_path, content):
    assert (content["verified"], content["packaged"]) == (0, 1)
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    sha256 = read_index(mine / "h5_dataset").entries[0].sha256
    layout = Layout(mine)
    layout.assignment.parent.mkdir(parents=True)
    layout.assignment.write_text('{"video": "pick", "batch": 0}\n')
    for checked, expected in (("0" * 64, 0), (sha256, 1)):
        with Journal.take_over(layout.journals("create_h5"), "0000") as journal:
            journal.verified("pick", checked)
        assert report_content(latest_run(mine))["verified"] == expected


def test_a_preview_is_linked_and_its_poster_inside_the_page(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    write_preview(mine, "pick")
    pick = row(report_content(latest_run(mine)), "pick")
    assert (mine / "report" / pick["preview"]).is_file()
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(pick["poster"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 480
    assert picture.std() > 20


def test_asked_to_the_report_draws_missing_previews_of_the_worst(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    write_report(mine, draw=5)
    assert [path.name for path in sorted(Layout(mine).previews.iterdir())] == ["pick.jpg", "pick.mp4"]
    drawn = (Layout(mine).previews / "pick.mp4").stat().st_mtime_ns
    write_report(mine, draw=5)
    assert (Layout(mine).previews / "pick.mp4").stat().st_mtime_ns == drawn, "what is there and newer is not drawn again"


def test_the_page_needs_no_other_file(page):
    assert not re.search(r'(src|href)="(?!data:|#)[^$]', page.split("<script>")[0])
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", page)


def test_text_cannot_end_the_data_or_become_markup(page):
    data = page.split('id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["losses"][0]["text"] == "there is <no> video stream"
    assert "innerHTML" not in page


def test_the_page_is_well_formed(page):
    opened = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img", "br"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []


def test_equal_runs_give_equal_pages(run_output, page):
    assert write_report(run_output).read_text(encoding="utf-8") == page


def test_a_run_without_a_dataset_has_a_report_too(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    (mine / "h5_dataset" / "index.sqlite").unlink()
    content = report_content(latest_run(mine))
    assert (content["packaged"], content["distributions"]) == (0, {})
    assert "videolift report" in report_html(content)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path)


def test_the_report_at_the_end_of_a_run_is_written_again_only_after_another_job(run_output, tmp_path):
    mine = Layout(tmp_path / "output")
    shutil.copytree(run_output, mine.output)
    mine.report.unlink(missing_ok=True)
    assert not is_report_fresh(mine)
    mine.manifests("depth").mkdir(parents=True)
    write_report(mine.output)
    assert is_report_fresh(mine)
    (mine.manifests("depth") / "0000-abc-0.json").write_text("{}")
    assert not is_report_fresh(mine)


def test_after_a_run_over_more_videos_than_a_page_lists_the_verdict_names_the_command_instead(
    run_output, tmp_path, monkeypatch, capsys
):
    mine = Layout(tmp_path / "output")
    shutil.copytree(run_output, mine.output)
    mine.report.unlink(missing_ok=True)
    verdict = ["verdict", "--run", str(latest_run(mine.output).folder)]
    monkeypatch.setattr(page_module, "MAX_ROWS", 3)
    workflow(verdict)
    assert f"videolift report --output {mine.output}" in capsys.readouterr().out
    assert not mine.report.exists()
    monkeypatch.setattr(page_module, "MAX_ROWS", 4)
    workflow(verdict)
    assert f"report: {mine.report}" in capsys.readouterr().out
    assert mine.report.exists()
