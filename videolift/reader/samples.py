"""Training samples: every window of the chosen videos by one index, as numpy arrays.

`open_dataset` takes the list of files from ``dataset.json``; `WindowDataset` draws. What a sample holds follows from what its
file holds and what the `Selection` asks for. Normalization is `videolift.reader.normalization`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.dataset.index import read_index
from videolift.dataset.layout import HAND_WINDOW_FIELDS
from videolift.reader.handles import Handles

Sample = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which windows count, and how much of them is read.

    Attributes:
        frame_stack: images (and depth maps) that end at the window's first frame; the clip's first frame is repeated before it.
        points: points drawn per window, None for all; windows with fewer are left out.
        hands: windows where this hand, or both, is valid at every step; None for all windows.
        stride: frames between windows that count, at least.
        rgb, depth: read these.
        seed: of the points drawn; with `WindowDataset.set_epoch` every epoch draws others.
    """

    frame_stack: int = 1
    points: int | None = None
    hands: Literal["left", "right", "both"] | None = None
    stride: int = 1
    rgb: bool = True
    depth: bool = True
    seed: int = 0


def open_dataset(
    folder: Path | str, *, split: str | None = None, group: str | None = None, selection: Selection | None = None
) -> WindowDataset:
    """The windows of a published dataset.

    Args:
        folder: holds ``dataset.json``.
        split: only videos of it.
        group: only videos of that tier-scale; None for the group that ``normalization_stats.yaml`` holds.
        selection: see `Selection`.

    Raises:
        ConfigError: no such dataset, split or group.
    """
    entries, _ = read_index(Path(folder)).select(split=split, group=group)
    return WindowDataset([Path(folder) / entry.file for entry in entries], selection)


class WindowDataset:
    """Windows of packaged files by index; picklable, safe after fork and spawn.

    Args:
        files: packaged files, in the order of the index.
        selection: see `Selection`.
        handles: where files are kept open.

    Raises:
        CorruptFile: a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], selection: Selection | None = None, handles: Handles | None = None) -> None:
        self.files, self.selection = list(files), selection or Selection()
        self.handles = handles or Handles()
        self.epoch = 0
        chosen = []
        for path in self.files:
            with PackagedFile(path) as file:
                chosen.append(select_windows(file, self.selection))
        self._windows = np.concatenate([*chosen, np.empty(0, np.int64)])
        self._ends = np.cumsum([len(windows) for windows in chosen])

    def __len__(self) -> int:
        return len(self._windows)

    def set_epoch(self, epoch: int) -> None:
        """Draws other points from now on; call it before the loader starts its workers."""
        self.epoch = epoch

    def locate(self, index: int) -> tuple[Path, int]:
        """File and window of a sample."""
        index = range(len(self))[index]
        return self.files[int(np.searchsorted(self._ends, index, side="right"))], int(self._windows[index])

    def __getitem__(self, index: int) -> Sample:
        """One sample; arrays of fixed shape where ``points`` is set.

        Keys: rgb u8 (F, 3, S, S); depth f32 (F, S, S); query (N, 3), displacement (L, N, 3), visible (L, N), pose9d (L, 9);
        intrinsics (3, 3); hand_valid (2), hand_query_uvd (2, 3), hand_displacement_uvd (2, L, 3), hand_query_rot6d (2, 6),
        hand_displacement_rot6d (2, L, 6); video, frame. Parts that a file does not hold are absent.
        """
        path, window = self.locate(index)
        file = self.handles.get(path)
        frame = int(file.window_start[window])
        return (
            {"video": path.stem, "frame": frame}
            | self._images(file, frame)
            | self._tracks(file, window, index)
            | _hands(file, window)
        )

    def _images(self, file: PackagedFile, frame: int) -> Sample:
        first = frame - self.selection.frame_stack + 1
        frames = slice(first, frame + 1) if first >= 0 else np.maximum(np.arange(first, frame + 1), 0)
        out: Sample = {}
        if self.selection.rgb:
            out["rgb"] = file.rgb(frames)
        if self.selection.depth and file.has("depth"):
            out["depth"] = file.depth(frames)
        if file.has("camera/intrinsics"):
            out["intrinsics"] = file.array("camera/intrinsics")
        return out

    def _tracks(self, file: PackagedFile, window: int, index: int) -> Sample:
        if not file.has("tracks/query") or self.selection.points == 0:
            return {}
        run, wanted, present = slice(None), self.selection.points, int(file.points[window])
        if wanted is not None and wanted < present:
            # Points are stored in random order, so a run of them is a fair sample and needs one chunk.
            start = int(np.random.default_rng([self.selection.seed, self.epoch, index]).integers(present - wanted + 1))
            run = slice(start, start + wanted)
        query, displacement, visible = file.tracks(window, run)
        pose9d = file.array("tracks/pose9d", window)
        return {"query": query, "displacement": displacement, "visible": visible, "pose9d": pose9d}


def select_windows(file: PackagedFile, selection: Selection) -> NDArray[np.int64]:
    """Windows of one file that count."""
    keep = file.points >= (selection.points or 0)
    if selection.hands is not None:
        whole = file.hands_whole
        keep &= {"left": whole[:, 0], "right": whole[:, 1], "both": whole.all(1)}[selection.hands]
    windows, chosen, next_start = np.flatnonzero(keep), [], 0
    if selection.stride == 1:
        return windows
    for window in windows:
        if file.window_start[window] >= next_start:
            chosen.append(window)
            next_start = file.window_start[window] + selection.stride
    return np.array(chosen, np.int64)


def _hands(file: PackagedFile, window: int) -> Sample:
    if not file.has("hands/window_query_uvd"):
        return {}
    names = {name: "hand_" + name.removeprefix("window_") for name in HAND_WINDOW_FIELDS}
    arrays: Sample = {new: file.array(f"hands/{old}", window) for old, new in names.items()}
    return arrays | {"hand_valid": file.hands_whole[window]}
