"""``report/audit.html``: frames drawn at random with their labels, which a person marks right or wrong, offline.

The page keeps marks in the browser and saves them as a file; `videolift.dataset.audit` reads it and counts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from videolift.dataset.index import IndexEntry, read_index
from videolift.errors import ConfigError
from videolift.paths import Layout
from videolift.report.html_page import fill_page
from videolift.report.preview import Painter
from videolift.report.video_scene import open_scene
from videolift.store import sha256_of, write_text

SHEET_JPEG_QUALITY = 75
"""A sheet of 100 frames takes some 12 MB."""


def write_audit_sheet(output: Path, *, samples: int = 100, seed: int = 0) -> Path:
    """Writes the sheet over the dataset in ``output`` and returns its path.

    Args:
        output: of a run.
        samples: frames to draw; all of them where there are fewer.
        seed: of the draw.

    Raises:
        ConfigError: no dataset is published there, or it is empty.
        CorruptFile: a packaged file fails its checks.
        Transient: disk full, quota or I/O error.
    """
    layout = Layout(output)
    rows: list[dict[str, object]] = []
    for entry, frames in draw_samples(read_index(layout.dataset).entries, samples, seed):
        with open_scene(output, entry.video) as scene:
            painter = Painter(scene)
            for frame in frames:
                # Hands are judged also where none was found, since one may have been missed.
                parts = {"hands": scene.hands is not None, "tracks": scene.window_of(frame) is not None, "depth": scene.has_depth}
                rows.append(
                    {
                        "video": entry.video,
                        "frame": frame,
                        "sha256": entry.sha256,
                        "seconds": round(float(scene.pts_seconds[frame]), 2),
                        "parts": [part for part, is_there in parts.items() if is_there],
                        "bare": _jpeg(scene.rgb(frame)),
                        "labels": _jpeg(painter.paint(frame)),
                    }
                )
    # Shuffled: a person who stops early has judged a fair share of every video.
    order = np.random.default_rng(seed).permutation(len(rows))
    content = {"name": layout.output.name, "seed": seed, "rows": [rows[k] for k in order]}
    content["id"] = sha256_of([[row["video"], row["frame"], row["sha256"]] for row in rows])[:12]
    write_text(layout.audit_sheet, fill_page("audit", content))
    return layout.audit_sheet


def draw_samples(entries: Sequence[IndexEntry], samples: int, seed: int) -> list[tuple[IndexEntry, list[int]]]:
    """Videos with the frames drawn of them: every packaged frame is equally likely, none comes twice.

    Raises:
        ConfigError: there is no frame to draw.
    """
    entries = sorted(entries, key=lambda entry: entry.video)
    ends = np.cumsum([entry.frames for entry in entries], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if total == 0:
        raise ConfigError("the dataset is empty: there is nothing to judge")
    places = np.sort(np.random.default_rng(seed).choice(total, size=min(samples, total), replace=False))
    # Places count through all frames of all videos; ends say which video each is in.
    numbers = np.searchsorted(ends, places, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    pairs = [(int(number), int(place - starts[number])) for number, place in zip(numbers, places, strict=True)]
    return [(entries[number], [frame for _, frame in group]) for number, group in groupby(pairs, key=lambda pair: pair[0])]


def _jpeg(rgb: np.ndarray) -> str:
    encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, SHEET_JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()
