"""Videos: what the user listed, each with an id that stays the same whatever else is in the folder.

Turns a folder, a CSV or the rendered sample into `Video` rows. Says nothing about what was done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")


@dataclass(frozen=True)
class Video:
    """One listed video and the files that belong to it.

    Attributes:
        id: file-system safe name, unique under casefold; see `video_id`.
        path: the source, absolute.
        bytes, mtime_ns: of the source; 0 for the rendered sample, whose content is fixed by its version.
        depth: npz with depth for `rgbd`, or None.
        mask: instance masks of the user's, or None.
        calib: calibration file, or None.
        start_s, end_s: part of the video to use, seconds; None for its beginning and end.
        text: task description, subject, split: as given in the CSV, or None.
        metadata: every other column of the CSV.
    """

    id: str
    path: Path
    bytes: int = 0
    mtime_ns: int = 0
    depth: Path | None = None
    mask: Path | None = None
    calib: Path | None = None
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    subject: str | None = None
    split: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
