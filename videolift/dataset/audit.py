"""What people judged of a dataset's labels: their marks, error rates with an interval, and the card's section.

Marks lie in ``audit.json`` beside the packaged files. Each names the content of the file it was made on, and counts as long as the
dataset holds that file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from videolift.errors import ConfigError
from videolift.store import read_json, write_text

AUDIT_FILE = "audit.json"
PARTS_JUDGED = ("hands", "tracks", "depth")
ANSWERS = ("right", "wrong", "unsure")
_TITLE = "## Judged by people"
_SECTION = re.compile(rf"\n*^{_TITLE}\n.*?(?=^## |\Z)", re.S | re.M)
Z_95 = 1.959964
"""Normal deviate that 95 % lie within."""


@dataclass(frozen=True)
class Mark:
    """One answer about one part of the labels of one frame.

    Attributes:
        sha256: of the packaged file that was looked at.
        part: one of `PARTS_JUDGED`.
        answer: one of `ANSWERS`.
    """

    video: str
    frame: int
    sha256: str
    part: str
    answer: str


@dataclass(frozen=True)
class ErrorRate:
    """Of one part: frames judged right or wrong, how many of them wrong, and how many left unsure beside them."""

    part: str
    judged: int
    wrong: int
    unsure: int
    videos: int

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true share of wrong frames lies, with 95 %; see `wilson_interval`."""
        return wilson_interval(self.wrong, self.judged)

    def __str__(self) -> str:
        share = f"{self.wrong / self.judged:.1%}, 95 % interval {_percent(self.interval)}" if self.judged else "none judged"
        videos = "1 video" if self.videos == 1 else f"{self.videos} videos"
        return f"{self.part}: {self.wrong} of {self.judged} frames wrong ({videos}): {share}; {self.unsure} unsure"


def wilson_interval(wrong: int, judged: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927): honest also at 0 of 20, where the usual one has no width.

    Args:
        wrong: of ``judged``.
        judged: independent samples; with none the interval is all of 0 to 1.
        z: normal deviate of the confidence.
    """
    if judged == 0:
        return 0.0, 1.0
    share, weight = wrong / judged, z * z / judged
    center = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / judged + weight / (4 * judged)) / (1 + weight)
    return max(0.0, center - half), min(1.0, center + half)


def read_marks(path: Path) -> list[Mark]:
    """The marks of a file that the audit sheet saved, or of ``audit.json``.

    Raises:
        ConfigError: it is not such a file.
    """
    content = read_json(path)
    names = {field.name for field in fields(Mark)}
    try:
        marks = [Mark(**{name: row[name] for name in names}) for row in content["marks"]] if content else None
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no marks ({error!r}): name the file that the audit sheet saved") from error
    if marks is None:
        raise ConfigError(f"{path} is not a file of marks: name the one that the audit sheet saved")
    for mark in marks:
        if mark.part not in PARTS_JUDGED or mark.answer not in ANSWERS or not isinstance(mark.frame, int):
            raise ConfigError(f"{path}: {mark} is not a mark: parts are {', '.join(PARTS_JUDGED)}, answers {', '.join(ANSWERS)}")
    return marks


def error_rates(marks: Iterable[Mark], contents: Iterable[tuple[str, str]]) -> list[ErrorRate]:
    """The rate of each part that was judged.

    Args:
        marks: those on files of another content are left out.
        contents: the dataset's videos with their files' sha256; read only where there are marks.
    """
    marks = list(marks)
    looked_at = {(mark.video, mark.sha256) for mark in marks}
    there = {pair for pair in contents if tuple(pair) in looked_at} if marks else set()
    current = [mark for mark in marks if (mark.video, mark.sha256) in there]
    rates = []
    for part in PARTS_JUDGED:
        mine = [mark for mark in current if mark.part == part]
        sure = [mark for mark in mine if mark.answer != "unsure"]
        if mine:
            # An unsure answer says nothing about the label: it is counted apart, in neither part of the share.
            wrong = sum(mark.answer == "wrong" for mark in sure)
            videos = len({mark.video for mark in sure})
            rates.append(ErrorRate(part, judged=len(sure), wrong=wrong, unsure=len(mine) - len(sure), videos=videos))
    return rates


def add_marks(folder: Path, new: Iterable[Mark], contents: Iterable[tuple[str, str]]) -> list[ErrorRate]:
    """Adds marks to a dataset and its card; a later answer about the same frame and part replaces the earlier one.

    Raises:
        ConfigError: ``audit.json`` is damaged.
        Transient: disk full, quota or I/O error.
    """
    path, card = folder / AUDIT_FILE, folder / "README.md"
    # The old ones first: of two answers to one question the later one stays.
    every = [*(read_marks(path) if path.exists() else ()), *new]
    kept = {(mark.video, mark.frame, mark.part, mark.sha256): mark for mark in every}
    rows = ",\n".join(f"  {json.dumps(asdict(kept[key]), ensure_ascii=False)}" for key in sorted(kept))
    write_text(path, f'{{"marks": [\n{rows}\n]}}\n')
    write_text(card, with_audit(card.read_text(encoding="utf-8"), folder, contents))
    return error_rates(kept.values(), contents)


def with_audit(card: str, folder: Path, contents: Iterable[tuple[str, str]]) -> str:
    """A card's text with the section about what people judged, if anybody has; ``contents`` as `error_rates`."""
    path = folder / AUDIT_FILE
    rates = error_rates(read_marks(path), contents) if path.exists() else []
    # The old section is removed first: adding marks twice must not leave two.
    bare = _SECTION.sub("\n", card).rstrip("\n") + "\n"
    if not rates:
        return bare
    cells = [(rate.part, rate.judged, rate.videos, rate.wrong, _percent(rate.interval), rate.unsure) for rate in rates]
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in cells]
    return f"""{bare}
{_TITLE}

Frames drawn at random over all videos, labels drawn on the picture, each part marked right or wrong (`videolift audit`). The
interval is Wilson's at 95 % for independent frames; those of one video are alike, so with few videos the truth may lie outside.

| part | frames judged | videos | wrong | share wrong, 95 % | unsure |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _percent(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"
