"""Image sequences in one HDF5 file: encoded images and a metadata table of sequence, view and frame. Pairs and clips of them.

The file holds encoded images (bytes, a row each) or pixels (N, H, W, 3), and a table of as many rows: a compound array, or a group
of columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videolift.errors import ConfigError
from videolift.reader.adapters.images import decode_image
from videolift.reader.adapters.lazy_hdf5 import LazyHdf5, column_names, read_column
from videolift.reader.frames import Sample


@dataclass(frozen=True)
class SequenceKeys:
    """Names in the file; ``metadata`` is a compound array or a group of columns. Without a column ``view`` there is one camera."""

    images: str = "images"
    metadata: str = "metadata"
    sequence: str = "sequence"
    frame: str = "frame"
    view: str | None = "view"


class ImageSequences:
    """Clips of ``count`` frames, ``gap`` apart, of one sequence.

    A sample holds ``rgb`` u8 (count, 3, H, W), or with ``together`` (views, count, 3, H, W); ``video``, ``view``, ``frame``,
    ``gap_frames``. A gap counts frame numbers. Frames that are not there make no sample: a clip is whole, or there is none.

    Args:
        path: of the file.
        keys: names in it.
        count: frames per sample.
        gap: frames between them, or (least, greatest), drawn anew in every epoch among those whose clip is whole.
        together: all views of a moment in one sample.
        size_px: (W, H) to resize to.
        seed: of the gaps.

    Raises:
        ConfigError: names that the file does not have, a gap below one, or no clip of that gap in the file.
        CorruptFile: the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        keys: SequenceKeys | None = None,
        *,
        count: int = 2,
        gap: int | tuple[int, int] = 1,
        together: bool = False,
        size_px: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.path, self.keys, self.size_px, self.seed = Path(path), keys or SequenceKeys(), size_px, seed
        self.count, self.gaps = count, (gap, gap) if isinstance(gap, int) else tuple(gap)
        if count < 1 or not 1 <= self.gaps[0] <= self.gaps[1]:
            raise ConfigError(f"count is {count} and gap {gap}: at least one frame, and a gap of at least one")
        self._file = LazyHdf5(self.path)
        rows = read_rows(self._file, self.keys)
        views = sorted({view for _, view, _ in rows})
        self.view_groups = [tuple(views)] if together else [(view,) for view in views]
        self._row = rows
        self._samples = [
            (sequence, group, frame)
            for group in self.view_groups
            for sequence, view, frame in sorted(rows)
            # A clip of all views is listed once, under the first of them.
            if view == group[0] and self._fitting(sequence, group, frame)
        ]
        if rows and not self._samples:
            listed = ", ".join(map(str, sorted({frame for _, _, frame in rows})[:6]))
            raise ConfigError(
                f"{path} has no {count} frames {gap} apart: its frame numbers begin {listed}; name another gap or count"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """See the class.

        Raises:
            IndexError: no such sample.
            CorruptFile: an image cannot be decoded.
        """
        index = range(len(self))[index]
        sequence, group, frame = self._samples[index]
        # Drawn among the gaps that fit here, so that frames near the end are samples too.
        fitting = self._fitting(sequence, group, frame)
        gap = int(np.random.default_rng([self.seed, epoch, index]).choice(fitting))
        times = [frame + gap * step for step in range(self.count)]
        name, clips_of_views = self.keys.images, []
        for view in group:
            images = []
            for row in (self._row[sequence, view, t] for t in times):
                images.append(decode_image(self._file.read(name, row), f"{self.path}: {name}[{row}]", self.size_px))
            clips_of_views.append(images)
        clips = np.stack(clips_of_views)
        rgb = clips[0] if len(self.view_groups) > 1 or len(group) == 1 else clips
        return {"video": sequence, "view": ",".join(group), "frame": frame, "gap_frames": gap, "rgb": rgb}

    def _fitting(self, sequence: str, group: tuple[str, ...], frame: int) -> list[int]:
        """Gaps whose clip from ``frame`` on is whole in every view."""
        return [
            gap
            for gap in range(self.gaps[0], self.gaps[1] + 1)
            if all((sequence, view, frame + gap * step) in self._row for view in group for step in range(self.count))
        ]


def read_rows(file: LazyHdf5, keys: SequenceKeys) -> dict[tuple[str, str, int], int]:
    """(sequence, view, frame) to the row of the image.

    Raises:
        ConfigError: columns that are not there, or not one row per image.
    """
    opened = file.open()
    if keys.metadata not in opened or keys.images not in opened:
        raise ConfigError(f"{file.path} has no {keys.images} and {keys.metadata}; it has {', '.join(sorted(opened))}")
    table = opened[keys.metadata]
    names = set(column_names(table))
    view = None if keys.view == "view" and "view" not in names else keys.view
    wanted = [keys.sequence, keys.frame, *([view] if view else [])]
    if not set(wanted) <= names:
        raise ConfigError(
            f"{file.path}: {keys.metadata} has no column {', '.join(set(wanted) - names)}; it has {', '.join(sorted(names))}"
        )
    stored = [read_column(table, name) for name in wanted]
    # h5py gives texts as bytes and numbers as they are; as texts, sequences named by either are found.
    columns = [[value.decode() if isinstance(value, bytes) else str(value) for value in column.tolist()] for column in stored]
    if len(columns[0]) != len(opened[keys.images]):
        raise ConfigError(f"{file.path}: {len(columns[0])} rows of {keys.metadata} for {len(opened[keys.images])} {keys.images}")
    views = columns[2] if view else [""] * len(columns[0])
    try:
        times = [_whole(text) for text in columns[1]]
    except ValueError as error:
        raise ConfigError(f"{file.path}: {keys.metadata} {keys.frame} must count frames in whole numbers: {error}") from error
    rows = {(s, v, t): row for row, (s, t, v) in enumerate(zip(columns[0], times, views, strict=True))}
    if len(rows) < len(times):
        twice = len(times) - len(rows)
        raise ConfigError(
            f"{file.path}: {twice} rows of {keys.metadata} name a frame that another row names: which of its columns "
            f"({', '.join(sorted(names))}) is the view? Say so in SequenceKeys(view=...)"
        )
    return rows


def _whole(text: str) -> int:
    # Tables of floats hold 3.0; large integers would lose digits as floats.
    if text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"one is {text}")
    return int(number)
