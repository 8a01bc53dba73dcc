"""Which video belongs to which batch: a value that only grows, and the file of JSON lines that keeps it.

Turns listed videos into batches that never change once written, so that a new video never moves finished work into another job.
Says nothing about what is to be done in a batch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from videolift.errors import storage_errors_are_transient
from videolift.inputs.video import Video
from videolift.paths import ID
from videolift.store import fsync_path

_LINE = re.compile(rb'^\{"video": "(%s)", "batch": (\d{1,7})\}$' % ID.pattern.encode(), re.MULTILINE)
"""By pattern, since every job of every run reads it whole, and JSON takes seven times as long."""
_USUAL = 64
_MAX_BATCH = 10**6
_MAX_NEW_BATCHES = 500
"""Thousands of jobs are what a queue and Snakemake's graph hold well; tens of thousands are not."""


@dataclass(frozen=True)
class Assignment:
    """Batch numbers by video id.

    Attributes:
        batches: id to batch number, from 0, in the order they were assigned.
        saved: how many of them, from the first on, the file held when it was read.
    """

    batches: Mapping[str, int] = field(default_factory=dict)
    saved: int = field(default=0, compare=False)

    @classmethod
    def load(cls, path: Path) -> Assignment:
        """Reads the file; where there is none, nothing is assigned yet.

        Of two lines for a video the first counts, as two runs may append at once. A line that is torn or damaged is skipped: its
        video is assigned anew, and what was done of it is read back from its files.
        """
        batches: dict[str, int] = {}
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls()
        for match in _LINE.finditer(data):
            video, batch = match[1].decode("ascii"), int(match[2])
            if batch <= _MAX_BATCH:
                batches.setdefault(video, batch)
        return cls(batches, saved=len(batches))

    def extended(self, videos: Iterable[Video], batch_size: int | None) -> Assignment:
        """With new ``videos`` in new batches of ``batch_size`` (None: `usual_size`), most bytes first; nobody else moves."""
        new = sorted((video for video in videos if video.id not in self.batches), key=lambda video: (-video.bytes, video.id))
        if not new:
            return self
        first = max(self.batches.values(), default=-1) + 1
        size = batch_size or usual_size(len(new))
        return replace(self, batches={**self.batches, **{video.id: first + i // size for i, video in enumerate(new)}})

    def append_new(self, path: Path) -> Assignment:
        """Adds to the file what it does not hold yet and returns what it then says; existing lines are never rewritten.

        Raises:
            Transient: disk full, quota or I/O error.
        """
        if len(self.batches) == self.saved:
            return self
        known = Assignment.load(path)
        lines = [json.dumps({"video": v, "batch": b}) + "\n" for v, b in self.batches.items() if v not in known.batches]
        if not lines:
            return known
        del known  # as much memory as what is read below
        with storage_errors_are_transient(f"writing {path.name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            data = "".join(lines).encode("ascii")
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    # The last writer was killed in the middle of a line, or is in the middle of one now: then the line between
                    # ours and its stays empty, and is skipped.
                    data = b"\n" + data
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fsync_path(path.parent)
        # Read once more: another run may have appended meanwhile, and of two lines for a video the first counts.
        return Assignment.load(path)


def usual_size(new: int) -> int:
    """Videos per batch for so many ``new`` ones, where nobody says otherwise."""
    return max(_USUAL, -(-new // _MAX_NEW_BATCHES))
