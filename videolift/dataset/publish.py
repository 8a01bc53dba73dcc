"""From packaged files to a published dataset: statistics merged over all of them, the index ``dataset.json`` and the card.

`publish_dataset` may be called as often as one likes: it always speaks for exactly the files it is given, and reads again only
what changed since the last time. Its output depends on the files, the card's text and nothing else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from videolift.dataset.card import render_card
from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION
from videolift.dataset.splits import DEFAULT, SplitRule
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.merging import Member, MergedVideos, group_of, merge_members
from videolift.dataset.statistics.normalization_table import normalization_table
from videolift.errors import ConfigError
from videolift.store import write_text

TIER_ORDER = ("A", "B", "C", "D", "none")
SCALE_ORDER = ("metric", "hand", "assumed", "arbitrary", "none")
MAIN_STATISTICS = "normalization_stats.yaml"
_OWN_KEYS = ("subject", "split", "text")
"""Of a video's metadata, what the index holds under its own name."""


@dataclass(frozen=True, slots=True)
class PackagedVideo:
    """One packaged video, as the caller's records have it.

    Attributes:
        video: its id.
        path: the packaged file.
        sha256, bytes: of its content, as its receipt states them.
        metadata: ``subject``, ``split``, ``text`` and the user's own columns. All of it is published; never a path.
    """

    video: str
    path: Path
    sha256: str
    bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSummary:
    """What was published.

    Attributes:
        videos, frames, windows, points, bytes: totals.
        groups: group (tier-scale) to its number of videos.
        group: the one `MAIN_STATISTICS` holds; None for an empty dataset.
        left_out: videos that are not in `MAIN_STATISTICS`, with the reason; includes those of other groups.
        read_again: files whose statistics were read in this call; the rest came from the cache.
        files: statistics, index and card as published.
    """

    videos: int
    frames: int
    windows: int
    points: int
    bytes: int
    groups: Mapping[str, int]
    group: str | None
    left_out: Mapping[str, str]
    read_again: int
    files: tuple[Path, ...]


def publish_dataset(
    folder: Path,
    packaged: Sequence[PackagedVideo],
    *,
    left_out: Mapping[str, str],
    group: str | None = None,
    splits: SplitRule = DEFAULT,
    card: Mapping[str, Any] | None = None,
) -> DatasetSummary:
    """Writes statistics, index and card of exactly ``packaged`` into ``folder``.

    Args:
        folder: where the packaged files are.
        packaged: every video of the dataset.
        left_out: videos that have no packaged file, with the reason (quarantined, excluded, pending).
        group: tier-scale that `MAIN_STATISTICS` is to hold; None takes the best present.
        splits: how those videos are split that say nothing of it themselves.
        card: see `videolift.dataset.card.render_card`.

    Raises:
        ConfigError: ``group`` is not among the groups present.
        CorruptFile: a packaged file cannot be read.
    """
    rows = sorted(packaged, key=lambda row: row.video)
    members = [_member(row, splits) for row in rows]
    merged = merge_members(folder, members)
    groups = _groups(merged)
    chosen = _choose(groups, group)
    others = {m.video: f"group {g}, these statistics are of {chosen}" for g, many in groups.items() if g != chosen for m in many}
    not_in_main = dict(sorted({**left_out, **others}.items()))
    published = _write_statistics(folder, merged, groups, chosen, not_in_main)
    index = _index(rows, members, merged, groups, chosen, left_out, published)
    index |= {name: (card or {})[name] for name in ("license", "licences") if (card or {}).get(name)}
    write_text(folder / "dataset.json", _index_text(index))
    write_text(folder / "README.md", render_card(index, card or {}))
    return DatasetSummary(
        **index["totals"],
        groups={name: len(many) for name, many in groups.items()},
        group=chosen,
        left_out=not_in_main,
        read_again=merged.read_again,
        files=tuple(folder / name for name in (*published, "dataset.json", "README.md")),
    )


def _member(row: PackagedVideo, splits: SplitRule) -> Member:
    known = row.metadata.get
    return Member(row.video, row.path, row.sha256, known("subject"), known("split"), splits)


def _groups(merged: MergedVideos) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = defaultdict(list)
    for member, about in merged.about.items():
        found[group_of(about)].append(member)
    return {name: sorted(found[name], key=lambda m: m.video) for name in sorted(found, key=_rank)}


def _rank(group: str) -> tuple[int, int]:
    tier, _, scale = group.partition("-")
    return TIER_ORDER.index(tier), SCALE_ORDER.index(scale)


def _choose(groups: Mapping[str, Sequence[Member]], wanted: str | None) -> str | None:
    if wanted is None:
        return next(iter(groups), None)
    if wanted not in groups:
        present = ", ".join(groups) or "none"
        raise ConfigError(f"statistics.group is {wanted!r}, the dataset holds {present}: name one of them, or none for the best")
    return wanted


def _write_statistics(
    folder: Path,
    merged: MergedVideos,
    groups: Mapping[str, Sequence[Member]],
    chosen: str | None,
    not_in_main: Mapping[str, str],
) -> list[str]:
    names = []
    for name, members in groups.items():
        videos = [member.video for member in members]
        of_group = Accumulators.merged(stats for (g, _), stats in merged.statistics.items() if g == name)
        by_split = {split: stats for (g, split), stats in merged.statistics.items() if g == name}
        elsewhere = not_in_main if name == chosen else {}
        table = normalization_table(of_group, by_split, group=name, videos=videos, left_out=elsewhere)
        text = yaml.safe_dump(table, sort_keys=True, allow_unicode=True, width=1 << 20)
        files = [f"normalization_stats.{name}.yaml"] + ([MAIN_STATISTICS] if name == chosen else [])
        for file in files if len(groups) > 1 else files[1:]:
            write_text(folder / file, text)
            names.append(file)
    for stale in sorted(folder.glob("normalization_stats*.yaml")):
        if stale.name not in names:
            stale.unlink()
    return sorted(names)


def _index(
    rows: Sequence[PackagedVideo],
    members: Sequence[Member],
    merged: MergedVideos,
    groups: Mapping[str, Sequence[Member]],
    chosen: str | None,
    left_out: Mapping[str, str],
    statistics: list[str],
) -> dict[str, Any]:
    files = [_index_entry(row, member, merged.about[member]) for row, member in zip(rows, members, strict=True)]
    splits = defaultdict(list)
    totals = {"videos": len(rows), "frames": 0, "windows": 0, "points": 0, "bytes": 0}
    for file in files:
        splits[file["split"]].append(file["video"])
        for name in ("frames", "windows", "points", "bytes"):
            totals[name] += int(file.get(name, 0))
    return {
        "format": DATASET_FORMAT,
        "version": DATASET_VERSION,
        "files": files,
        "backends": merged.backends,
        "groups": {name: [member.video for member in many] for name, many in groups.items()},
        "statistics_group": chosen,
        "statistics": statistics,
        "splits": dict(splits),
        "left_out": dict(sorted(left_out.items())),
        "totals": totals,
    }


def _index_entry(row: PackagedVideo, member: Member, about: Mapping[str, Any]) -> dict[str, Any]:
    extra = {name: value for name, value in row.metadata.items() if value is not None and name not in _OWN_KEYS}
    own: dict[str, Any] = {"metadata": extra} if extra else {}
    own |= {"video": row.video, "file": row.path.name, "sha256": row.sha256, "bytes": row.bytes}
    return {**about, **own, "split": member.split(about)}


def _index_text(index: Mapping[str, Any]) -> str:
    """JSON with one line per file: small enough to compare, and encoded fast however many there are."""
    encode = partial(json.dumps, sort_keys=True, allow_nan=False, ensure_ascii=False)
    head = [f' "{key}": {encode(value)},\n' for key, value in sorted(index.items()) if key != "files"]
    files = ",".join(f"\n  {encode(file)}" for file in index["files"])
    return "{\n" + "".join(head) + ' "files": [' + files + "\n ]\n}\n"
