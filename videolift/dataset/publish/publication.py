"""What describes a dataset as a whole, made from the rows of its index: statistics, summary and card.

`describe_draft` fills a drafted index and computes; `Publication.write` puts the text files beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from videolift.dataset.audit import with_audit
from videolift.dataset.index.columns import SCHEMA_VERSION, IndexRow
from videolift.dataset.index.index_reader import INDEX_FILE, SUMMARY_FILE
from videolift.dataset.index.index_writer import IndexDraft, PublishedRow
from videolift.dataset.layout import DATASET_FORMAT
from videolift.dataset.publish.card import render_card
from videolift.dataset.publish.card_facts import MAX_CARD_LINES, CardFacts
from videolift.dataset.splits import DEFAULT, SplitRule
from videolift.dataset.statistics.groups import choose_group, group_name, group_rank
from videolift.dataset.statistics.merging import BucketContents, GroupedStatistics, Member, bucket_of, merge_buckets
from videolift.dataset.statistics.normalization_table import normalization_table
from videolift.store import write_json, write_text

MAIN_STATISTICS = "normalization_stats.yaml"
_CARD_FILE = "README.md"
_TOTALS = ("frames", "windows", "points", "bytes")


@dataclass(frozen=True)
class PublicationSettings:
    """What a publication says beyond its videos.

    Attributes:
        left_out: videos that have no packaged file, with the reason (quarantined, excluded, pending).
        group: the one that `MAIN_STATISTICS` is to hold; None takes the best present.
        splits: how videos are split whose row names no split.
        card: see `videolift.dataset.publish.card.render_card`.
    """

    left_out: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    splits: SplitRule = DEFAULT
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSummary:
    """What was published.

    Attributes:
        videos, frames, windows, points, bytes: totals.
        groups: group to its number of videos.
        group: the one `MAIN_STATISTICS` holds; None for an empty dataset.
        left_out: how many videos are not in `MAIN_STATISTICS`; includes those of other groups.
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
    left_out: int
    read_again: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Publication:
    """Everything that is published beside the index: ``statistics`` are tables by file name."""

    summary: Mapping[str, Any]
    card: str
    statistics: Mapping[str, Mapping[str, Any]]
    read_again: int

    def write(self, folder: Path) -> DatasetSummary:
        """Writes the files into ``folder`` and removes statistics of groups that are gone.

        Raises:
            Transient: disk full, quota or I/O error.
        """
        for name, table in self.statistics.items():
            write_text(folder / name, yaml.dump(table, Dumper=yaml.CSafeDumper, sort_keys=True, allow_unicode=True, width=1 << 20))
        # A group may have no video any more; its old statistics would pass for current ones.
        for stale in sorted(folder.glob("normalization_stats*.yaml")):
            if stale.name not in self.statistics:
                stale.unlink()
        # After the statistics that it names: a reader that finds them listed finds them.
        write_json(folder / SUMMARY_FILE, self.summary)
        write_text(folder / _CARD_FILE, self.card)
        group, totals = self.summary["statistics_group"], self.summary["totals"]
        return DatasetSummary(
            **totals,
            groups=self.summary["groups"],
            group=group,
            left_out=self.summary["left_out"] + totals["videos"] - self.summary["groups"].get(group, 0),
            read_again=self.read_again,
            files=tuple(folder / name for name in (*self.statistics, SUMMARY_FILE, INDEX_FILE, _CARD_FILE)),
        )


def describe_draft(
    folder: Path,
    draft: IndexDraft,
    rows: Iterable[IndexRow | PublishedRow],
    backends: Mapping[str, Any],
    settings: PublicationSettings,
    *,
    elsewhere: Sequence[Path] = (),
) -> Publication:
    """Puts videos and all that is said of them into the draft of ``folder``'s index.

    Args:
        folder: of the dataset.
        draft: of its index, empty.
        rows: of all videos, in the order of their ids.
        backends: id to identity of those that lineages name, and perhaps of others.
        settings: what else is published; a video that has a row is not left out.
        elsewhere: other datasets that have counted some of the videos already.

    Raises:
        ConfigError: the group asked for is not present.
        CorruptFile: a packaged file cannot be read.
    """
    contents = BucketContents()
    draft.add_videos(rows)
    # Read back from the index instead of held in memory: there may be ten million.
    for video, sha256, split in draft.select("SELECT video, sha256, split FROM video ORDER BY video"):
        contents.add(video, sha256, split)
    counts: Counter[str] = Counter()
    for *worth, count in draft.select("SELECT tier, scale, intrinsics, count(*) FROM video GROUP BY tier, scale, intrinsics"):
        counts[group_name(*worth)] += count
    groups = {name: counts[name] for name in sorted(counts, key=group_rank)}
    group = choose_group(groups, settings.group)

    # Videos are asked for by bucket and only where a bucket changed, so that ten million need not be held at once.
    def members_of(numbers: Collection[int]) -> dict[int, list[Member]]:
        found: dict[int, list[Member]] = {number: [] for number in numbers}
        listed = draft.select("SELECT video, folder, file, sha256, split FROM video ORDER BY video")
        for video, below, file, sha256, split in listed:
            if (number := bucket_of(video)) in found:
                found[number].append(Member(video, folder / below / file, sha256, split))
        return found

    merged = merge_buckets(folder, contents.digests(), members_of, elsewhere)
    present = "SELECT 1 FROM video WHERE video = ?"
    absent = (row for row in sorted(settings.left_out.items()) if not any(draft.select(present, row[0])))
    left_out = dict(absent)
    sums = ", ".join(f"ifnull(sum({name}), 0)" for name in _TOTALS)
    (row,) = draft.select(f"SELECT count(*), {sums} FROM video")
    totals = dict(zip(("videos", *_TOTALS), row, strict=True))
    tables = _statistics(merged, groups, group, left_out)
    facts = CardFacts.of(draft.select)
    used = {backend: backends[backend] for backend in sorted({backend for _, backend in facts.backends})}
    summary = {
        "format": DATASET_FORMAT,
        "version": SCHEMA_VERSION,
        "index": INDEX_FILE,
        "groups": groups,
        "statistics_group": group,
        "statistics": sorted(tables),
        "splits": dict(draft.select("SELECT split, count(*) FROM video GROUP BY split ORDER BY split")),
        "left_out": len(left_out),
        "totals": totals,
    }
    summary |= {name: settings.card[name] for name in ("license", "licences") if settings.card.get(name)}
    # What a merge needs to know of this dataset stands in the index, as dataset.json stays small.
    draft.describe({**summary, "card": settings.card, "splits_rule": asdict(settings.splits)})
    draft.insert("left_out", left_out.items())
    draft.insert("backend", ((name, json.dumps(identity, sort_keys=True)) for name, identity in used.items()))
    summary["backends"] = used
    card = render_card(summary, facts, dict(islice(left_out.items(), MAX_CARD_LINES)), settings.card)
    card = with_audit(card, folder, draft.select("SELECT video, sha256 FROM video"))
    return Publication(summary, card, tables, merged.read_again)


def _statistics(
    merged: GroupedStatistics, groups: Mapping[str, int], chosen: str | None, left_out: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    for name, videos in groups.items():
        # The main table counts what it does not cover: videos without a file, and those of the other groups.
        absent = len(left_out) + sum(groups.values()) - videos if name == chosen else 0
        table = normalization_table(merged.of_group(name), merged.by_split(name), group=name, videos=videos, left_out=absent)
        if len(groups) > 1:  # a dataset of one group has one table, under the name that trainers look for
            tables[f"normalization_stats.{name}.yaml"] = table
        if name == chosen:
            tables[MAIN_STATISTICS] = table
    return dict(sorted(tables.items()))
