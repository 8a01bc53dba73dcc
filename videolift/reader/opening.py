"""A published dataset as its readers choose from it: files by split, group and tier, from the index alone."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from videolift.dataset.file import PackagedFile
from videolift.dataset.index import IndexEntry, read_index
from videolift.dataset.windows import window_starts
from videolift.errors import ConfigError
from videolift.reader.selection import Selection
from videolift.shot_ranges import FrameRange

ALL_GROUPS = "all"
"""Given instead of a group: every group together."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFile:
    """One packaged file, and what tells its samples without opening it.

    Attributes:
        windows, stride: their number, and frames from one to the next.
        fps: frames per second.
        text: what is done in the video.
        ranges: the index's columns ``unbroken``, ``left_known`` and ``right_known``, in its own JSON: read only by who asks.
    """

    path: Path
    windows: int
    stride: int
    fps: float
    text: str
    ranges: tuple[str | None, str | None, str | None]

    @classmethod
    def look(cls, path: Path) -> DatasetFile:
        """Of a file that is in no index.

        Raises:
            CorruptFile: the file cannot be read.
        """
        with PackagedFile(path) as file:
            left, right = file.hands_known or (None, None)
            ranges = json.dumps(file.unbroken), _encoded(left), _encoded(right)
            fps, text = file.attribute_of_type("fps", float), file.attribute("text", "")
            return cls(path, len(file.window_start), file.stride, fps=fps, text=text, ranges=ranges)

    @property
    def unbroken(self) -> list[FrameRange]:
        """First frame and end of each stretch without a cut or a gap in time."""
        return _decoded(self.path, self._ranges[0]) or []

    @property
    def hands_known(self) -> tuple[list[FrameRange], list[FrameRange]] | None:
        """Stretches in which the left and the right hand are known, and the camera; None without hands or camera."""
        left, right = (_decoded(self.path, ranges) for ranges in self._ranges[1:])
        return None if left is None or right is None else (left, right)

    @property
    def _ranges(self) -> tuple[str | None, str | None, str | None]:
        return self.ranges if self.ranges[0] is not None else DatasetFile.look(self.path).ranges  # the index is of an older release


def _encoded(ranges: list[FrameRange] | None) -> str | None:
    return None if ranges is None else json.dumps(ranges)


def _decoded(path: Path, ranges: str | None) -> list[FrameRange] | None:
    if ranges is None:
        return None
    try:
        found = [(int(first), int(end)) for first, end in json.loads(ranges)]
        if any(a >= b or a < 0 for a, b in found) or any(before[1] > after[0] for before, after in itertools.pairwise(found)):
            raise ValueError(ranges)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the index says of {path.name} that frames {ranges:.60} are known: run the statistics stage again"
        ) from error
    return found


@dataclass(frozen=True)
class ChosenFiles:
    """The files of a dataset that were chosen, and the group whose statistics fit them (None for several groups)."""

    folder: Path
    group: str | None
    files: tuple[DatasetFile, ...]
    entries: tuple[IndexEntry, ...]
    """In the order of ``files``."""


def choose_files(folder: Path | str, selection: Selection, *, split: str | None = None, group: str | None = None) -> ChosenFiles:
    """Files of a published dataset.

    Args:
        folder: holds ``index.sqlite``.
        selection: its tiers count, and tracks are asked for where it draws points.
        split: only videos of it.
        group: only videos of it, e.g. A-metric; ``all`` for every group; None for the group that ``normalization_stats.yaml``
            holds, and a warning names what that leaves out.

    Raises:
        ConfigError: no such dataset, split or group.
    """
    index = read_index(Path(folder))
    if group == ALL_GROUPS:  # no single statistics fit: `name` stays None unless all are of one group
        if split is not None and split not in {entry.split for entry in index.entries}:
            raise ConfigError(
                f"split is {split!r}, the dataset has {', '.join(sorted({e.split for e in index.entries})) or 'none'}"
            )
        entries = [entry for entry in index.entries if split in (None, entry.split)]
        chosen = {entry.group for entry in entries}
        name = chosen.pop() if len(chosen) == 1 else None
    else:
        entries, name = index.select(split=split, group=group)
        if group is None and not selection.tiers:
            others: dict[str, int] = {}
            for entry in index.entries:
                if split in (None, entry.split) and entry.group != name:
                    others[entry.group] = others.get(entry.group, 0) + (entry.windows or 0)
            if others:
                # Nothing else would tell that part of the dataset is not read.
                named = ", ".join(f"{other} ({windows} windows)" for other, windows in sorted(others.items()))
                text = "only videos of %s are read; left out are %s: name group=..., or group='all' for every one"
                _log.warning(text, name, named)
    needs_tracks = selection.tracks and selection.points
    wanted = [
        entry
        for entry in entries
        if (not selection.tiers or entry.tier in selection.tiers) and (not needs_tracks or "tracks" in entry.parts)
    ]
    root = Path(folder)  # made once: making paths is most of what opening a large dataset costs
    files = []
    for entry in wanted:
        windows = entry.windows
        if windows is None:  # an index of an older release leaves them out where there are no tracks, and knows of no cuts
            windows = len(window_starts(entry.frames, entry.window_length, entry.stride))
        ranges = entry.unbroken, entry.left_known, entry.right_known
        text = entry.text or ""
        files.append(DatasetFile(root / entry.path, windows, entry.stride, fps=entry.fps, text=text, ranges=ranges))
    return ChosenFiles(root, name, tuple(files), tuple(wanted))
