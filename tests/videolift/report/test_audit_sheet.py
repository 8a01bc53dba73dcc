"""The sheet of samples: drawn evenly, judged in a browser by keys, saved, and on the card."""

import json
import shutil
from collections import Counter

import pytest
from typer.testing import CliRunner

from tests.chromium import CHROMEDRIVER, CHROMIUM, Chromium
from videolift.cli import app
from videolift.dataset.index import IndexEntry
from videolift.errors import ConfigError
from videolift.report.audit_sheet import draw_samples, write_audit_sheet

in_browser = pytest.mark.skipif(not (CHROMEDRIVER and CHROMIUM), reason="needs Chromium: apt-get install chromium chromium-driver")


def entry(video, frames):
    values = dict.fromkeys(IndexEntry._fields, None) | {"video": video, "sha256": video * 64, "frames": frames}
    return IndexEntry(**values)


def test_every_frame_is_equally_likely_and_none_comes_twice():
    entries, counts = [entry("a", 10), entry("b", 30)], Counter()
    for seed in range(200):
        drawn = draw_samples(entries, 20, seed)
        assert all(len(set(frames)) == len(frames) for _, frames in drawn)
        counts.update({one.video: len(frames) for one, frames in drawn})
    assert sum(counts.values()) == 4000
    assert abs(counts["a"] / 4000 - 0.25) < 0.02


def test_more_samples_than_frames_are_all_frames_and_an_empty_dataset_is_refused():
    assert draw_samples([entry("a", 3)], 100, 0) == [(entry("a", 3), [0, 1, 2])]
    with pytest.raises(ConfigError, match="empty"):
        draw_samples([], 100, 0)


@in_browser
def test_frames_are_judged_by_keys_and_the_rates_stand_on_the_card(run_output, tmp_path):
    output = tmp_path / "output"
    shutil.copytree(run_output, output)
    page = write_audit_sheet(output, samples=4)
    assert page == output / "report" / "audit.html"
    with Chromium(tmp_path / "profile") as browser:
        for width, dark in ((1200, False), (400, True)):
            browser.show(page, width=width, dark=dark)
            browser.wait("document.documentElement.dataset.ready && document.getElementById('labels').naturalWidth")
            assert browser.run("return document.documentElement.scrollWidth") <= width
        browser.press(*"rwu", *"rrr")
        assert browser.run("return document.getElementById('count').textContent") == "6 of 12 answered"
        browser.show(page)  # what was judged is still there
        assert browser.run("return document.getElementById('where').textContent").startswith("3 of 4: pick")
        saved = browser.run("return saved()")
        assert browser.console() == []
    (tmp_path / "marks.json").write_text(saved)
    assert [row["answer"] for row in json.loads(saved)["marks"]] == ["right", "wrong", "unsure", "right", "right", "right"]
    done = CliRunner().invoke(app, ["audit", "-o", str(output), "--marks", str(tmp_path / "marks.json")])
    assert done.exit_code == 0, done.output
    assert "tracks: 1 of 2 frames wrong (1 video): 50.0%" in done.output
    assert "| tracks | 2 | 1 | 1 |" in (output / "h5_dataset" / "README.md").read_text()
