"""A lost record made again by reading: an artifact carries what its receipt said, the packaged file what all receipts said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from videolift.carried_facts import content_sha256, read_facts
from videolift.errors import CorruptFile
from videolift.paths import Layout
from videolift.records.receipts import ArtifactRecord, Receipt, receipt_from_facts
from videolift.stage_table import PACKAGING
from videolift.store import attributes_of


def read_back(layout: Layout, stage: str, video: str) -> Receipt | None:
    """The receipt that a stage's artifact carries, or, where that was let go of, that the packaged file carries for it.

    None where neither can be read: the video is then done again. Whether the receipt still holds is for
    `videolift.records.freshness` to say, as of any other.
    """
    path = layout.artifact(stage, video)
    try:
        if path.is_file() and (facts := _facts(stage, path)) is not None:
            stat = path.stat()
            relative = path.relative_to(layout.output).as_posix()
            own = {name: fact for name, fact in facts.items() if name != "upstream"}
            return receipt_from_facts(own, ArtifactRecord(relative, stat.st_size, stat.st_mtime_ns, content_sha256(path)))
        packaged = layout.artifact(PACKAGING, video)
        if path.is_file() or stage == PACKAGING or not packaged.is_file():
            return None
        facts = _facts(PACKAGING, packaged) or {}
        upstream = facts.get("upstream", {}).get(stage)
        if upstream is None:
            return None
        released = ArtifactRecord(path.relative_to(layout.output).as_posix(), 0, 0, facts["inputs"][stage])
        return receipt_from_facts(upstream, released, "released")
    except (CorruptFile, OSError, KeyError, AttributeError):
        return None


def _facts(stage: str, path: Path) -> dict[str, Any] | None:
    """What an artifact carries; a packaged file has it among its attributes, so that its hash is that of the whole file."""
    if stage != PACKAGING:
        return read_facts(path)
    facts = attributes_of(path).get("facts")
    return facts if isinstance(facts, dict) else None
