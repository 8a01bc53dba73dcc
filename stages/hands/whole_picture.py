"""Hands that the clip's frame cuts away: looked for in a few frames of the whole picture.

A wide video that is cut to the clip's shape loses what happens at its sides, and nothing in the clip says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.backend import Inputs
from stages.hands.identity import Detection
from stages.ingest import IngestSettings
from stages.ingest.pyav import PyavIngest
from videolift.artifacts import Clip, ClipWriter
from videolift.errors import BadInput, Transient
from videolift.inputs.framing import Framing
from videolift.inputs.video import Video

MAX_HANDS_CUT_AWAY = 0.1
"""Share of the hands that may be cut away before a run says so."""
_WHOLE = 0.97
"""A clip that shows this share of the picture cuts nothing worth looking for."""
_FPS, _MAX_FRAMES = 1.0, 60
_MIN_HANDS = 5
"""Fewer hands in those frames say nothing of a share."""


def cut_away_share(
    video: Video, clip: Clip, folder: Path, *, root: Path, detect: Callable[[NDArray[np.uint8]], list[Detection]]
) -> float | None:
    """Share of the wrists seen in the whole picture that lie outside the clip; None where nothing is cut or too few are seen.

    Args:
        video: its source is decoded once more.
        clip: cut from it.
        folder: for a small clip of the whole picture.
        root: the checkout.
        detect: hands of a frame (H, W, 3).
    """
    if "framing" not in clip.attrs:
        return None  # imported: nothing is known of its source
    framing = Framing.from_attrs(clip.attrs)
    shown, source = framing.visible_px(), framing.source_px
    if shown[2] * shown[3] >= _WHOLE * source[0] * source[1]:
        return None
    seconds = float(np.ptp(clip.pts_seconds)) or 1.0
    if "cut_from" in clip.attrs:  # one shot of the video
        start_s = float(clip.pts_seconds[0]) - float(clip.attrs["source"]["clock_start_s"])
        video = replace(video, start_s=start_s, end_s=start_s + seconds)
    settings = IngestSettings(width=clip.width, height=clip.height, fit="pad", cuts=False, fps=min(_FPS, _MAX_FRAMES / seconds))
    writer = ClipWriter(folder / "whole.h5")
    try:
        PyavIngest(settings, root=root).process(Inputs(video), writer, shrink=1.0, progress=lambda done, total: None)
    except (BadInput, Transient, OSError):
        writer.discard()
        return None  # the clip is good; that its source is gone or dark here and there is no fault of the hands
    path = writer.publish().path
    with Clip(path) as whole:
        in_whole = Framing.from_attrs(whole.attrs)
        wrists = [hand.keypoints_px[0] for k in range(len(whole)) for hand in detect(whole[k])]
    # The caller keeps the share; the pictures are not needed again.
    path.unlink()
    if len(wrists) < _MIN_HANDS:
        return None
    # By way of the source's pixels, which both pictures were cut from.
    in_clip = framing.map_pixels(in_whole.unmap_pixels(np.array(wrists)))
    outside = ((in_clip < -0.5) | (in_clip >= np.array(framing.clip_px) - 0.5)).any(-1)
    return float(outside.mean())
