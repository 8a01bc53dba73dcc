"""The report in a real browser: it draws itself, filters, sorts, plays, fits a phone, and logs no error."""

import copy
import json
import random
import shutil

import pytest

from tests.chromium import CHROMEDRIVER, CHROMIUM, Chromium
from videolift.records.runs import latest_run
from videolift.report import write_preview, write_report
from videolift.report.page import report_content, report_html

pytestmark = pytest.mark.skipif(not (CHROMEDRIVER and CHROMIUM), reason="needs Chromium: apt-get install chromium chromium-driver")
TAB, ENTER = "\ue004", "\ue007"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def report(run_output, tmp_path_factory):
    mine = tmp_path_factory.mktemp("shown") / "output"
    shutil.copytree(run_output, mine)
    write_preview(mine, "pick")
    return write_report(mine)


@pytest.fixture(scope="module")
def large(run_output, tmp_path_factory):
    """A report of 10,000 videos, every fiftieth lost."""
    content = json.loads(json.dumps(report_content(latest_run(run_output))))
    pick = next(row for row in content["videos"] if row["id"] == "pick")
    broken = next(row for row in content["videos"] if row["id"] == "broken")
    draw, content["videos"] = random.Random(7), []
    for number in range(10_000):
        row = copy.deepcopy(broken if number % 50 == 0 else pick) | {"id": f"kitchen_{number:05d}"}
        if number % 50:
            row |= {
                "tier": draw.choice("ABC"),
                "scale": "metric",
                "split": draw.choice(["train", "val"]),
                "frames": 600,
                "fps": 10.0,
            }
            row |= {"windows": 591, "points": 591 * draw.randrange(200, 3000), "bytes": 10**8, "subject": f"person_{number % 40}"}
            row["scores"] = [float(f"{score['limit'] * draw.lognormvariate(-1, 1):.4g}") for score in content["scores"].values()]
            row |= {"worst": 3, "excess": row["scores"][3] / list(content["scores"].values())[3]["limit"]}
            row["text"] = "picks up the cup with the right hand and puts it down beside the plate"
            row["figures"] = [draw.random() for _ in content["figures"]] + [0.1234] * 10
        content["videos"].append(row)
    content["figures"] += [f"depth.figure_{number}" for number in range(10)]
    content["counts"] = {"done": 9800, "quarantined": 200, "excluded": 0, "pending": 0}
    path = tmp_path_factory.mktemp("large") / "index.html"
    path.write_text(report_html(content), encoding="utf-8")
    return path


def opened(browser, path, **how):
    browser.show(path, **how)
    browser.wait("document.documentElement.dataset.ready")
    return browser


def choose(browser, name, value):
    browser.run(
        f"const s = document.querySelector('[data-filter={name}]'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
        value,
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_report_draws_itself_without_an_error_and_fits_the_window(browser, report, width, dark):
    opened(browser, report, width=width, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelectorAll('.card').length") == 4
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    assert "[object" not in browser.run("return document.body.innerText")
    assert browser.console() == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_stage_has_a_colour_of_its_own_and_figures_stay_on_one_line(browser, report, dark):
    browser.show(report, dark=dark)
    swatches = "[...document.querySelectorAll('.legend i')].map((i) => i.getAttribute('style'))"
    drawn = browser.run(f"return {swatches}")
    colours = browser.run(
        "const style = getComputedStyle(document.documentElement); return D.stages.map((_, i) => style.getPropertyValue(`--c${i}`))"
    )
    assert len(set(drawn)) == len(drawn)
    assert all(colours)
    assert len(set(colours)) == len(colours) == 6
    lines = browser.run(
        """return [...document.querySelectorAll('#cost td.n')].map((cell) => {
          const range = document.createRange(); range.selectNodeContents(cell); return range.getClientRects().length; })"""
    )
    assert lines
    assert set(lines) == {1}


def test_a_preview_plays_in_its_card(browser, report):
    opened(browser, report)
    browser.run("document.querySelector('button.media').click()")
    browser.wait("document.querySelector('video').currentTime > 0.1")
    assert browser.console() == []


def test_a_video_without_a_preview_says_how_to_draw_one_and_its_card_is_as_low_as_what_it_holds(browser, large):
    opened(browser, large)
    assert "no preview yet: videolift preview kitchen_" in browser.run("return document.querySelector('.gallery').innerText")
    assert browser.run("return getComputedStyle(document.querySelector('.gallery')).alignItems") == "start"


def test_a_stage_that_the_run_leaves_out_has_no_row_of_time_and_memory(browser, report):
    opened(browser, report)
    stages = browser.run("return [...document.querySelectorAll('#cost tbody tr')].map((row) => row.cells[0].innerText)")
    assert stages == ["ingest", "depth", "tracks", "hands", "create_h5"]


def test_links_to_all_sections_are_in_sight_on_a_phone(browser, report):
    opened(browser, report, width=400)
    rights = browser.run("return [...document.querySelectorAll('nav a')].map((link) => link.getBoundingClientRect().right)")
    assert max(rights) <= 400


def test_filters_leave_what_they_name_and_the_number_is_said(browser, report):
    opened(browser, report)
    choose(browser, "state", "quarantined")
    assert browser.run("return [...document.querySelectorAll('.card h3')].map((h) => h.textContent)") == ["broken"]
    assert browser.run("return document.querySelector('[role=status]').textContent") == "1 video of 4"


def test_everything_can_be_reached_and_used_by_keyboard(browser, report):
    opened(browser, report)
    browser.run("document.querySelectorAll('.kinds button')[1].focus()")
    browser.press(ENTER)
    assert browser.run("return document.querySelectorAll('table')[0].rows.length") == 5
    browser.press(TAB, ENTER)
    assert browser.run("return document.querySelector('th[aria-sort]').innerText.trim()") == "video"
    for _ in range(3):
        browser.press(TAB)
    assert browser.run("return document.activeElement.matches('button, a, input, select, summary')")


def test_every_control_and_chart_has_a_name_for_a_screen_reader(browser, report):
    opened(browser, report)
    nameless = browser.run(
        """return [...document.querySelectorAll('button, select, input, a, svg, img, video')].filter((node) =>
        !(node.getAttribute('aria-label') || node.textContent.trim() || node.getAttribute('alt') ||
        node.closest('label'))).length"""
    )
    assert nameless == 0
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_ten_thousand_videos_stay_small_and_few_are_drawn_at_once(browser, large):
    assert large.stat().st_size < 20e6
    opened(browser, large)
    assert browser.run("return document.querySelectorAll('.card').length") < 50
    choose(browser, "reason", "audio_only")
    assert browser.run("return document.querySelector('[role=status]').textContent") == "200 videos of 10,000"
    browser.run("document.querySelectorAll('.kinds button')[1].click()")
    assert browser.run("return document.querySelectorAll('#list tbody tr').length") == 200
    assert browser.console() == []
