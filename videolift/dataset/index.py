"""``dataset.json`` as its readers see it: which files there are, of which group and split. Never a glob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videolift.dataset.layout import DATASET_FORMAT, DATASET_VERSION
from videolift.errors import ConfigError
from videolift.store import read_json


@dataclass(frozen=True)
class IndexEntry:
    """One file of the dataset; ``about`` is everything the index says of it."""

    video: str
    file: str
    sha256: str
    split: str
    about: Mapping[str, Any]

    @property
    def group(self) -> str:
        """tier-scale."""
        return f"{self.about['tier']}-{self.about['scale']}"


@dataclass(frozen=True)
class Index:
    """A published dataset's files, and the group its ``normalization_stats.yaml`` holds (None when it is empty)."""

    folder: Path
    entries: tuple[IndexEntry, ...]
    statistics_group: str | None
    content: Mapping[str, Any]

    def select(self, *, split: str | None = None, group: str | None = None) -> tuple[list[IndexEntry], str]:
        """The files of a split and a group, and that group; None takes every split, and the main group.

        Raises:
            ConfigError: no such split or group.
        """
        group = group or self.statistics_group
        splits, groups = {entry.split for entry in self.entries}, {entry.group for entry in self.entries}
        for name, known, wanted in (("split", splits, split), ("group", groups, group)):
            if wanted is not None and wanted not in known:
                raise ConfigError(f"{name} is {wanted!r}, the dataset has {', '.join(sorted(known)) or 'none'}")
        return [e for e in self.entries if e.group == group and split in (None, e.split)], group or "none"


def read_index(folder: Path) -> Index:
    """Reads ``dataset.json``.

    Raises:
        ConfigError: not a published dataset.
    """
    content = read_json(folder / "dataset.json")
    if not isinstance(content, Mapping) or content.get("format") != DATASET_FORMAT or content.get("version") != DATASET_VERSION:
        raise ConfigError(f"{folder} holds no dataset.json of videolift: name the folder that the statistics stage wrote to")
    try:
        entries = tuple(IndexEntry(f["video"], f["file"], f["sha256"], f["split"], f) for f in content["files"])
        lists = [content["statistics"], content["groups"], *(content["groups"].values())]
        index = Index(folder, entries, content["statistics_group"], content)
        sound = all(isinstance(e.file, str) and Path(e.file).name == e.file and {"tier", "scale"} <= set(e.about) for e in entries)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'dataset.json'} is damaged ({error!r}): run the statistics stage again") from error
    if not sound or not all(isinstance(part, (list, dict)) for part in lists):
        raise ConfigError(f"{folder / 'dataset.json'} is damaged: run the statistics stage again")
    return index
