"""Previews of a batch, drawn in its own job from the packaged files: of the video with the worst scores, of all, or of none.

A preview is for people: what goes wrong with one is logged and stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from videolift.dataset.file import PackagedFile
from videolift.errors import VideoliftError
from videolift.paths import Layout
from videolift.report.attention import beyond_limit
from videolift.report.preview import is_preview_fresh, write_preview
from videolift.stage_table import PACKAGING

log = logging.getLogger("videolift")

MAX_SECONDS = 60.0
"""Of a video that a preview in a run shows, around its worst second; drawing takes half as long as it plays."""


def draw_previews(layout: Layout, which: str, videos: Sequence[str]) -> None:
    """Draws what the setting ``preview`` asks for.

    Args:
        layout: of the output folder.
        which: ``none``, ``worst`` or ``all``.
        videos: of the batch, packaged.
    """
    if which == "none" or not videos:
        return
    chosen = list(videos)
    if which == "worst":
        worst = []
        for video in videos:
            try:
                with PackagedFile(layout.artifact(PACKAGING, video)) as file:
                    values = {name: score["value"] for name, score in file.attribute("quality", {}).items()}
            except VideoliftError:
                values = {}
            # Scores have units of their own; how far beyond its limit one lies can be compared.
            beyond = (beyond_limit(name, value) for name, value in values.items() if value is not None)
            worst.append((max(beyond, default=0.0), video))
        chosen = [max(worst)[1]]
    for video in chosen:
        try:
            if not is_preview_fresh(layout, video):
                write_preview(layout.output, video, most_seconds=MAX_SECONDS)
        except VideoliftError as error:
            log.warning("no preview of %s: %s", video, error)
