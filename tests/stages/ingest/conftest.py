"""Ingest one file as the pool's worker does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.backend import Inputs, Quality
from stages.ingest import IngestSettings
from stages.ingest.pyav import BACKEND
from videolift.artifacts import Clip, ClipWriter
from videolift.inputs.video import Video
from videolift.pool import Device

Ingest = Callable[..., tuple[Clip, Quality]]
ROW = ("start_s", "end_s", "calib", "camera")


def run_ingest(
    path: Path, final: Path, threads: int = 2, progress: Callable[[int, int], None] = lambda done, total: None, **changes: Any
) -> Quality:
    """Writes ``final``; ``changes`` are the row's start_s, end_s, calib, camera, or settings (small frames by default)."""
    row = {key: changes.pop(key) for key in ROW if key in changes}
    backend = BACKEND(IngestSettings(**({"width": 64, "height": 48} | changes)), root=Path())
    backend.load(Device("cpu", "cpu", "a processor", 1 << 30, threads))
    writer = ClipWriter(final)
    try:
        quality = backend.process(Inputs(Video("video", str(path), **row)), writer, shrink=1, progress=progress)
        writer.publish()
    finally:
        writer.discard()
        backend.close()
    return quality


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    """``ingest(path, **changes)``: the open clip and what the backend said; see `run_ingest`."""
    clips: list[Clip] = []

    def run(path: Path, **changes: Any) -> tuple[Clip, Quality]:
        final = tmp_path / f"clip{len(clips)}.h5"
        quality = run_ingest(path, final, **changes)
        clips.append(Clip(final))
        return clips[-1], quality

    yield run
    for clip in clips:
        clip.close()
