"""The page shows every video with its state, worth, losses and picture, in one file that needs nothing else."""

import base64
import re
import shutil
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import yaml

from videolift.artifacts import Hands, Published
from videolift.config import Config
from videolift.errors import ConfigError
from videolift.inputs.video import Video
from videolift.paths import Layout
from videolift.records.freshness import Variant, judge
from videolift.records.receipts import Reason, Receipt, ReceiptCache, record, write_receipt
from videolift.records.runs import Entry, write_run
from videolift.records.status import Loss, Status, VideoStatus
from videolift.report import html, write_report
from videolift.report.facts import gather, hand_facts
from videolift.store import sha256_file, write_text

NAMES = {"ingest": "pyav", "depth": "rgbd", "tracks": "flow", "hands": "mediapipe", "create_h5": "hdf5"}
IDENTITIES = {stage: {"name": name, "version": 1} for stage, name in NAMES.items()}


def finish(output, video, stage, **about):
    """Writes the receipt that judges as fresh, with the artifact in the output folder where there is one."""
    layout = Layout(output)
    state = judge(video, Variant(IDENTITIES), ReceiptCache(layout), output, hash_new=True)[stage]
    path, artifact = layout.artifact(stage, video.id), None
    if path.exists():
        artifact = record(Published(path, path.stat().st_size, path.stat().st_mtime_ns, sha256_file(path)), output)
    known = {"state": "done", "artifact": artifact, "seconds": 1.5, "frames": 34} | about
    receipt = Receipt(
        video.id, stage, fingerprint=state.fingerprint, backend=IDENTITIES[stage], inputs=state.inputs, files=state.files, **known
    )
    write_receipt(layout.receipt(stage, video.id), receipt)


@pytest.fixture(scope="module")
def run_output(output, tmp_path_factory):
    mine = tmp_path_factory.mktemp("run")
    shutil.copytree(output, mine, dirs_exist_ok=True)
    videos = {}
    for name in ("pick", "broken", "waiting"):
        source = mine / f"{name}.mp4"
        source.write_bytes(name.encode())
        videos[name] = Video(name, source, source.stat().st_size, source.stat().st_mtime_ns)
    finish(mine, videos["pick"], "ingest")
    finish(mine, videos["pick"], "depth", figures={"valid_share": 0.9876543}, checks=("depth given in <metres>",))
    finish(mine, videos["pick"], "tracks")
    finish(mine, videos["pick"], "hands")
    write_text(mine / "h5_dataset" / "pick.hdf5", "stands for the packaged file, which the page does not open")
    finish(mine, videos["pick"], "create_h5")
    why = Reason("bad_input", "audio_only", "there is <no> video stream", "Give a file with pictures.")
    finish(mine, videos["broken"], "ingest", state="quarantined", reason=why)
    entries = [Entry(video, "b0") for video in videos.values()]
    write_run(
        Layout(mine).run("abc"), Config(videos="somewhere"), [Variant(IDENTITIES)], entries, {"excluded": {"gone": "wrong person"}}
    )
    table = {"group": "A-metric", "videos": ["pick"], "left_out": {"broken": "audio only"}}
    table |= {"depth_mean": 0.7123456, "depth_std": 0.1, "pose_mean": [1.0, 0.5], "pose_std": [0.1, 0.2]}
    write_text(mine / "h5_dataset" / "normalization_stats.yaml", yaml.safe_dump(table))
    return mine


@pytest.fixture(scope="module")
def page(run_output):
    path = write_report(run_output)
    assert path == run_output / "report.html"
    return path.read_text(encoding="utf-8")


def section(page, video):
    return next(part for part in page.split("<section")[1:] if f"<h3>{video} " in part)


def test_every_video_is_there_with_its_state_losses_first(page):
    order = re.findall(r"<h3>(\w+) <span class='state (\w+)'>", page)
    assert order == [("broken", "quarantined"), ("waiting", "pending"), ("pick", "done"), ("gone", "excluded")]
    assert "4 in = 1 done + 1 quarantined + 1 excluded + 1 pending" in page


def test_a_loss_comes_with_its_code_and_remedy_and_text_is_escaped(page):
    broken = section(page, "broken")
    assert "there is &lt;no&gt; video stream" in broken
    assert "audio_only" in broken
    assert "Give a file with pictures." in broken
    assert "wrong person" in section(page, "gone")


def test_a_done_video_shows_its_worth_figures_and_notes(page):
    pick = section(page, "pick")
    for text in (
        "tier A (sensor)",
        "scale metric",
        "pose given",
        "valid_share 0.9877",
        "depth given in &lt;metres&gt;",
        "right 100%",
        "tracks flow",
    ):
        assert text in pick
    assert "192 x 144, 34 frames, 10 fps" in pick


def test_the_picture_is_inside_the_page(page):
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', section(page, "pick")).group(1)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 480
    assert picture.std() > 20
    assert "<img" not in section(page, "broken")


def test_the_page_needs_no_other_file_and_no_script(page):
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_page_is_well_formed(page):
    opened = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []


def test_statistics_are_shown_by_group_with_what_was_left_out(page):
    part = page.split("<h2>Statistics</h2>")[1].split("<h2>")[0]
    assert "A-metric: 1 videos" in part
    assert "0.7123" in part
    assert "1, 0.5" in part
    assert "broken: audio only" in part


def test_equal_runs_give_equal_pages(run_output, page):
    assert write_report(run_output).read_text(encoding="utf-8") == page


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no run"):
        write_report(tmp_path)


def test_a_damaged_artifact_leaves_what_the_receipts_say(run_output, tmp_path):
    mine = tmp_path / "output"
    shutil.copytree(run_output, mine)
    (mine / "depth" / "pick.h5").write_bytes(b"not hdf5")
    facts = gather(mine, "pick", ReceiptCache(Layout(mine)), picture=True)
    assert facts.thumbnail_jpeg is None
    assert facts.backends["depth"] == "rgbd"


def test_hands_that_leave_the_packaged_square_are_counted(output, truth):
    with Hands(output / "hand_poses" / "pick.h5") as hands:
        facts = hand_facts(hands, 192, 144)
    inside_clip = ((truth.keypoints_px >= -0.5) & (truth.keypoints_px < [191.5, 143.5])).all((1, 2))
    left, right = 24, 192 - 24  # the centred 144 x 144 square
    inside_square = inside_clip & ((truth.keypoints_px[..., 0] >= left - 0.5) & (truth.keypoints_px[..., 0] < right - 0.5)).all(1)
    assert facts.valid == {"left": 0.0, "right": 1.0}
    assert facts.cut_by_edge == pytest.approx(np.mean(~inside_clip))
    assert facts.cut_by_square == pytest.approx(np.mean(~inside_square))
    assert facts.cut_by_square > facts.cut_by_edge


def test_many_videos_get_a_note_that_pictures_end(monkeypatch):
    monkeypatch.setattr(html, "MOST_PICTURES", 2)
    status = Status(tuple(VideoStatus(f"v{i}", "excluded", loss=Loss("", "excluded", "no", "")) for i in range(5)))
    assert "Pictures of the first 2 videos; 3 more follow without." in html.render(status, [], {})
