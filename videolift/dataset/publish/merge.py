"""Merges datasets that were made apart into one, as if one run had made it: the same statistics, splits, card and index.

Videos stay where they are: the merged folder has hard links to them, or its index refers to their folders. Statistics come from
what the shards have counted already, so no video is read. A merge may be interrupted anywhere and given again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from videolift.dataset.index import INDEX_FILE
from videolift.dataset.index.columns import IndexRow
from videolift.dataset.index.index_reader import open_index
from videolift.dataset.index.index_writer import draft_index
from videolift.dataset.layout import SUFFIX
from videolift.dataset.publish.publication import DatasetSummary, PublicationSettings, describe_draft
from videolift.dataset.publish.shards import (
    MERGED_FILE,
    MergeMode,
    MergeRecord,
    Shard,
    ShardRecord,
    relative_folder,
    united_rows,
)
from videolift.errors import ConfigError
from videolift.paths import FLAT_VIDEOS, subfolder_of
from videolift.store import fsync_path, sha256_file, temporary_beside

_ROW_KEYS = {"licences": ("name", "licence", "of"), "models": ("name", "version", "weights")}
"""Rows of the card that shards bring together, and what they are ordered by."""
_TEMPORARY = ".*.tmp"
"""Names of files that are being written; a merged folder has one writer, so at its start they are those of a killed one."""
MERGE_LEASE = ".merge.lease"
"""In the merged folder while it is made: the folder that this one lies in need not be writable."""


def merge_datasets(out: Path, paths: Sequence[Path], *, how: MergeMode = "link", group: str | None = None) -> DatasetSummary:
    """Makes ``out`` the dataset of all shards together.

    Args:
        out: a new folder, or one that the same shards, and perhaps others, are to be merged into again.
        paths: of datasets, or of output folders; none takes those that were merged before.
        how: hard links, or references to where the files are.
        group: as `PublicationSettings.group`.

    Raises:
        ConfigError: something is not a dataset, cannot be linked, or does not go together with the rest.
        CorruptFile: a packaged file cannot be read.
        Transient: disk full, quota or I/O error.
    """
    record = MergeRecord.load(out)
    ours = (_TEMPORARY, f".*{MERGE_LEASE}*", MERGE_LEASE)  # a run that takes a lease over has files beside it
    if record is None and any(not any(map(path.match, ours)) for path in out.glob("*")):
        raise ConfigError(f"{out} holds something that no merge has made: name a new folder")
    if record is not None and record.how != how:
        raise ConfigError(f"{out} was merged by {record.how}: give --{record.how}, or name a new folder")
    before = record or MergeRecord(how, ())
    named = paths or [out / shard.folder for shard in before.shards]
    # In an order that does not depend on how they were named, so that the same shards give the same bytes.
    opened = {shard.folder: shard for shard in map(Shard.open, named)}
    shards = [opened[folder] for folder in sorted(opened, key=lambda folder: relative_folder(folder, out))]
    if not shards:
        raise ConfigError(f"nothing to merge: name the datasets to merge into {out}")
    if any(shard.folder == out.resolve() for shard in shards):
        raise ConfigError(f"{out} cannot be merged into itself: name a new folder first, then the datasets")
    present = {relative_folder(shard.folder, out) for shard in shards}
    if gone := [shard.folder for shard in before.shards if shard.folder not in present]:
        again = " ".join([str(out), *sorted(present), *gone])
        raise ConfigError(f"{out} also holds videos of {', '.join(gone)}: name every shard ({again}), or begin a new folder")
    for shard in shards[1:]:
        if shard.splits != shards[0].splits:
            raise ConfigError(
                f"splits are drawn by {shards[0].splits} in {shards[0].folder} and by {shard.splits} in {shard.folder}: give "
                f"both runs the same statistics.splits and run `snakemake statistics` in them"
            )
    videos = sum(1 for _ in united_rows(shards))  # collisions are found here, before anything is written
    out.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in out.rglob(_TEMPORARY):
        left_by_a_kill.unlink()
    known = {shard.folder: shard.index_sha256 for shard in before.shards}
    records = [ShardRecord(relative_folder(shard.folder, out), shard.index_sha256, shard.videos) for shard in shards]
    # Until the end the record vouches only for what was merged before: verify then says that this merge was not finished.
    MergeRecord(how, tuple(replace(record, index_sha256=known.get(record.folder)) for record in records)).save(out)
    placing = _Placing(out, how, in_subfolders=videos > FLAT_VIDEOS)
    reasons: dict[str, str] = {}
    for shard in shards:
        for video, reason in shard.left_out.items():
            # Of several reasons the alphabetically first, whatever the order of the shards; `describe_draft` drops those of videos
            # that another shard has.
            reasons[video] = min(reason, reasons.get(video, reason))
    settings = PublicationSettings(reasons, group, shards[0].splits, _card([shard.card for shard in shards]))
    backends = {name: identity for shard in shards for name, identity in shard.backends.items()}
    with draft_index(out) as draft:
        rows = placing.place(united_rows(shards))
        publication = describe_draft(out, draft, rows, backends, settings, elsewhere=[shard.folder for shard in shards])
        # Ids are unique whatever their case, in a run and in what runs make together: other file systems do not tell them apart.
        twins = "SELECT min(video), max(video) FROM video GROUP BY lower(video) HAVING count(*) > 1 LIMIT 1"
        for one, other in draft.select(twins):
            raise ConfigError(f"{one} and {other} differ only in upper and lower case: name one otherwise, in the table's `video`")
        placing.sync()  # the index is renamed into place at the end of this block: never before the links that it names
    summary = publication.write(out)
    # After the new index is in place: until then readers may still open what the old one names.
    placing.remove_strays()
    MergeRecord(how, tuple(records)).save(out)
    return replace(summary, files=(*summary.files, out / MERGED_FILE))


def changed_shards(folder: Path) -> Iterator[tuple[str, str]]:
    """Shards of a merged dataset that are no longer what was merged, as (folder, what is wrong); none for any other dataset.

    Raises:
        ConfigError: the record of the merge is damaged.
    """
    record = MergeRecord.load(folder)
    for shard in record.shards if record is not None else ():
        index = folder / shard.folder / INDEX_FILE
        if shard.index_sha256 is None:
            yield shard.folder, "was not merged to the end"
        elif not index.is_file():
            if record is not None and record.how == "reference":
                yield shard.folder, "is not there"
        elif sha256_file(index) != shard.index_sha256:
            yield shard.folder, "has changed since it was merged"


def _card(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One card of all: rows together, other facts where all shards agree; a licence that they do not agree in is ``other``."""
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(key for card in cards for key in card):
        values = [card.get(name) for card in cards]
        if name in _ROW_KEYS:
            rows = {tuple(row[key] for key in _ROW_KEYS[name]): row for value in values for row in value or ()}
            merged[name] = [rows[key] for key in sorted(rows)]
        elif all(value == values[0] for value in values):
            merged[name] = values[0]
        elif name == "license":
            merged[name] = "other"
    return merged


class _Placing:
    """Gives every video its place in the merged dataset: a hard link, or a reference."""

    def __init__(self, out: Path, how: MergeMode, *, in_subfolders: bool) -> None:
        self.out, self.how, self.in_subfolders = out, how, in_subfolders
        self._changed: set[Path] = set()

    def place(self, rows: Iterable[tuple[Shard, IndexRow]]) -> Iterator[IndexRow]:
        """The rows as the merged index has them, their files linked."""
        for shard, row in rows:
            folder = shard.folder / row.text("folder")
            if self.how == "reference":
                yield row.with_values({"folder": relative_folder(folder, self.out)})
                continue
            video, source = row.text("video"), folder / row.text("file")
            file = f"{subfolder_of(video)}/{source.name}" if self.in_subfolders else source.name
            target = self.out / file
            try:
                if not target.exists() or not target.samefile(source):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary = temporary_beside(target)  # a link cannot replace a file of that name, renaming can
                    os.link(source, temporary)
                    os.replace(temporary, target)
                    self._changed.add(target.parent)
            except FileNotFoundError as error:
                raise ConfigError(f"{source} is gone: run the workflow again in {shard.folder.parent}, then merge") from error
            except OSError as error:
                raise ConfigError(
                    f"{source} cannot be hard-linked into {self.out} ({error.strerror}): links stay within one file system. "
                    f"Merge with --reference, or into a folder there"
                ) from error
            yield row.with_values({"folder": "", "file": file})

    def sync(self) -> None:
        """Waits until the links are on the disk."""
        for folder in self._changed:
            fsync_path(folder)

    def remove_strays(self) -> None:
        """Removes links to videos that no shard has any more; the index is published."""
        with open_index(self.out) as index:
            for path in self.out.rglob(f"*{SUFFIX}") if self.how == "link" else ():
                found = index.execute("SELECT file FROM video WHERE video = ?", (path.stem,)).fetchone()
                if found is None or found[0] != path.relative_to(self.out).as_posix():
                    path.unlink()
