"""Manifests: the only files Snakemake knows. One per stage and batch, named by token and generation, written last.

The token says what was to be done (settings, videos, upstream); the generation rises when an artifact that a manifest vouches for
is missing or changed. So staleness is the absence of a file, and survives the loss of every cache.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videolift.fast_json import parse_json
from videolift.records.receipts import ArtifactRecord
from videolift.stage_table import STAGES
from videolift.store import atomic_file, read_file

MANIFEST_FORMAT = "videolift.manifest/3"
SETTLED = frozenset({"done", "none", "released"})
"""States of rows of which nothing is left to do in a stage."""
_HEAD = b'{"crc32":"%08x","manifest":'
"""Before the JSON that it is the checksum of: status and statistics take a manifest's word for hashes."""
_NAME = re.compile(r"(?P<batch>[a-z0-9]+)-(?P<token>[0-9a-f]{12})-(?P<generation>\d+)\.json")


@dataclass(frozen=True)
class Row:
    """One video in a manifest.

    Attributes:
        state: after the job.
        artifact: the state rests on.
        seconds: work recorded for it.
        checks: notes of its receipt.
    """

    state: str
    artifact: ArtifactRecord | None = None
    seconds: float = 0.0
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ManifestRows:
    """All rows of a manifest, column by column: half a million objects of 100,000 videos took seconds.

    Attributes:
        names: videos, in the order of the run's catalog.
        states, seconds, checks: as in `Row`.
        paths, bytes, mtimes_ns, sha256: of the artifacts; an empty path where there is none.
    """

    names: Sequence[str]
    states: Sequence[str]
    seconds: Sequence[float]
    checks: Sequence[Sequence[str]]
    paths: Sequence[str]
    bytes: Sequence[int]
    mtimes_ns: Sequence[int]
    sha256: Sequence[str]

    @classmethod
    def of(cls, rows: Mapping[str, Row]) -> ManifestRows:
        """The rows of some videos."""
        none = ArtifactRecord("", 0, 0, "")
        artifacts = [row.artifact or none for row in rows.values()]
        return cls(
            names=list(rows),
            states=[row.state for row in rows.values()],
            seconds=[row.seconds for row in rows.values()],
            checks=[row.checks for row in rows.values()],
            paths=[artifact.path for artifact in artifacts],
            bytes=[artifact.bytes for artifact in artifacts],
            mtimes_ns=[artifact.mtime_ns for artifact in artifacts],
            sha256=[artifact.sha256 for artifact in artifacts],
        )

    def artifact(self, index: int) -> ArtifactRecord | None:
        """What the row at ``index`` rests on."""
        if not self.paths[index]:
            return None
        return ArtifactRecord(self.paths[index], self.bytes[index], self.mtimes_ns[index], self.sha256[index])


@dataclass(frozen=True)
class FileStamp:
    """A file as it was: path relative to the output folder, size, time."""

    path: str
    bytes: int
    mtime_ns: int


def stamp(path: Path, output: Path) -> FileStamp:
    """The stamp of a file as it is now."""
    stat = path.stat()
    return FileStamp(path.relative_to(output).as_posix(), stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class Manifest:
    """What one job left behind."""

    stage: str
    batch: str
    token: str
    generation: int
    videos: ManifestRows
    journal: FileStamp | None = None
    """The journal that all this was read from; None for what follows the last stage and has none."""
    backends: tuple[Mapping[str, Any], ...] = ()
    """What made the artifacts, each once."""


@dataclass(frozen=True)
class Target:
    """The manifest a stage and batch should have."""

    stage: str
    batch: str
    token: str
    generation: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.batch}-{self.token}-{self.generation}.json"

    def path(self, folder: Path) -> Path:
        """Its file in the stage's manifest folder."""
        return folder / self.name


def write_manifest(path: Path, manifest: Manifest, *, times_ns: tuple[int, int] | None = None) -> None:
    """Publishes a manifest; ``times_ns`` (access, modification) make it as old as the one it replaces."""
    value = {"format": MANIFEST_FORMAT, **asdict(manifest)}
    body = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    with atomic_file(path) as temporary:
        temporary.write_bytes(_HEAD % zlib.crc32(body) + body + b"}\n")
    if times_ns is not None:
        os.utime(path, ns=times_ns)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at ``path``; None where it is missing, torn or of another version."""
    data = read_file(path)
    if data is None:
        return None
    body = data[len(_HEAD % 0) : -len(b"}\n")]
    # Of the bytes and not of the values: a flipped digit would still be JSON.
    if data[: len(_HEAD % 0)] != _HEAD % zlib.crc32(body):
        return None
    value: dict[str, Any] = parse_json(body)
    if value.pop("format", None) != MANIFEST_FORMAT:
        return None
    journal = FileStamp(**value["journal"]) if value["journal"] else None
    rows = ManifestRows(**value["videos"])
    return Manifest(**(value | {"videos": rows, "journal": journal, "backends": tuple(value["backends"])}))


def standing_manifest(path: Path, output: Path, *, artifacts_seen: bool = False, unchanged: Container[str] = ()) -> Manifest | None:
    """The manifest at ``path``, if its journal and every artifact it vouches for have the same size and time.

    The journal is the record and the manifest what was read from it: where the journal is gone or has changed, a job looks again.

    Args:
        artifacts_seen: the caller knows that artifacts are there, and does not ask for each again.
        unchanged: folders below ``output`` of which the caller knows that.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return None
    journal, rows = manifest.journal, manifest.videos
    if manifest.stage in STAGES and not (journal and _files_unchanged(output, [(journal.path, journal.bytes, journal.mtime_ns)])):
        return None
    vouched = (
        (place, size, mtime_ns)
        for place, size, mtime_ns, state in zip(rows.paths, rows.bytes, rows.mtimes_ns, rows.states, strict=True)
        if place and state != "released" and place.rpartition("/")[0] not in unchanged
    )
    return manifest if artifacts_seen or _files_unchanged(output, vouched) else None


def _files_unchanged(output: Path, files: Iterable[tuple[str, int, int]]) -> bool:
    """Of each file: path below ``output``, size and time as recorded."""
    try:
        # Relative to the open folder: else the kernel would walk its path half a million times.
        folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for path, size, mtime_ns in files:
                found = os.stat(path, dir_fd=folder)
                if found.st_size != size or found.st_mtime_ns != mtime_ns:
                    return False
        finally:
            os.close(folder)
    except OSError:
        return False
    return True


def generations(folder: Path) -> dict[tuple[str, str], int]:
    """Highest generation present per (batch, token); one listing of the folder."""
    found: dict[tuple[str, str], int] = {}
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return found
    for match in filter(None, map(_NAME.fullmatch, names)):
        key = (match["batch"], match["token"])
        found[key] = max(found.get(key, 0), int(match["generation"]))
    return found


def choose_target(
    stage: str, batch: str, token: str, present: Mapping[tuple[str, str], int], folder: Path, output: Path
) -> tuple[Target, Manifest | None]:
    """The target of a stage and batch, and what stands: the newest manifest of this token, else the next generation.

    Args:
        present: what `generations` found in ``folder``.
    """
    # Each generation has its own name: Snakemake would take a file that is there for finished work.
    newest = present.get((batch, token))
    if newest is None:
        return Target(stage, batch, token, 0), None
    target = Target(stage, batch, token, newest)
    manifest = standing_manifest(target.path(folder), output)
    return (target, manifest) if manifest is not None else (Target(stage, batch, token, newest + 1), None)


def remove_older(folder: Path, target: Target) -> None:
    """Removes manifests of the same batch that ``target`` replaces; they vouch for what is no longer there."""
    for match in filter(None, map(_NAME.fullmatch, os.listdir(folder))):
        if match["batch"] == target.batch and (match["token"], int(match["generation"])) != (target.token, target.generation):
            (folder / match[0]).unlink(missing_ok=True)
