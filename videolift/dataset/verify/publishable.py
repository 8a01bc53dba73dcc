"""Is a dataset fit to be handed out? No path, host, user or source name inside, and which licence binds it most.

Everything that is text is searched: the index, the card, the statistics and every attribute of every file. Arrays hold numbers from
fixed formats and cannot carry names.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from videolift.dataset.file import PackagedFile
from videolift.dataset.index import INDEX_FILE, read_index
from videolift.dataset.index.index_reader import read_index_rows
from videolift.dataset.verify.file_checks import Finding

_PATH = re.compile(r"(?<![\w:/.~-])(?:/(?:[\w.@+~-]+/)+[\w.@+~-]+|~/[\w./-]+|[A-Za-z]:\\\\?[\w\\. -]+|file://\S+)")
_NEUTRAL = "Give neutral ids in the table's `video` column and leave names out of its other columns, then publish again."
STRICTNESS = ("NC-ND", "NC-SA", "NC", "non-commercial", "research", "AGPL", "GPL", "ND", "SA", "proprietary")
"""Marks in a licence's name, from the strictest down; a licence without any of them is permissive."""


@dataclass(frozen=True)
class PublicReport:
    """What stands in the way of handing a dataset out.

    Attributes:
        findings: places where a path or a name is inside.
        licence: the strictest of `licences`, "none stated" where the card names none.
        licences: all rows of the card.
    """

    findings: tuple[Finding, ...]
    licence: str
    licences: tuple[dict[str, str], ...]


def check_public(folder: Path, *, names: Iterable[str] = ()) -> PublicReport:
    """Searches a published dataset.

    Args:
        folder: of the dataset.
        names: further names that must not be inside, such as those of the source files. The host's and the user's always are.

    Raises:
        ConfigError: not a published dataset.
        CorruptFile: a file cannot be read.
    """
    index = read_index(folder)
    private = {"host": socket.gethostname(), "user": getpass.getuser()}
    # Names of one or two letters are found in every text.
    needles = [(what, name) for what, name in private.items() if len(name) > 2]
    needles += [("source", name) for name in sorted(set(names)) if len(name) > 2]
    findings: list[Finding] = []
    findings += _search(INDEX_FILE, "\n".join(index.left_out.values()), needles)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".md", ".yaml", ".csv", ".txt"):
            findings += _search(path.name, path.read_text(encoding="utf-8"), needles)
    for row in read_index_rows(folder):
        text = "\n".join(value for value in (*row.video, *row.detail) if isinstance(value, str))
        findings += _search(INDEX_FILE, text, needles)
    for entry in index.entries:
        with PackagedFile(folder / entry.path) as file:
            findings += _search(entry.path, json.dumps(file.attributes(), ensure_ascii=False, default=str), needles)
    licences = tuple(index.summary.get("licences", ()))
    return PublicReport(tuple(findings), strictest(row["licence"] for row in licences), licences)


def strictest(licences: Iterable[str]) -> str:
    """The licence that binds most."""
    # Marks count as whole words: not "ND" within "and", nor "GPL" within "AGPL".
    marks = [re.compile(rf"(?<![a-z]){re.escape(mark.casefold())}(?![a-z])") for mark in STRICTNESS]
    return min(
        licences,
        key=lambda licence: next((i for i, mark in enumerate(marks) if mark.search(licence.casefold())), len(marks)),
        default="none stated",
    )


def _search(name: str, text: str, needles: list[tuple[str, str]]) -> Iterator[Finding]:
    for found in sorted(set(_PATH.findall(text))):
        yield Finding(name, "path", f"holds the path {found}", _NEUTRAL)
    for what, needle in needles:
        # `__` is a border: it stands for `/` in ids.
        if re.search(rf"(?:(?<![\w-])|(?<=__)){re.escape(needle)}(?:(?![\w-])|(?=__))", text):
            yield Finding(name, what, f"holds the {what} name {needle!r}", _NEUTRAL)
