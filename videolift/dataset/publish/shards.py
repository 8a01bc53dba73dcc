"""Datasets that are merged into one: what each says of itself, and which of them a merged dataset was made of.

``merged.json`` in the merged folder names its shards and the index that each had. It is written before anything else, so that an
interrupted merge is recognised, and again at the end.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, repeat
from pathlib import Path
from typing import Any, Literal

from videolift.dataset.index.columns import DETAIL_COLUMNS, VIDEO_COLUMNS, IndexRow
from videolift.dataset.index.index_reader import INDEX_FILE, SUMMARY_FILE, open_index, read_index_rows
from videolift.dataset.publish.packaged_videos import read_backends
from videolift.dataset.splits import SplitRule
from videolift.errors import ConfigError
from videolift.store import read_json, sha256_file, write_json

MERGED_FILE = "merged.json"
_MERGED_FORMAT = "videolift.merged"
MergeMode = Literal["link", "reference"]
_WHERE = ("folder", "file")
_MAX_NAMED = 5


@dataclass(frozen=True)
class Shard:
    """A published dataset, about to be merged.

    Attributes:
        folder: of the dataset.
        index_sha256: of its index.
        videos: how many it has.
        splits: how its splits were drawn.
        card: what its card was given.
        left_out: its videos without a packaged file, with the reason.
        backends: id to identity.
    """

    folder: Path
    index_sha256: str
    videos: int
    splits: SplitRule
    card: Mapping[str, Any]
    left_out: Mapping[str, str]
    backends: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Shard:
        """The dataset in ``path``, or in the output folder ``path``.

        Raises:
            ConfigError: there is none, or it was published by an older release.
        """
        folder = path if (path / SUMMARY_FILE).is_file() else path / "h5_dataset"
        if not (folder / INDEX_FILE).is_file():
            what = "was published by an older videolift" if (folder / SUMMARY_FILE).is_file() else "holds no published dataset"
            raise ConfigError(f"{path} {what}: run `snakemake statistics` there, then merge")
        digest = sha256_file(folder / INDEX_FILE)  # first: a shard published meanwhile then counts as changed, never as merged
        with open_index(folder) as index:
            facts = {name: json.loads(value) for name, value in index.execute("SELECT name, value FROM dataset")}
            left_out = dict(index.execute("SELECT video, reason FROM left_out"))
        rule = facts["splits_rule"]
        splits = SplitRule(rule["seed"], tuple((name, share) for name, share in rule["shares"]))
        videos = facts["totals"]["videos"]
        return cls(
            folder.resolve(),
            index_sha256=digest,
            videos=videos,
            splits=splits,
            card=facts["card"],
            left_out=left_out,
            backends=read_backends(folder),
        )


@dataclass(frozen=True)
class ShardRecord:
    """A shard as ``merged.json`` names it: its folder relative to the merged one, and its index then (None: not yet merged)."""

    folder: str
    index_sha256: str | None
    videos: int


@dataclass(frozen=True)
class MergeRecord:
    """What a merged dataset was made of, and how it holds its files."""

    how: MergeMode
    shards: tuple[ShardRecord, ...]

    @classmethod
    def load(cls, folder: Path) -> MergeRecord | None:
        """Of a folder; None where nothing was ever merged into it.

        Raises:
            ConfigError: the record is damaged.
        """
        content: Any = read_json(folder / MERGED_FILE)
        if content is None and not (folder / MERGED_FILE).exists():
            return None
        try:
            if content["format"] != _MERGED_FORMAT or content["how"] not in ("link", "reference"):
                raise ValueError(f"format {content['format']!r}, how {content['how']!r}")
            shards = tuple(ShardRecord(str(row["folder"]), row["index_sha256"], int(row["videos"])) for row in content["shards"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{folder / MERGED_FILE} is damaged ({error!r}): delete it and merge again") from error
        return cls(content["how"], shards)

    def save(self, folder: Path) -> None:
        """Writes it into the merged dataset's folder."""
        write_json(folder / MERGED_FILE, {"format": _MERGED_FORMAT, **asdict(self)})


def relative_folder(of: Path, start: Path) -> str:
    """A folder as seen from another one, so that both may move together."""
    return Path(os.path.relpath(of.resolve(), start.resolve())).as_posix()


def united_rows(shards: Sequence[Shard]) -> Iterator[tuple[Shard, IndexRow]]:
    """Every video once with the first shard that has it, in the order of ids.

    Raises:
        ConfigError: videos of one id that are not the same; names some.
    """
    collisions: list[str] = []
    # Where its file lies may differ from shard to shard; all else belongs to the video.
    names = [column.name for column in (*VIDEO_COLUMNS, *DETAIL_COLUMNS)]
    streams = (zip(repeat(number), read_index_rows(shard.folder), strict=False) for number, shard in enumerate(shards))
    rows = heapq.merge(*streams, key=lambda one: (one[1].text("video"), one[0]))
    # The merge keeps the order of ids without holding any shard's rows; of equal ids the first shard comes first.
    for video, same in groupby(rows, key=lambda one: one[1].text("video")):
        (number, row), *others = same
        for other, another in others:
            # From the cause to its effects: other sources, or other settings, make the bytes differ as well.
            if row.value("source_sha256") != another.value("source_sha256"):
                why = "different sources"
            elif row.value("sha256") != another.value("sha256"):
                why = "one source, packaged with different settings or versions"
            else:
                pairs = zip(names, (*row.video, *row.detail), (*another.video, *another.detail), strict=True)
                why = next((f"{name} is {a!r} and {b!r}" for name, a, b in pairs if a != b and name not in _WHERE), "")
            if why:
                collisions.append(f"{video} in {shards[number].folder} and {shards[other].folder}: {why}")
        if len(collisions) >= _MAX_NAMED:  # datasets made with different settings differ in every video: five tell as much
            break
        yield shards[number], row
    if collisions:
        raise ConfigError(
            "these videos of one id are not the same:\n  "
            + "\n  ".join(collisions)
            + "\nName one of each otherwise (column `video` of the table), or take it out: videolift exclude"
        )
