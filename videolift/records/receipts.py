"""Receipts: what was done to one video in one stage, with what, and what came out.

A receipt's fingerprint covers the backend's identity and the content hashes of its inputs, so equal bytes stop a wave of
recomputation. Receipts lie in their batch's journal (`videolift.records.journal`), and in a file of their own only where they
are handed over: by `videolift import`, or by a folder that an older videolift made. What is stale is decided by
`videolift.records.freshness`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from videolift.carried_facts import content_sha256
from videolift.errors import CorruptFile
from videolift.store import read_json, sha256_of, write_json

if TYPE_CHECKING:  # it brings all that artifacts need, and a plan needs none of it
    from videolift.artifacts import Published

RECEIPT_FORMAT = "videolift.receipt/1"
IMPORTED = "imported_"
"""What the name of a receipt's backend begins with where another project made the artifact."""
State = Literal["done", "quarantined", "released"]


@dataclass(frozen=True)
class ArtifactRecord:
    """What was published, by stat and by content."""

    path: str
    """Relative to the output folder."""
    bytes: int
    mtime_ns: int
    sha256: str

    def matches_stat(self, output: Path) -> bool:
        """True if the file is there with this size and time. Cheap; says nothing of its bytes."""
        try:
            stat = os.stat(os.path.join(output, self.path))  # a path object would cost more than the call
        except FileNotFoundError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.bytes, self.mtime_ns)

    def matches_content(self, output: Path) -> bool:
        """True if the file is there with these bytes, whatever its time."""
        path = output / self.path
        return path.is_file() and content_sha256(path) == self.sha256


@dataclass(frozen=True)
class Reason:
    """Why a video was quarantined."""

    kind: str
    code: str
    text: str
    remedy: str


@dataclass(frozen=True)
class Receipt:
    """One stage's record of one video."""

    video: str
    stage: str
    state: State
    fingerprint: str
    backend: Mapping[str, Any]
    """Name, version and the rest of the backend's identity."""
    inputs: Mapping[str, str]
    """Input name to SHA-256 of its content: ``source``, ``calib``, ``depth_file``, ``mask``, or an upstream stage."""
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Size and mtime_ns of those inputs that are files of the user's, when they were hashed."""
    artifact: ArtifactRecord | None = None
    shrink: float = 1.0
    seconds: float = 0.0
    frames: int = 0
    peak_bytes: int | None = None
    checks: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: Reason | None = None
    attempts: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """Path of the video's source; kept for a source that has vanished."""

    @property
    def is_imported(self) -> bool:
        """Another project made the artifact: no setting of ours makes it stale, and nobody here could make it again."""
        return self.state != "quarantined" and str(self.backend.get("name")).startswith(IMPORTED)


def fingerprint(stage: str, identity: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Hash of everything that decides what a stage computes for a video."""
    return sha256_of({"stage": stage, "backend": identity, "inputs": inputs})


def record(published: Published, output: Path) -> ArtifactRecord:
    """A published artifact as its receipt names it."""
    relative = published.path.relative_to(output).as_posix()
    return ArtifactRecord(relative, published.bytes, published.mtime_ns, published.sha256)


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON holds it."""
    return asdict(receipt)


def receipt_from_json(value: Mapping[str, Any]) -> Receipt:
    """The receipt that `receipt_to_json` gave.

    Raises:
        CorruptFile: it is not one; the text says what is wrong with it.
    """
    try:
        artifact, reason = value["artifact"], value["reason"]
        return Receipt(
            **dict(value)
            | {
                "artifact": ArtifactRecord(**artifact) if artifact else None,
                "reason": Reason(**reason) if reason else None,
                "checks": tuple(value["checks"]),
                "files": {name: (size, mtime_ns) for name, (size, mtime_ns) in value["files"].items()},
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFile(f"not a receipt: {type(error).__name__}: {error}") from error


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Hands a receipt over in a file of its own; see `videolift.store.write_json` for errors."""
    write_json(path, {"format": RECEIPT_FORMAT, **receipt_to_json(receipt)})


def read_receipt(path: Path) -> Receipt | None:
    """The receipt handed over at ``path``, None if there is none (a torn file counts as none: its artifact tells the same).

    Raises:
        CorruptFile: written by a newer videolift, or damaged.
    """
    value = read_json(path)
    if value is None:
        return None
    if value.pop("format", None) != RECEIPT_FORMAT:
        raise CorruptFile(f"{path}: not a receipt of this version of videolift; update videolift or use another output folder")
    try:
        return receipt_from_json(value)
    except CorruptFile as error:
        raise CorruptFile(f"{path}: {error}; delete it, and what it said is read back from its artifact") from error


def carried_facts(receipt: Receipt) -> dict[str, Any]:
    """What of a receipt its artifact carries: nothing of when and where it was made, so that equal work gives equal bytes."""
    # No seconds, peaks, versions or attempts: they differ from machine to machine, and the bytes must not.
    names = ("video", "stage", "fingerprint", "shrink", "frames")
    facts: dict[str, Any] = {name: getattr(receipt, name) for name in names}
    facts |= {"backend": dict(receipt.backend), "inputs": dict(receipt.inputs), "checks": list(receipt.checks)}
    return facts | {"figures": dict(receipt.figures)}


def receipt_from_facts(facts: Mapping[str, Any], artifact: ArtifactRecord, state: State = "done") -> Receipt:
    """The receipt of an artifact whose record is lost, by what it carries.

    Raises:
        CorruptFile: these are not facts of `carried_facts`.
    """
    # Without stats of files they are hashed once more, and what is recorded then is true of this machine.
    value = {**facts, "state": state, "files": {}, "artifact": asdict(artifact), "reason": None}
    return receipt_from_json(value)
