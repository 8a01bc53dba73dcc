"""Publishes packaged files as a dataset: statistics over all of them, the index and the card.

`publish_dataset` may be called as often as one likes: the result covers exactly the files it is given, and it reads again only
what changed since the last time. Its output depends on the files, the card's text and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from videolift.dataset.file import PackagedFile
from videolift.dataset.index.columns import IndexRow, encode_video, from_table
from videolift.dataset.index.index_reader import INDEX_FILE, open_index
from videolift.dataset.index.index_writer import IndexDraft, PublishedRow, draft_index
from videolift.dataset.publish.publication import DatasetSummary, PublicationSettings, describe_draft
from videolift.dataset.splits import DEFAULT, SplitRule, assign_split
from videolift.dataset.statistics.file_summary import describe_file
from videolift.dataset.statistics.merging import CACHE
from videolift.errors import ConfigError
from videolift.store import read_json, sha256_file, sha256_of, write_json

# 48 bits: a dataset sees tens of identities, and a thousand would collide once in half a billion datasets.
_BACKEND_ID_DIGITS = 12
_AS_PUBLISHED = CACHE / "index.json"
"""The SHA-256 of the index that was published last."""
_OWN = ("folder", "file", "bytes", "split", *from_table({}))
"""Columns that may change while a packaged file does not."""


@dataclass(frozen=True, slots=True)
class PackagedVideo:
    """One packaged video, as the caller's records have it.

    Attributes:
        video: its id.
        path: the packaged file, in the dataset's folder or below; text will do, as joining a hundred thousand takes a second.
        sha256, bytes: of its content, as its receipt states them.
        metadata: ``subject``, ``split``, ``text`` and the user's own columns. All of it is published; never a path.
    """

    video: str
    path: str | Path
    sha256: str
    bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


def publish_dataset(
    folder: Path,
    packaged: Sequence[PackagedVideo],
    *,
    left_out: Mapping[str, str],
    group: str | None = None,
    splits: SplitRule = DEFAULT,
    card: Mapping[str, Any] | None = None,
) -> DatasetSummary:
    """Writes statistics, index and card of exactly ``packaged`` into ``folder``; for the rest see `PublicationSettings`.

    Raises:
        ConfigError: ``group`` is not among the groups present.
        CorruptFile: a packaged file cannot be read.
    """
    settings = PublicationSettings(left_out, group, splits, card or {})
    is_known = False
    backends: dict[str, Any] = {}
    published = (read_json(folder / _AS_PUBLISHED) or {}).get("sha256")
    # The old index serves only with the bytes that were published: SQLite has no checksums, so a flipped bit would otherwise go on
    # from index to index. The packaged files hold the same facts.
    with suppress(FileNotFoundError, ConfigError):
        if published is not None and published == sha256_file(folder / INDEX_FILE):
            is_known, backends = True, read_backends(folder)
    with draft_index(folder) as draft:
        published_rows = draft.published_rows(folder, _OWN) if is_known else iter(())
        rows = _rows(folder, sorted(packaged, key=lambda row: row.video), splits, draft, published_rows, backends)
        publication = describe_draft(folder, draft, rows, backends, settings)
    summary = publication.write(folder)
    # Last: a publication that was killed leaves the old hash, which the new index does not have, and every file is opened.
    write_json(folder / _AS_PUBLISHED, {"sha256": sha256_file(folder / INDEX_FILE)})
    return summary


def read_backends(folder: Path) -> dict[str, Any]:
    """Id to identity of the backends in the index of ``folder``.

    Raises:
        ConfigError: the index is damaged.
    """
    with open_index(folder) as index:
        return {name: json.loads(identity) for name, identity in index.execute("SELECT id, identity FROM backend")}


def _rows(
    folder: Path,
    packaged: Iterable[PackagedVideo],
    splits: SplitRule,
    draft: IndexDraft,
    published: Iterator[PublishedRow],
    backends: dict[str, Any],
) -> Iterator[IndexRow | PublishedRow]:
    """Rows in the order of ids: those published before where the bytes are the same, else from the packaged file."""
    known = next(published, None)
    top = f"{folder}{os.sep}"
    for one in packaged:  # both come in the order of ids, so one pass over each will do
        while known is not None and known.video < one.video:
            known = next(published, None)
        # As text: `relative_to` took a tenth of the time of publishing a hundred thousand videos again.
        path = str(one.path)
        if not path.startswith(top):
            raise ValueError(f"{path} is not below {folder}")
        # Drawn anew for every video, since the rule may have changed while the file did not.
        draw = partial(assign_split, one.video, subject=one.metadata.get("subject"), given=one.metadata.get("split"), rule=splits)
        own: dict[str, Any] = {"folder": "", "file": path.removeprefix(top), "bytes": one.bytes, **from_table(one.metadata)}
        if known is not None and (known.video, known.sha256) == (one.video, one.sha256):
            # The same bytes: what the index said of them still holds, and the file is not opened.
            own["split"] = draw(source=known.source_sha256)
            unchanged = known.values == tuple(map(own.__getitem__, _OWN))
            yield known if unchanged else draft.published_row(one.video).with_values(own)
            continue
        with PackagedFile(Path(path)) as file:
            about = describe_file(file)
        lineage = {}
        for stage, done in about.get("lineage", {}).items():
            identity = done.get("backend", {})
            # Named by its hash, since thousands of videos share one identity.
            name = sha256_of(identity)[:_BACKEND_ID_DIGITS]
            backends[name] = identity
            lineage[stage] = {**done, "backend": name}
        row = encode_video({**about, "lineage": lineage or None}, {"video": one.video, "sha256": one.sha256, "split": ""})
        yield row.with_values({**own, "split": draw(source=row.text("source_sha256"))})
