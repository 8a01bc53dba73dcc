"""Manifests: the only files Snakemake knows. One per stage and batch, named by token and generation, written last.

The token says what was to be done (settings, videos, upstream); the generation rises when an artifact that a manifest vouches for
is missing or changed. So staleness is the absence of a file, and survives the loss of every cache.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videolift.records.receipts import ArtifactRecord
from videolift.stage_table import STAGES
from videolift.store import atomic_file, read_file

MANIFEST_FORMAT = "videolift.manifest/2"
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
    videos: Mapping[str, Row]
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
    value = _read(path)
    if value is None:
        return None
    journal = FileStamp(**value["journal"]) if value.get("journal") else None
    rows = {}
    for video, row in value["videos"].items():
        artifact = ArtifactRecord(**row["artifact"]) if row["artifact"] else None
        rows[video] = Row(row["state"], artifact, row["seconds"], tuple(row["checks"]))
    return Manifest(**(value | {"videos": rows, "journal": journal, "backends": tuple(value["backends"])}))


def read_states(path: Path) -> dict[str, str]:
    """State by video in the manifest at ``path``; empty where `read_manifest` gives None."""
    value = _read(path)
    return {video: row["state"] for video, row in value["videos"].items()} if value else {}


def standing_manifest(path: Path, output: Path, *, artifacts_seen: bool = False) -> dict[str, Any] | None:
    """The manifest at ``path`` as JSON holds it, if its journal and every artifact it vouches for have the same size and time.

    The journal is the record and the manifest what was read from it: where the journal is gone or has changed, a job looks again.

    Args:
        artifacts_seen: the caller knows that artifacts are there, and does not ask for each again.
    """
    value = _read(path)
    if value is None:
        return None
    folder = f"{output}{os.sep}"
    if value["stage"] in STAGES and not (value.get("journal") and _is_as_it_was(value["journal"], folder)):
        return None
    if artifacts_seen:
        return value
    vouched = (row["artifact"] for row in value["videos"].values() if row["artifact"] and row["state"] != "released")
    return value if all(_is_as_it_was(artifact, folder) for artifact in vouched) else None


def _is_as_it_was(recorded: Mapping[str, Any], folder: str) -> bool:
    try:
        stat = os.stat(folder + recorded["path"])  # joining paths would cost more than the call, half a million times
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (recorded["bytes"], recorded["mtime_ns"])


def _read(path: Path) -> dict[str, Any] | None:
    """What a manifest says, None where it is missing, damaged or of another version: its job then looks again."""
    data = read_file(path)
    if data is None:
        return None
    body = data[len(_HEAD % 0) : -len(b"}\n")]
    # Of the bytes and not of the values: a flipped digit would still be JSON.
    if data[: len(_HEAD % 0)] != _HEAD % zlib.crc32(body):
        return None
    value: dict[str, Any] = json.loads(body)
    return value if value.pop("format", None) == MANIFEST_FORMAT else None


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


def choose_target(stage: str, batch: str, token: str, present: Mapping[tuple[str, str], int], folder: Path, output: Path) -> Target:
    """The target of a stage and batch: the newest manifest of this token while it stands, else the next generation.

    Args:
        present: what `generations` found in ``folder``.
    """
    # A next generation has another name: Snakemake would take a file that is there for done.
    newest = present.get((batch, token))
    if newest is None:
        return Target(stage, batch, token, 0)
    target = Target(stage, batch, token, newest)
    return target if standing_manifest(target.path(folder), output) is not None else Target(stage, batch, token, newest + 1)


def remove_older(folder: Path, target: Target) -> None:
    """Removes manifests of the same batch that ``target`` replaces; they vouch for what is no longer there."""
    for match in filter(None, map(_NAME.fullmatch, os.listdir(folder))):
        if match["batch"] == target.batch and (match["token"], int(match["generation"])) != (target.token, target.generation):
            (folder / match[0]).unlink(missing_ok=True)
