"""Statistics of many videos merged, cheaply when few of them changed.

Videos fall into buckets by a hash of their id. A bucket's merged statistics are kept on disk with the list of what was counted:
where nothing changed they are read in one piece, and where videos were only added those alone are read. Deleting the cache
changes no result.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.file_summary import packed_statistics
from videolift.dataset.statistics.groups import group_name
from videolift.store import atomic_file

# At 100,000 videos a bucket holds 400: adding one video reads and writes the sums of those, not of all.
BUCKETS = 256
CACHE = Path("stats/.merged")
# Raise it when `Accumulators.pack`, groups or buckets change: caches of another version are made anew.
_CACHE_VERSION = 6
_PACKED = ("layout", "moments", "extrema", "bins", "counts")


@dataclass(frozen=True, slots=True)
class Member:
    """One packaged file that counts, and the split it counts for."""

    video: str
    path: Path
    sha256: str
    split: str


@dataclass
class GroupedStatistics:
    """Statistics by (group, split), ``read_again`` counts the packaged files that were read."""

    parts: dict[tuple[str, str], Accumulators] = field(default_factory=dict)
    read_again: int = 0

    def part(self, group: str, split: str) -> Accumulators:
        """The accumulators of a group's split, made when first asked for."""
        return self.parts.setdefault((group, split), Accumulators())

    def of_group(self, group: str) -> Accumulators:
        """All splits of a group together."""
        return Accumulators.merged(statistics for (name, _), statistics in self.parts.items() if name == group)

    def by_split(self, group: str) -> dict[str, Accumulators]:
        """The splits of a group."""
        return {split: statistics for (name, split), statistics in self.parts.items() if name == group}


def bucket_of(video: str) -> int:
    """The bucket that a video falls into, in every dataset."""
    return hashlib.sha256(video.encode()).digest()[0] % BUCKETS


def _counted_line(video: str, sha256: str, split: str) -> bytes:
    """What a bucket's hash is made of: what was asked for and what was counted are compared by it."""
    return f"{video}\n{sha256}\n{split}\n".encode()


class BucketContents:
    """What every bucket holds, as hashes, so that a hundred thousand videos need not be held to see which buckets changed."""

    def __init__(self) -> None:
        self._hashes: dict[int, Any] = {}

    def add(self, video: str, sha256: str, split: str) -> None:
        """Counts a video in; they come in the order of their ids."""
        number = bucket_of(video)
        self._hashes.setdefault(number, hashlib.sha256()).update(_counted_line(video, sha256, split))

    def digests(self) -> dict[int, str]:
        """Bucket number to the hash of its videos."""
        return {number: found.hexdigest() for number, found in sorted(self._hashes.items())}


@dataclass(frozen=True)
class _Bucket:
    """A bucket from the cache: what was counted, as (video, sha256, split), and the packed statistics by (group, split)."""

    counted: frozenset[tuple[str, str, str]]
    packed: Mapping[tuple[str, str], Mapping[str, NDArray[Any]]]

    @classmethod
    def load(cls, path: Path) -> _Bucket | None:
        """None where there is none, or a damaged one, or one of another version."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                header = json.loads(arrays["header"].tobytes())
                if header["version"] != _CACHE_VERSION:
                    return None
                packed = {tuple(part): {name: arrays[f"{i}/{name}"] for name in _PACKED} for i, part in enumerate(header["parts"])}
                return cls(frozenset(map(tuple, header["counted"])), packed)
        except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, path: Path) -> None:
        parts = sorted(self.packed)
        header = {"version": _CACHE_VERSION, "counted": sorted(self.counted), "parts": parts}
        arrays: dict[str, NDArray[Any]] = {"header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)}
        for i, part in enumerate(parts):
            arrays |= {f"{i}/{name}": array for name, array in self.packed[part].items()}
        # Not durable: after a power cut a torn cache file is noticed by its zip checksums and made again.
        with atomic_file(path, durable=False) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @property
    def digest(self) -> str:
        contents = hashlib.sha256()
        for row in sorted(self.counted):
            contents.update(_counted_line(*row))
        return contents.hexdigest()

    def add_to(self, statistics: GroupedStatistics) -> None:
        for part, arrays in self.packed.items():
            statistics.part(*part).merge_packed(arrays)


def merge_buckets(
    folder: Path,
    digests: Mapping[int, str],
    members_of: Callable[[Collection[int]], Mapping[int, Sequence[Member]]],
    elsewhere: Sequence[Path] = (),
) -> GroupedStatistics:
    """Statistics of all videos of a dataset; the result does not depend on what was cached, nor on any order.

    Args:
        folder: of the dataset.
        digests: what is in every bucket, see `BucketContents`.
        members_of: the videos in some buckets; asked for those that changed.
        elsewhere: other datasets whose caches may have counted some of the videos.

    Raises:
        CorruptFile: a packaged file cannot be read.
    """
    merged, changed = GroupedStatistics(), []
    for number, digest in digests.items():
        known = _Bucket.load(_cache_path(folder, number))
        if known is not None and known.digest == digest:
            known.add_to(merged)
        else:
            changed.append(number)
    for number, members in members_of(changed).items() if changed else ():
        fresh, missing = GroupedStatistics(), {(member.video, member.sha256, member.split): member for member in members}
        for bucket in (_Bucket.load(_cache_path(one, number)) for one in (folder, *elsewhere)):
            # Extrema cannot be subtracted: a bucket that also counted a video which is not missing, or no longer, is of no use.
            if bucket is not None and bucket.counted <= missing.keys():
                bucket.add_to(fresh)
                missing = {key: member for key, member in missing.items() if key not in bucket.counted}
        _read_files(missing.values(), fresh)
        counted = frozenset((member.video, member.sha256, member.split) for member in members)
        _Bucket(counted, {part: statistics.pack() for part, statistics in fresh.parts.items()}).save(_cache_path(folder, number))
        merged.read_again += fresh.read_again
        for part, statistics in fresh.parts.items():
            merged.part(*part).merge(statistics)
    # Nobody would look at a bucket without videos again, or remove it.
    used = {_cache_path(folder, number) for number in digests}
    for path in (folder / CACHE).glob("[0-9]*.npz"):
        if path not in used:
            path.unlink()
    for sidecar in (folder / CACHE.parent).glob("*.npz"):  # older releases kept one per video, which file quotas count
        sidecar.unlink()
    return merged


def merge_members(folder: Path, members: Iterable[Member]) -> GroupedStatistics:
    """Statistics of some videos of a dataset, cached ones where those are they; writes nothing, raises as `merge_buckets`."""
    buckets: dict[int, list[Member]] = {}
    for member in members:
        buckets.setdefault(bucket_of(member.video), []).append(member)
    merged = GroupedStatistics()
    for number, wanted in sorted(buckets.items()):
        known = _Bucket.load(_cache_path(folder, number))
        if known is not None and known.counted == {(m.video, m.sha256, m.split) for m in wanted}:
            known.add_to(merged)
        else:
            _read_files(wanted, merged)
    return merged


def _read_files(members: Iterable[Member], merged: GroupedStatistics) -> None:
    for member in members:
        with PackagedFile(member.path) as file:
            # reading every attribute would take longer than the rest
            group = group_name(file.attribute("tier"), file.attribute("scale"), file.attribute("intrinsics"))
            merged.part(group, member.split).merge_packed(packed_statistics(file))
        merged.read_again += 1


def _cache_path(folder: Path, number: int) -> Path:
    return folder / CACHE / f"{number:03d}.npz"
