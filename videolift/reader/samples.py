"""Training samples: every window of the chosen videos by one index, as numpy arrays.

`open_dataset` takes the list of files from the dataset's index; `WindowDataset` reads. What a sample holds follows from the
`Selection`. Normalization is `videolift.reader.normalization`, torch `videolift.reader.torch_dataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.dataset.file import PackagedFile
from videolift.reader.frames import Sample, read_frames, zero_unknown
from videolift.reader.handles import Handles
from videolift.reader.opening import DatasetFile, choose_files
from videolift.reader.ram_cache import RamCache
from videolift.reader.selection import Selection

POINT_AXIS = {"query": 0, "displacement": 1, "visible": 1, "label": 0, "point_valid": 0}
"""Keys with one entry per point, and where."""


def open_dataset(
    folder: Path | str,
    *,
    split: str | None = None,
    group: str | None = None,
    selection: Selection | None = None,
    cache_bytes: int = 0,
) -> WindowDataset:
    """The windows of a published dataset. Opens no file, unless the selection asks for what only the files know.

    Args:
        folder: holds ``index.sqlite``.
        split: only videos of it.
        group: only its videos, e.g. A-metric; ``all`` for every group; None for the group that ``normalization_stats.yaml`` holds.
        selection: see `Selection`.
        cache_bytes: most memory for samples kept, in every process.

    Raises:
        ConfigError: no such dataset, split or group.
    """
    selection = selection or Selection()
    chosen = choose_files(folder, selection, split=split, group=group)
    return WindowDataset(chosen.files, selection, group=chosen.group, folder=chosen.folder, cache_bytes=cache_bytes)


class WindowDataset:
    """Windows of packaged files by index; picklable, safe after fork and spawn.

    Args:
        files: packaged files in the order of the index; paths are opened once to count their windows.
        selection: see `Selection`.
        handles: where files are kept open.
        group: of the files, None where they are of several.
        folder: of the dataset they belong to.
        cache_bytes: most memory for samples kept, in every process.

    Raises:
        CorruptFile: a file cannot be read.
    """

    def __init__(
        self,
        files: Sequence[DatasetFile | Path],
        selection: Selection | None = None,
        handles: Handles | None = None,
        *,
        group: str | None = None,
        folder: Path | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self.selection = Selection() if selection is None else selection
        self.handles = Handles() if handles is None else handles
        self.group, self.folder = group, folder
        known = [file if isinstance(file, DatasetFile) else DatasetFile.look(file) for file in files]
        self.files = [file.path for file in known]
        chosen = [_windows_that_count(file, self.selection) for file in known]
        # One number per window of the whole dataset, in every worker: half the memory of int64
        # With an empty array, since there may be no file.
        self._windows = np.concatenate([*chosen, np.empty(0, np.int64)]).astype(np.int32)
        self._ends = np.cumsum([len(windows) for windows in chosen])
        self._cache = RamCache(cache_bytes)

    def __len__(self) -> int:
        return len(self._windows)

    def locate(self, index: int) -> tuple[Path, int]:
        """File and window of a sample."""
        index = range(len(self))[index]
        return self.files[int(np.searchsorted(self._ends, index, side="right"))], int(self._windows[index])

    def __getitem__(self, index: int) -> Sample:
        """As `open`, in epoch 0."""
        return self.open(index)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """One sample. Besides what `read_frames` gives, as far as selected:

        ``query`` (N, 3), ``displacement`` (L, N, 3), ``visible`` (L, N), ``label`` (N) with ``point_valid`` (N); ``pose9d`` (L, 9)
        with ``pose9d_valid`` (L); ``hand_query_uvd`` (2, 3), ``hand_displacement_uvd`` (2, L, 3), ``hand_query_rot6d`` (2, 6),
        ``hand_displacement_rot6d`` (2, L, 6), with ``hand_step_valid`` (2, L) and ``hand_valid`` (2), valid at every step;
        ``frame_valid`` (F); ``video``, ``tier``, ``scale``, ``text``, and ``frame``, the window's first.

        Args:
            index: of the sample.
            epoch: each draws other points.

        Raises:
            IndexError: no such sample.
            CorruptFile: its file cannot be read.
        """
        index = range(len(self))[index]
        whole = self._cache.get(index)
        if whole is None:
            path, window = self.locate(index)
            file, selection = self.handles.get(path), self.selection
            first, length = int(file.window_start[window]), file.window_length
            frames = np.arange(first - selection.past_frames + 1, first + (length if selection.window_frames else 1))
            whole = {"video": path.stem, "tier": file.attribute("tier"), "scale": file.scale, "frame": first}
            if selection.text:
                whole["text"] = file.attribute("text", "")
            # Past frames do not reach back across a cut: the shot's first frame is repeated instead.
            begins = int(file.shot_begins[first])
            whole["frame_valid"] = frames >= begins
            whole |= read_frames(file, np.maximum(frames, begins), selection)
            if selection.tracks:
                whole |= _tracks(file, window, length)
            if selection.hand_windows:
                whole |= _hand_windows(file, window, first, length)
            self._cache.put(index, whole)
        wanted = self.selection.points
        if not self.selection.tracks or wanted is None:
            return dict(whole)
        present = len(whole["query"])
        # A generator per sample, not one that runs on: what is drawn must not depend on which worker reads, or in which order.
        if present > wanted:
            chosen = np.random.default_rng([self.selection.seed, epoch, index]).choice(present, wanted, replace=False)
            drawn = {key: np.take(whole[key], chosen, axis) for key, axis in POINT_AXIS.items()}
        else:
            missing = wanted - present
            drawn = {
                key: np.pad(whole[key], [(0, missing if a == axis else 0) for a in range(whole[key].ndim)])
                for key, axis in POINT_AXIS.items()
            }
        return {**whole, **drawn}


def _windows_that_count(known: DatasetFile, selection: Selection) -> NDArray[np.int64]:
    count = known.windows
    if not selection.looks_inside:
        # The fewest steps between windows that make the stride asked for.
        step = -(-selection.stride // known.stride)
        return np.arange(0, count, step)
    with PackagedFile(known.path) as file:
        keep = file.points >= selection.min_points
        if selection.require_hands is not None:
            whole = file.hands_whole
            by_name = {"left": whole[:, 0], "right": whole[:, 1], "either": whole.any(1), "both": whole.all(1)}
            keep &= by_name[selection.require_hands]
        for name, (least, greatest) in selection.limits.items():
            if not file.has(f"quality/{name}"):
                keep[:] = False
                continue
            score = file.array(f"quality/{name}")[file.window_start]
            low, high = -np.inf if least is None else least, np.inf if greatest is None else greatest
            with np.errstate(invalid="ignore"):
                keep &= np.isfinite(score) & (score >= low) & (score <= high)
        starts = file.window_start
    # Greedily: a window that does not count must not push the next one away.
    chosen, next_start = [], 0
    for window in np.flatnonzero(keep):
        if starts[window] >= next_start:
            chosen.append(window)
            next_start = starts[window] + selection.stride
    return np.array(chosen, np.int64)


def _tracks(file: PackagedFile, window: int, length: int) -> Sample:
    # Zeros of the usual shapes: samples of files with and without tracks can be stacked.
    if not file.has("tracks/query"):
        empty: dict[str, Any] = {"query": np.zeros((0, 3), np.float32), "displacement": np.zeros((length, 0, 3), np.float32)}
        empty |= {"visible": np.zeros((length, 0), bool), "label": np.zeros(0, np.uint8), "point_valid": np.zeros(0, bool)}
        return empty | {"pose9d": np.zeros((length, 9), np.float32), "pose9d_valid": np.zeros(length, bool)}
    query, displacement, visible = file.tracks(window)
    offsets = file.offsets
    label = file.array("tracks/label", slice(int(offsets[window]), int(offsets[window + 1])))
    pose9d = file.array("tracks/pose9d", window)
    known = np.isfinite(pose9d).all(-1)
    out: Sample = {
        "query": query,
        "displacement": displacement,
        "visible": visible,
        "label": label,
        "point_valid": np.ones(len(query), bool),
    }
    return out | {"pose9d": zero_unknown(pose9d, known), "pose9d_valid": known}


def _hand_windows(file: PackagedFile, window: int, first: int, length: int) -> Sample:
    if not file.has("hands/window_query_uvd"):
        shapes = {
            "query_uvd": (2, 3),
            "displacement_uvd": (2, length, 3),
            "query_rot6d": (2, 6),
            "displacement_rot6d": (2, length, 6),
        }
        nothing: Sample = {f"hand_{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return nothing | {"hand_step_valid": np.zeros((2, length), bool), "hand_valid": np.zeros(2, bool)}
    out: Sample = {}
    moved = file.array("hands/window_displacement_uvd", window), file.array("hands/window_displacement_rot6d", window)
    known = np.isfinite(moved[0]).all(-1) & np.isfinite(moved[1]).all(-1)
    known &= file.array("hands/valid", slice(first, first + length)).T
    for name in ("query_uvd", "displacement_uvd", "query_rot6d", "displacement_rot6d"):
        mask = known if name.startswith("displacement") else known[:, 0]
        out[f"hand_{name}"] = zero_unknown(file.array(f"hands/window_{name}", window), mask)
    return out | {"hand_step_valid": known, "hand_valid": known.all(1)}
