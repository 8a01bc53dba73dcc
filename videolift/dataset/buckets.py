"""The cache that makes merging thousands of videos cheap when few of them changed.

Videos fall into buckets by a hash of their id. A bucket's merged statistics are kept on disk under a key made of its videos and
the SHA-256 of their files; a bucket whose key is unchanged is read in one piece. Deleting the cache changes no result.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.abouts import Abouts
from videolift.dataset.accumulators import Accumulators
from videolift.dataset.sidecar import describe_file, packed_statistics, read_sidecar
from videolift.dataset.splits import DEFAULT, SplitRule, assign_split
from videolift.store import atomic_file, sha256_of

_Packed = dict[tuple[str, str], dict[str, NDArray[Any]]]
"""(group, split) to its packed accumulators."""
BUCKETS = 256
CACHE = Path("stats/.merged")
_CACHE_VERSION = 3


@dataclass(frozen=True, slots=True)
class Member:
    """One packaged file that counts, and what decides its split."""

    video: str
    path: Path
    sha256: str
    subject: str | None = None
    given_split: str | None = None
    rule: SplitRule = DEFAULT

    def split(self, about: dict[str, Any]) -> str:
        """Its split; ``about`` names the source it was cut from."""
        source = about.get("source_sha256")
        return assign_split(self.video, subject=self.subject, source=source, given=self.given_split, rule=self.rule)


@dataclass
class Bucketed:
    """Members merged.

    Attributes:
        statistics: (group, split) to its merged accumulators; a group is tier-scale.
        about: member to what `videolift.dataset.sidecar.describe_file` says of it, backends listed apart.
        read_again: members whose sidecars were read.
    """

    statistics: dict[tuple[str, str], Accumulators] = field(default_factory=dict)
    about: Abouts[Member] = field(default_factory=Abouts)
    read_again: int = 0

    def part(self, group: str, split: str) -> Accumulators:
        """The accumulators of a group's split, made when first asked for."""
        return self.statistics.setdefault((group, split), Accumulators())


def group_of(about: dict[str, Any]) -> str:
    """Name of the group of a file: tier-scale."""
    return f"{about['tier']}-{about['scale']}"


def merge_members(folder: Path, members: Sequence[Member]) -> Bucketed:
    """Statistics of all ``members``; the result does not depend on what was cached, nor on any order.

    Raises:
        CorruptFile: a packaged file cannot be read.
    """
    buckets: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        buckets[hashlib.sha256(member.video.encode()).digest()[0] % BUCKETS].append(member)
    out, cache = Bucketed(), folder / CACHE
    for number, some in sorted(buckets.items()):
        some.sort(key=lambda member: member.video)
        key = sha256_of([_CACHE_VERSION, [[m.video, m.sha256, m.subject, m.given_split, m.rule.seed, m.rule.shares] for m in some]])
        path = cache / f"{number:03d}.npz"
        if not _add_cached(path, key, some, out):
            fresh = merge_sidecars(some)
            _add(out, fresh, _save(path, key, fresh))
    _forget(cache, buckets)
    return out


def merge_sidecars(members: Iterable[Member]) -> Bucketed:
    """Statistics of some members, past the cache; raises as `merge_members`."""
    out = Bucketed()
    for member in members:
        sidecar = read_sidecar(member.path, member.sha256)
        out.about.put(member, sidecar.about)
        out.part(group_of(sidecar.about), member.split(sidecar.about)).merge_packed(sidecar.packed)
        out.read_again += 1
    return out


def add_file(out: Bucketed, member: Member, file: h5py.File) -> None:
    """Adds what an open packaged file itself says, past sidecars and caches.

    Raises:
        CorruptFile: it cannot be read.
    """
    about, packed = describe_file(file), packed_statistics(file)
    out.about.put(member, about)
    out.part(group_of(about), member.split(about)).merge_packed(packed)


def _add(out: Bucketed, some: Bucketed, packed: _Packed) -> None:
    out.about.adopt(some.about.texts(), some.about.backends)
    out.read_again += some.read_again
    for part, arrays in packed.items():
        out.part(*part).merge_packed(arrays)


def _save(path: Path, key: str, bucket: Bucketed) -> _Packed:
    packed = {part: statistics.pack() for part, statistics in sorted(bucket.statistics.items())}
    about = {member.video: text for member, text in bucket.about.texts().items()}
    content = {"key": key, "parts": list(packed), "about": about, "backends": bucket.about.backends}
    header = json.dumps(content, sort_keys=True).encode()
    arrays = {"header": np.frombuffer(header, np.uint8)}
    for i, part in enumerate(packed.values()):
        arrays |= {f"{i}/{name}": array for name, array in part.items()}
    with atomic_file(path, durable=False) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return packed


def _add_cached(path: Path, key: str, members: Sequence[Member], out: Bucketed) -> bool:
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
        out.part(group, split).merge_packed(arrays_)
    out.about.adopt({member: header["about"][member.video] for member in members}, header["backends"])
    return True


def _forget(cache: Path, buckets: Iterable[int]) -> None:
    used = {f"{number:03d}.npz" for number in buckets}
    for path in cache.glob("[0-9]*.npz") if cache.is_dir() else ():
        if path.name not in used:
            path.unlink()
