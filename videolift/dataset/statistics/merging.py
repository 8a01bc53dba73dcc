"""Statistics of thousands of videos merged, cheaply when few of them changed.

Videos fall into buckets by a hash of their id. A bucket's merged statistics are kept on disk under a key made of its videos and
the SHA-256 of their files; a bucket whose key is unchanged is read in one piece. Deleting the cache changes no result.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.dataset.splits import DEFAULT, SplitRule, assign_split
from videolift.dataset.statistics.accumulators import Accumulators
from videolift.dataset.statistics.sidecar import describe_file, packed_statistics, read_sidecar
from videolift.store import atomic_file, sha256_of

BUCKETS = 256
CACHE = Path("stats/.merged")
_CACHE_VERSION = 4


@dataclass(frozen=True, slots=True)
class Member:
    """One packaged file that counts, and what decides its split."""

    video: str
    path: Path
    sha256: str
    subject: str | None = None
    given_split: str | None = None
    rule: SplitRule = DEFAULT

    def split(self, about: Mapping[str, Any]) -> str:
        """Its split; ``about`` names the source it was cut from."""
        source = about.get("source_sha256")
        return assign_split(self.video, subject=self.subject, source=source, given=self.given_split, rule=self.rule)


@dataclass
class MergedVideos:
    """Members merged.

    Attributes:
        statistics: (group, split) to its merged accumulators; a group is tier-scale.
        about: member to what `describe_file` says of it; a backend in its lineage is a number, that of its place in ``backends``.
        backends: every backend that a lineage names, once: thousands of videos are made by the same few.
        read_again: members whose sidecars were read.
    """

    statistics: dict[tuple[str, str], Accumulators] = field(default_factory=dict)
    about: dict[Member, dict[str, Any]] = field(default_factory=dict)
    backends: list[Any] = field(default_factory=list)
    read_again: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def part(self, group: str, split: str) -> Accumulators:
        """The accumulators of a group's split, made when first asked for."""
        return self.statistics.setdefault((group, split), Accumulators())

    def describe(self, member: Member, about: Mapping[str, Any], numbers: Sequence[int] | None = None) -> None:
        """Takes in what is known of a member.

        Args:
            member: which one.
            about: what `describe_file` says.
            numbers: here, of the backends that the lineage numbers in its own way; None where it holds the backends themselves.
        """
        lineage = {}
        for stage, done in sorted(about.get("lineage", {}).items()):
            number = self.number(done.get("backend", {})) if numbers is None else numbers[done["backend"]]
            lineage[stage] = {**done, "backend": number}
        self.about[member] = {**about, "lineage": lineage}

    def number(self, backend: Any) -> int:
        """The place of a backend in `backends`, where it is added if it is new."""
        digest = sha256_of(backend)
        if digest not in self._numbers:
            self._numbers[digest] = len(self.backends)
            self.backends.append(backend)
        return self._numbers[digest]


def group_of(about: Mapping[str, Any]) -> str:
    """Name of the group of a file: tier-scale."""
    return f"{about['tier']}-{about['scale']}"


def merge_members(folder: Path, members: Sequence[Member]) -> MergedVideos:
    """Statistics of all ``members``; the result does not depend on what was cached, nor on any order.

    Raises:
        CorruptFile: a packaged file cannot be read.
    """
    buckets: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        buckets[hashlib.sha256(member.video.encode()).digest()[0] % BUCKETS].append(member)
    merged, cache = MergedVideos(), folder / CACHE
    for number, bucket in sorted(buckets.items()):
        bucket.sort(key=lambda member: member.video)
        facts = [[m.video, m.sha256, m.subject, m.given_split, m.rule.seed, m.rule.shares] for m in bucket]
        key, path = sha256_of([_CACHE_VERSION, facts]), cache / f"{number:03d}.npz"
        if not _add_cached(path, key, bucket, merged):
            fresh = merge_sidecars(bucket)
            _save(path, key, fresh)
            _add(merged, fresh)
    used = {f"{number:03d}.npz" for number in buckets}
    for path in cache.glob("[0-9]*.npz") if cache.is_dir() else ():
        if path.name not in used:
            path.unlink()
    return merged


def merge_sidecars(members: Iterable[Member]) -> MergedVideos:
    """Statistics of some members, past the cache; raises as `merge_members`."""
    merged = MergedVideos()
    for member in members:
        sidecar = read_sidecar(member.path, member.sha256)
        merged.describe(member, sidecar.about)
        merged.part(group_of(sidecar.about), member.split(sidecar.about)).merge_packed(sidecar.packed)
        merged.read_again += 1
    return merged


def add_file(merged: MergedVideos, member: Member, file: PackagedFile) -> None:
    """Adds what an open packaged file itself says, past sidecars and caches.

    Raises:
        CorruptFile: it cannot be read.
    """
    about, packed = describe_file(file), packed_statistics(file)
    merged.describe(member, about)
    merged.part(group_of(about), member.split(about)).merge_packed(packed)


def _add(merged: MergedVideos, bucket: MergedVideos) -> None:
    numbers = [merged.number(backend) for backend in bucket.backends]
    for member, about in bucket.about.items():
        merged.describe(member, about, numbers)
    for part, statistics in bucket.statistics.items():
        merged.part(*part).merge(statistics)
    merged.read_again += bucket.read_again


def _save(path: Path, key: str, bucket: MergedVideos) -> None:
    about = {member.video: about for member, about in bucket.about.items()}
    header = {"key": key, "parts": sorted(bucket.statistics), "about": about, "backends": bucket.backends}
    arrays: dict[str, NDArray[Any]] = {"header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)}
    for i, (_, statistics) in enumerate(sorted(bucket.statistics.items())):
        arrays |= {f"{i}/{name}": array for name, array in statistics.pack().items()}
    # Not durable: after a power cut a torn cache file is noticed by its zip checksums and made again.
    with atomic_file(path, durable=False) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _add_cached(path: Path, key: str, members: Sequence[Member], merged: MergedVideos) -> bool:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if header["key"] != key:
                return False
            names = ("layout", "moments", "extrema", "bins", "counts")
            packed = [{name: arrays[f"{i}/{name}"] for name in names} for i in range(len(header["parts"]))]
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False
    for (group, split), arrays_ in zip(header["parts"], packed, strict=True):
        merged.part(group, split).merge_packed(arrays_)
    numbers = [merged.number(backend) for backend in header["backends"]]
    for member in members:
        merged.describe(member, header["about"][member.video], numbers)
    return True
