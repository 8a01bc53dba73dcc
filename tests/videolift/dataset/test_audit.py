"""What people judged: rates with Wilson's interval, counted on the files that were looked at, on the card."""

from __future__ import annotations

import json

import pytest

from videolift.dataset.audit import AUDIT_FILE, Mark, add_marks, error_rates, read_marks, wilson_interval, with_audit
from videolift.errors import ConfigError

CARD = "# Hands at work\n\n## Settings\n\nnone\n"
CONTENTS = [("a", "1" * 64), ("b", "2" * 64)]


def mark(video="a", frame=0, part="hands", answer="right", sha256=None):
    return Mark(video, frame, sha256 or dict(CONTENTS)[video], part, answer)


@pytest.mark.parametrize(
    ("wrong", "judged", "low", "high"),
    [(0, 20, 0.0, 0.1611), (1, 20, 0.0089, 0.2361), (10, 100, 0.0552, 0.1744), (20, 20, 0.8389, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilsons(wrong, judged, low, high):
    """Figures of Newcombe 1998's formula, worked out by hand."""
    assert wilson_interval(wrong, judged) == pytest.approx((low, high), abs=1e-4)


def test_a_rate_counts_what_was_judged_and_leaves_the_unsure_aside():
    marks = [mark(frame=k, answer="wrong" if k < 2 else "right") for k in range(8)] + [mark("b", 1, answer="unsure")]
    (rate,) = error_rates(marks, CONTENTS)
    assert (rate.judged, rate.wrong, rate.unsure, rate.videos) == (8, 2, 1, 1)
    assert str(rate).startswith("hands: 2 of 8 frames wrong (1 video): 25.0%, 95 % interval 7.1% to 59.1%; 1 unsure")


def test_a_mark_on_a_file_that_was_made_anew_counts_no_more():
    assert error_rates([mark(sha256="9" * 64)], CONTENTS) == []


def test_the_card_shows_the_rates_once_and_a_later_answer_replaces_an_earlier_one(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    add_marks(tmp_path, [mark(answer="wrong"), mark(part="depth")], CONTENTS)
    (hands, depth) = add_marks(tmp_path, [mark(answer="right")], CONTENTS)
    assert (hands.wrong, depth.judged) == (0, 1)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith(CARD)
    assert card.count("## Judged by people") == 1
    assert "| hands | 1 | 1 | 0 | 0.0% to 79.3% | 0 |" in card
    assert with_audit(card, tmp_path, CONTENTS) == card
    (tmp_path / AUDIT_FILE).unlink()
    assert with_audit(card, tmp_path, CONTENTS) == CARD


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"marks": 3}', '{"marks": [{"video": "a"}]}', json.dumps({"marks": [mark(part="taste").__dict__]})]
)
def test_a_file_that_holds_no_marks_is_refused_with_what_to_name(tmp_path, text):
    path = tmp_path / "marks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="marks"):
        read_marks(path)
