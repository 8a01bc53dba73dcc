"""Temporal pairs, and clips of k frames at a stride, within one shot; no frame comes twice in a sample.

A shot ends at a cut, and where the times of a file's frames leave a gap. Where that is, the index knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videolift.errors import ConfigError
from videolift.reader.frames import Sample, read_frames
from videolift.reader.handles import Handles
from videolift.reader.opening import DatasetFile, choose_files
from videolift.reader.selection import Selection


@dataclass(frozen=True)
class Spacing:
    """How the frames of one sample lie in time: ``count`` frames, each ``frames`` or ``seconds`` after the one before.

    Attributes:
        count: frames per sample; 2 is a pair.
        frames: the gap, or (least, greatest): then drawn anew in every epoch, uniformly among those that fit into the shot.
        seconds: likewise, rounded to whole frames of each video's rate.

    Raises:
        ConfigError: not exactly one of ``frames`` and ``seconds``, fewer than 2 frames, or a gap of 0 or less.
    """

    count: int = 2
    frames: int | tuple[int, int] | None = None
    seconds: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ConfigError(f"count is {self.count}, a pair has 2 frames")
        if (self.frames is None) == (self.seconds is None):
            raise ConfigError("the gap is given either in frames or in seconds")
        least, greatest = self._range
        if not 0 < least <= greatest:
            raise ConfigError(f"the gap is {least} to {greatest}, it must be above 0 and rise")

    @property
    def _range(self) -> tuple[float, float]:
        given = self.frames if self.frames is not None else self.seconds
        assert given is not None
        return given if isinstance(given, tuple) else (given, given)

    def gaps(self, fps: float) -> tuple[int, int]:
        """Least and greatest gap in frames, at a rate.

        Raises:
            ConfigError: the gap is less than half a frame, so that a frame would meet itself.
        """
        least, greatest = self._range
        if self.frames is not None:
            return int(least), int(greatest)
        if least * fps < 0.5:  # rounds to 0 frames
            raise ConfigError(f"a gap of {least} s is the same frame at {fps:g} frames per second: the least is {0.5 / fps:g} s")
        # round(0.5) is 0.
        return max(1, round(least * fps)), max(1, round(greatest * fps))


def open_pairs(
    folder: Path | str, spacing: Spacing, *, split: str | None = None, group: str | None = None, selection: Selection | None = None
) -> PairDataset:
    """Pairs or clips of a published dataset; arguments as `open_dataset`."""
    selection = selection or Selection()
    chosen = choose_files(folder, selection, split=split, group=group)
    return PairDataset(chosen.files, spacing, selection)


class PairDataset:
    """One sample per first frame; picklable, safe after fork and spawn.

    Args:
        files: packaged files in the order of the index; paths are opened once to see where their shots end.
        spacing: see `Spacing`.
        selection: what is read of each frame; what it says of windows does not count.
        handles: where files are kept open.

    Raises:
        ConfigError: a gap that is the same frame at some file's rate.
        CorruptFile: a file cannot be read.
    """

    def __init__(
        self,
        files: Sequence[DatasetFile | Path],
        spacing: Spacing,
        selection: Selection | None = None,
        handles: Handles | None = None,
    ) -> None:
        known = [file if isinstance(file, DatasetFile) else DatasetFile.look(file) for file in files]
        self.files, self.spacing = [file.path for file in known], spacing
        self.selection = Selection() if selection is None else selection
        self.handles = Handles() if handles is None else handles
        rows = [
            (number, first, end - first, *spacing.gaps(file.fps))
            for number, file in enumerate(known)
            for first, end in file.unbroken
        ]
        self._shot_rows = np.array(rows, np.int64).reshape(-1, 5)  # file, first frame, frames, least gap, greatest gap
        # A frame counts as a first one where the least gap fits; near the end of a shot only shorter gaps are drawn.
        starts = self._shot_rows[:, 2] - (spacing.count - 1) * self._shot_rows[:, 3]
        self._ends = np.cumsum(np.maximum(starts, 0))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:
        """As `open`, in epoch 0."""
        return self.open(index)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """What `read_frames` gives of ``count`` frames, with ``video``, ``frame`` (the first), ``gap_frames`` and ``gap_seconds``.

        Raises:
            IndexError: no such sample.
            CorruptFile: its file cannot be read.
        """
        index = range(len(self))[index]
        row = int(np.searchsorted(self._ends, index, side="right"))
        number, first, frames, least, greatest = self._shot_rows[row].tolist()
        offset = index - (int(self._ends[row - 1]) if row else 0)
        steps = self.spacing.count - 1
        greatest = min(greatest, (frames - 1 - offset) // steps)
        gap = int(np.random.default_rng([self.selection.seed, epoch, index]).integers(least, greatest + 1))
        path = self.files[number]
        sample = read_frames(self.handles.get(path), first + offset + gap * np.arange(steps + 1), self.selection)
        # By the times in the file, not by its rate: a phone does not keep to one.
        seconds = float(sample["seconds"][1] - sample["seconds"][0])
        return {"video": path.stem, "frame": first + offset, "gap_frames": gap, "gap_seconds": seconds} | sample
