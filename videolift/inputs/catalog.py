"""Catalog: the videos that the user listed, each with an id that stays the same whatever else is in the folder.

Turns a folder, a CSV (`videolift.inputs.table`) or the rendered sample into `Video` rows. Says nothing about what was done
with them.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from videolift.config import Config, user_path
from videolift.errors import ConfigError
from videolift.inputs.table import read_table
from videolift.inputs.video import Video, video_id

__all__ = ["MAX_DEPTH", "SUFFIXES", "Video", "list_videos", "select", "video_id"]

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
MAX_DEPTH = 32
"""Folders below ``videos``; anything deeper is taken for a mount that loops back on itself."""


def list_videos(config: Config, *, root: Path, sample_rows: Sequence[Video] | None = None) -> list[Video]:
    """Every video of ``config.videos`` that falls to this run's shard, in a fixed order; ``only`` is not applied (`select` does).

    Args:
        config: ``videos`` is a folder, a CSV, or `sample`; relative to ``root``, like ``output``.
        root: the folder that the command was started for.
        sample_rows: the sample's rows as its renderer knows them before it has rendered anything.

    Raises:
        ConfigError: nothing found, ids that are equal or unsafe, a table with mistakes.
    """
    output = Path(os.path.abspath(root / user_path(config.output)))
    source = Path(os.path.abspath(root / user_path(config.videos)))
    if config.videos == "sample":
        table = output / "sample" / "videos.csv"
        if sample_rows is None and not table.is_file():
            raise ConfigError(f"the sample is not rendered yet ({table} is missing): run `snakemake sample`")
        videos = read_table(table, is_sample=True) if sample_rows is None else list(sample_rows)
    elif source.is_dir():
        videos = _from_folder(source, skip=output)
    elif source.is_file() and source.suffix.lower() == ".csv":
        videos = read_table(source)
    elif source.exists():
        raise ConfigError(f"videos is {config.videos!r}, one file: give a folder, a CSV with a column `path`, or `sample`")
    else:
        raise ConfigError(f"videos is {config.videos!r}: there is no folder or CSV at {source}")
    if not videos:
        raise ConfigError(f"no videos in {source}: looked for {', '.join(SUFFIXES)} in any case, in it and its folders")
    # Without regard to case: on a disk that ignores it, two such ids would be one folder.
    if len({video.id if video.id.islower() else video.id.casefold() for video in videos}) < len(videos):
        seen: dict[str, Video] = {}
        other, video = next(
            (other, video) for video in videos if (other := seen.setdefault(video.id.casefold(), video)) is not video
        )
        raise ConfigError(
            f"{other.path} and {video.path} both get the id {video.id!r} (letters' case does not count):"
            " rename one, or list them in a CSV with a column `video`"
        )
    mine = [video for video in videos if shard_of(video.id, config.shards) == config.shard] if config.shards > 1 else videos
    if not mine:
        which = f"shard {config.shard} of {config.shards}"
        raise ConfigError(f"{which} gets none of the {len(videos)} videos in {source}: name fewer shards")
    return mine


def shard_of(video: str, shards: int) -> int:
    """Which of so many runs a video belongs to: by a hash of its id, so that no other video moves it."""
    # Not the first byte, which chooses sub-folders: a shard should fill all of them.
    return int.from_bytes(hashlib.sha256(video.encode()).digest()[8:16]) % shards if shards > 1 else 0


def select(videos: Sequence[Video], patterns: Sequence[str]) -> list[Video]:
    """The videos whose id matches one of ``patterns`` (ids or globs); all of them where there are no patterns.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    if not patterns:
        return list(videos)
    ids = [video.id for video in videos]
    known, wanted = set(ids), set[str]()
    for pattern in patterns:
        found = {pattern} if pattern in known else set(fnmatch.filter(ids, pattern))
        if not found:
            near = difflib.get_close_matches(pattern, ids, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"the first of {len(ids)} is {ids[0]}" if ids else "nothing is listed"
            raise ConfigError(f"no video has the id {pattern!r}: {hint}")
        wanted |= found
    return [video for video in videos if video.id in wanted]


def _from_folder(folder: Path, skip: Path) -> list[Video]:
    walk = partial(_walk, os.fspath(folder), "", skip=os.fspath(skip), depth=0)
    videos = [Video(video_id(relative), path, size, mtime_ns, missing=gone) for relative, path, size, mtime_ns, gone in walk()]
    if len({video.id for video in videos}) < len(videos):
        # `a.mp4` and `a.mov` cannot both be `a`: where a stem occurs twice, both ids get a hash of the whole name.
        found = [(os.path.splitext(file[0])[0], file) for file in walk()]
        count = Counter(stem for stem, _ in found)
        videos = [
            Video(video_id(relative, shared_stem=count[stem] > 1), path, size, mtime_ns, missing=gone)
            for stem, (relative, path, size, mtime_ns, gone) in found
        ]
    videos.sort(key=attrgetter("id"))
    return videos


_FoundFile = tuple[str, str, int, int, bool]
"""Path relative to the listed folder, path, bytes, mtime_ns, missing."""


def _walk(folder: str, prefix: str, *, skip: str, depth: int) -> Iterator[_FoundFile]:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{folder} lies more than {MAX_DEPTH} folders deep: is a mount looping back on itself?")
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be listed: {error.strerror}; make it readable, or list the videos in a CSV") from error
    for entry in listed:
        # Linked folders are not entered: a link may lead back up.
        if entry.is_dir(follow_symlinks=False):
            # `lost+found` is the file system's own, and only root may list it.
            if entry.path != skip and entry.name != "lost+found":
                yield from _walk(entry.path, f"{prefix}{entry.name}/", skip=skip, depth=depth + 1)
        elif entry.name.lower().endswith(SUFFIXES):
            path = entry.path
            if entry.is_symlink():
                # A dangling link is listed, as missing: left out, its video would look as if the user had taken it from the list.
                if os.path.exists(path) and not os.path.isfile(path):
                    continue
                path = os.path.realpath(path)
            elif not entry.is_file():
                continue
            try:
                found = entry.stat()
            except OSError:  # also a file that was removed since the folder was read
                yield prefix + entry.name, path, 0, 0, True
            else:
                yield prefix + entry.name, path, found.st_size, found.st_mtime_ns, False
