"""What of a video is done, stale, quarantined, blocked or still to do; a pure decision over receipts, files and settings.

`Variant` says how a video is to be processed (backend identity per stage); `judge` compares that with the video's receipts, stage
by stage. It computes nothing and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from videolift.errors import Transient
from videolift.inputs.catalog import Video
from videolift.records.receipts import Receipt, fingerprint
from videolift.stage_table import NONE, PARTS, SPECS, STAGES, with_upstream
from videolift.store import sha256_file, sha256_of

Kind = Literal["done", "todo", "stale", "quarantined", "blocked", "none"]
ReadReceipt = Callable[[str, str], Receipt | None]
"""``read(stage, video)``."""
MISSING = "missing"
_ROW = "row"
_UNKNOWN = "not hashed yet"
UNREADABLE = "unreadable: "
"""What the input of a file begins with that is there and cannot be read; the system's own words follow."""


@dataclass(frozen=True)
class Variant:
    """How a video is to be processed.

    Attributes:
        identities: stage to its backend's identity, None for a stage set to ``none``.
        required: parts without which the packaged file is not made.
        settings: stage to its settings as they are for this video, JSON-able.
    """

    identities: Mapping[str, Mapping[str, Any] | None]
    required: tuple[str, ...] = PARTS
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def reads(self, stage: str) -> tuple[str, ...]:
        """What a stage reads, without additions that are switched off: they leave no trace in its fingerprint."""
        return tuple(name for name in SPECS[stage].reads if not SPECS[name].addition or self.identities.get(name) is not None)


@dataclass(frozen=True)
class StageState:
    """One video in one stage.

    Attributes:
        kind: done; todo (no receipt); stale (a receipt that no longer holds); quarantined (and it still holds); blocked (an
            upstream stage is quarantined); none (the stage is switched off).
        why: for people, e.g. ``settings changed: tracks.stride 1 -> 2``.
        fingerprint: what a receipt must carry to be fresh; empty when an input is not known yet.
        inputs: content hashes by input name, as far as known.
        files: size and mtime_ns of the row's files, when their hash was taken.
        receipt: the receipt judged, if any.
        touched: the artifact is the same by content but not by stat; its receipt should be rewritten.
    """

    kind: Kind
    why: str = ""
    fingerprint: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    receipt: Receipt | None = None
    touched: bool = False

    @property
    def is_released(self) -> bool:
        """Done, and its artifact was deleted since nothing was left to read it."""
        return self.kind == "done" and self.receipt is not None and self.receipt.state == "released"


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's sorted names and contents; ``missing`` where there is nothing."""
    if path.is_dir():
        return sha256_of([[p.relative_to(path).as_posix(), sha256_file(p)] for p in sorted(path.rglob("*")) if p.is_file()])
    return sha256_file(path) if path.is_file() else MISSING


def _hash_if_readable(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        # One bad file is this video's matter; a disk that is gone would set every video aside that lies on it.
        try:
            os.listdir(path.parent)
        except PermissionError:  # the folder answers, if only to say that this user may not look
            pass
        except OSError:
            raise Transient(
                f"{path.parent} does not answer ({error.strerror}): is its disk mounted? Then run the same command again"
            ) from error
        return f"{UNREADABLE}{error.strerror}"


def file_stat(path: Path) -> tuple[int, int]:
    """(bytes, mtime_ns) of a file, summed and latest over a folder, (0, 0) where there is nothing."""
    parts = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    stats = [p.stat() for p in parts if p.exists()]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def judge(
    video: Video,
    variant: Variant,
    read: ReadReceipt,
    output: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    vanished: bool = False,
    hash_new: bool = False,
) -> dict[str, StageState]:
    """State of ``video`` in every stage named and in all that those read.

    Hashes a file only where its time, not its size, differs from what a receipt recorded.

    Args:
        read: receipt reader, so that the caller may cache.
        vanished: the source is gone; a done ingest then stands as it is.
        hash_new: also hash files that no receipt knows; a job that is about to do the work needs that, a plan does not.

    Raises:
        Transient: the disk with the row's files is gone; one file that cannot be read is an input that says so (`UNREADABLE`).
    """
    states: dict[str, StageState] = {}
    for stage in with_upstream(*stages):
        identity = variant.identities.get(stage)
        if identity is None:
            states[stage] = StageState("none")
        else:
            receipt = read(stage, video.id)
            if receipt is not None and receipt.is_imported:
                # Made by another project: no setting of ours makes it stale.
                identity = receipt.backend
            inputs, files = _file_inputs(stage, video, receipt, vanished=vanished, hash_new=hash_new)
            states[stage] = _judge_stage(
                stage, identity, variant, states, receipt=receipt, output=output, inputs=inputs, files=files
            )
    return states


def reopened(states: Mapping[str, StageState]) -> dict[str, StageState]:
    """The same, but stale where an artifact was released and is read by a stage that has work to do.

    Args:
        states: of every stage; fewer stages can only find less.
    """
    out = dict(states)
    # From the end: what is reopened needs what it reads itself, which may have been released too.
    for stage in reversed(STAGES):
        if stage in out and out[stage].kind in ("todo", "stale"):
            again = {name: out[name] for name in SPECS[stage].reads if out[name].is_released}
            out |= {name: replace(state, kind="stale", why="released, and needed again") for name, state in again.items()}
    return out


def _judge_stage(
    stage: str,
    identity: Mapping[str, Any],
    variant: Variant,
    upstream: Mapping[str, StageState],
    *,
    receipt: Receipt | None,
    output: Path,
    inputs: dict[str, str],
    files: dict[str, tuple[int, int]],
) -> StageState:
    spec, pending = SPECS[stage], ""
    state_of = partial(StageState, inputs=inputs, files=files, receipt=receipt)
    for name in variant.reads(stage):
        state = upstream[name]
        if state.kind == "none":
            inputs[name] = NONE
        elif state.kind == "done" and state.receipt and state.receipt.artifact:
            inputs[name] = state.receipt.artifact.sha256
        elif state.kind in ("quarantined", "blocked"):
            # A part that nobody requires may be missing: the packaged file then says so.
            if name not in spec.optional or name in variant.required:
                return state_of("blocked", f"{name} is {state.kind}: {state.why}")
            inputs[name] = MISSING
        else:
            pending = pending or f"after {name}"
    if pending:
        return state_of("stale" if receipt else "todo", pending)
    # A plan hashes no new file: without its hash the fingerprint is not known, and the work counts as not done.
    wanted = "" if _UNKNOWN in inputs.values() else fingerprint(stage, identity, inputs)
    if receipt is None:
        return state_of("todo", "never done", wanted)
    if receipt.fingerprint != wanted:
        changes = [f"{name} changed" for name in sorted({*receipt.inputs, *inputs}) if receipt.inputs.get(name) != inputs.get(name)]
        changes += [f"{key} {old} -> {new}" for key, old, new in _changes(receipt.backend, identity)]
        why = "; ".join(changes) or "its record was written by another version"
        return state_of("stale", why, wanted)
    if receipt.state == "quarantined":
        text = receipt.reason.text if receipt.reason else ""
        return state_of("quarantined", text, wanted)
    if receipt.state == "released" or receipt.artifact is None or receipt.artifact.matches_stat(output):
        return state_of("done", "", wanted, touched=dict(receipt.files) != files)
    # Copied or restored from a backup: other times, the same bytes. Reading them again costs less than making them again.
    if receipt.artifact.matches_content(output):
        return state_of("done", "", wanted, touched=True)
    return state_of("stale", "its artifact is missing or changed", wanted)


def _file_inputs(
    stage: str, video: Video, receipt: Receipt | None, *, vanished: bool, hash_new: bool
) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    inputs: dict[str, str] = {}
    files: dict[str, tuple[int, int]] = {}
    spec = SPECS[stage]
    if vanished and receipt is not None:
        # The files cannot be asked any more, so what was recorded of them stands.
        names = {*spec.files, *spec.cells, _ROW}
        return {k: v for k, v in receipt.inputs.items() if k in names}, dict(receipt.files)
    for name in spec.files:
        if (given := getattr(video, name)) is None:
            continue
        path = Path(given)
        files[name] = (video.bytes, video.mtime_ns) if name == "path" and video.mtime_ns else file_stat(path)
        before = receipt.files.get(name) if receipt else None
        if receipt and before == files[name] and name in receipt.inputs:
            inputs[name] = receipt.inputs[name]
        # Of equal size and another time it may be a copy, and all the work still hold: worth hashing even for a plan.
        elif hash_new or (before and before[0] == files[name][0]):
            inputs[name] = _hash_if_readable(path)
        else:
            inputs[name] = _UNKNOWN
    if spec.row:
        inputs[_ROW] = sha256_of([getattr(video, cell) for cell in spec.row])
    inputs |= {cell: repr(getattr(video, cell)) for cell in spec.cells if getattr(video, cell) is not None}
    return inputs, files


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    out: list[tuple[str, Any, Any]] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += _changes(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append((prefix + key, a, b))
    return out
