"""What makes a run take imported artifacts as done: a receipt for each, a table of the videos, settings that fit them.

The receipts name a backend that begins with `videolift.records.receipts.IMPORTED`: what was imported never passes as another
backend's work, and no setting of another backend makes it stale. An imported video's source is its clip.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from videolift.artifacts import Published
from videolift.paths import Layout
from videolift.records.receipts import IMPORTED, Receipt, fingerprint, record, write_receipt
from videolift.stage_table import SPECS
from videolift.store import write_text

STAGES_IMPORTED = ("ingest", "depth", "tracks", "hands")
IDENTITY: dict[str, Any] = {"name": f"{IMPORTED}y2r", "version": 1}
TABLE, SETTINGS = "imported.csv", "imported.yaml"


@dataclass(frozen=True)
class ImportedVideo:
    """One video's artifacts.

    Attributes:
        artifacts: stage to what was published.
        frames: of the clip.
        notes: stage to what a person should know of its artifact.
        packaging: settings of tracks (``window_length``, ``stride``) and create_h5 (``size``) under which it is packaged.
    """

    video: str
    artifacts: Mapping[str, Published]
    frames: int
    text: str = ""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    packaging: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def write_receipts(layout: Layout, done: ImportedVideo) -> None:
    """Publishes the receipts of one video."""
    clip = done.artifacts["ingest"]
    for stage, published in done.artifacts.items():
        # Ingest reads no stage. Its input is the source, and here that is the clip itself.
        inputs: dict[str, str] = {name: done.artifacts[name].sha256 for name in SPECS[stage].reads if name in done.artifacts} or {
            "path": clip.sha256
        }
        receipt = Receipt(
            video=done.video,
            stage=stage,
            state="done",
            fingerprint=fingerprint(stage, IDENTITY, inputs),
            backend=IDENTITY,
            inputs=inputs,
            files={"path": (clip.bytes, clip.mtime_ns)} if stage == "ingest" else {},
            artifact=record(published, layout.output),
            frames=done.frames,
            checks=tuple(done.notes.get(stage, ())),
            versions={"videolift": version("videolift")},
            source=str(clip.path),
        )
        write_receipt(layout.receipt(stage, done.video), receipt)


def write_imported_run(output: Path, videos: Sequence[ImportedVideo]) -> Path:
    """Writes the table of the imported videos and the settings for a run over them; returns the settings.

    What most videos need stands in the settings themselves, the others are named under ``overrides``.
    """
    layout, text = Layout(output), io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["video", "path", "text"])
    for done in videos:
        path = layout.artifact("ingest", done.video).relative_to(output).as_posix()
        rows.writerow([done.video, path, done.text])
    write_text(output / TABLE, text.getvalue())
    counted = Counter(repr(done.packaging) for done in videos)  # repr: a mapping cannot be counted
    usual = max(videos, key=lambda done: counted[repr(done.packaging)])
    settings: dict[str, Any] = {"videos": str(output / TABLE), "output": str(output), **usual.packaging}
    others = {done.video: dict(done.packaging) for done in videos if done.packaging != usual.packaging}
    write_text(output / SETTINGS, yaml.safe_dump(settings | ({"overrides": others} if others else {}), sort_keys=False))
    return output / SETTINGS
