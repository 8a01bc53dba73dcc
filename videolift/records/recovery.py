"""A lost record made again by reading: an artifact carries what its receipt said, the packaged file what all receipts said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videolift.carried_facts import content_sha256, read_facts
from videolift.errors import CorruptFile
from videolift.paths import Layout
from videolift.records.receipts import ArtifactRecord, Receipt, receipt_from_facts
from videolift.stage_table import PACKAGING, SPECS
from videolift.store import attributes_of


def read_back(layout: Layout, stage: str, video: str) -> Receipt | None:
    """The receipt that a stage's artifact carries; None where it cannot be read.

    `videolift.records.freshness` says whether the receipt still holds, as of any other.
    """
    path = layout.artifact(stage, video)
    try:
        if not path.is_file() or (facts := _facts(stage, path)) is None:
            return None
        stat = path.stat()
        relative = path.relative_to(layout.output).as_posix()
        # What the packaged file carries of other stages is no part of its own receipt.
        own = {name: fact for name, fact in facts.items() if name != "upstream"}
        return receipt_from_facts(own, ArtifactRecord(relative, stat.st_size, stat.st_mtime_ns, content_sha256(path)))
    except (CorruptFile, OSError, KeyError, AttributeError):
        return None


def read_back_released(layout: Layout, stage: str, video: str) -> Receipt | None:
    """The receipt that the packaged file carries for a stage whose artifact was let go of; None where it has none."""
    path = layout.artifact(stage, video)
    try:
        if stage == PACKAGING or path.exists():  # the artifact itself says more
            return None
        facts = _facts(PACKAGING, layout.artifact(PACKAGING, video)) or {}
        # Its size and time are gone with it; its content is what packaging read.
        released = ArtifactRecord(path.relative_to(layout.output).as_posix(), 0, 0, facts["inputs"][stage])
        return receipt_from_facts(facts["upstream"][stage], released, "released")
    except (CorruptFile, OSError, KeyError, AttributeError):
        return None


def packaging_inputs(layout: Layout, video: str) -> Mapping[str, str]:
    """Content of the artifacts that a packaged file was made of, by stage; empty where there is no such file."""
    try:
        inputs = (_facts(PACKAGING, layout.artifact(PACKAGING, video)) or {})["inputs"]
        return {stage: inputs[stage] for stage in SPECS[PACKAGING].reads if stage in inputs}
    except (CorruptFile, OSError, KeyError, AttributeError, TypeError):
        return {}


def _facts(stage: str, path: Path) -> dict[str, Any] | None:
    """What an artifact carries; a packaged file has it among its attributes, so that its hash is that of the whole file."""
    if stage != PACKAGING:
        return read_facts(path)
    facts = attributes_of(path).get("facts")
    return facts if isinstance(facts, dict) else None
