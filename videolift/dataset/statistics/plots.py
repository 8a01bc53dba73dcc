"""Statistics for people: a text table, and a picture of every channel's distribution, per group, split and modality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from videolift.dataset.index import read_index
from videolift.dataset.statistics.accumulators import QUANTILES, Accumulators, ChannelSummary
from videolift.dataset.statistics.merging import Member, merge_members
from videolift.errors import ConfigError
from videolift.store import atomic_file

CHANNEL_NAMES = {
    "rgb": ("red", "green", "blue"),
    "depth": ("z",),
    "query_depth": ("d",),
    "displacement": ("du", "dv", "dd"),
    "pose": ("r00", "r10", "r20", "r01", "r11", "r21", "tx", "ty", "tz"),
    "hand_uvd_displacement": ("du", "dv", "dd"),
    "hand_rot_displacement": ("r00", "r10", "r20", "r01", "r11", "r21"),
    "hand_frames": ("interpolated",),
}
_PANEL = (300, 190)
_MARGIN = 26
_BARS = 100


def load_statistics(folder: Path, *, group: str | None = None, split: str | None = None) -> tuple[Accumulators, str]:
    """Statistics of a published dataset's group and split, read from its files, and the group's name.

    Raises:
        ConfigError: no such dataset, group or split.
        CorruptFile: a file cannot be read.
    """
    entries, chosen = read_index(folder).select(split=split, group=group)
    if not entries:
        raise ConfigError(f"the dataset has no video of group {chosen} in split {split}")
    members = [Member(e.video, folder / e.path, e.sha256, e.split) for e in entries]
    return merge_members(folder, members).of_group(chosen), chosen


def statistics_rows(statistics: Accumulators) -> Iterator[tuple[str, str, ChannelSummary]]:
    """(modality, channel, figures) of everything that was counted."""
    for name, summaries in statistics.summaries().items():
        for channel, summary in zip(CHANNEL_NAMES[name], summaries, strict=True):
            if summary.samples:
                yield name, channel, summary


def statistics_text(statistics: Accumulators) -> str:
    """A table: samples, mean, deviation, extrema and quantiles of every channel."""
    head = ["", "channel", "samples", "mean", "std", "min", *(f"{q:.0%}" for q in QUANTILES), "max"]
    lines = [head]
    for name, channel, s in statistics_rows(statistics):
        figures = [s.mean, s.std, s.minimum, *(s.quantiles or ()), s.maximum]
        lines.append([name, channel, str(s.samples), *(f"{value:.5g}" for value in figures if value is not None)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [
        [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(x, widths, strict=True))] for x in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def plot_statistics(statistics: Accumulators, path: Path, *, title: str = "") -> None:
    """Writes a PNG with one histogram per channel, from its 1st to its 99th percentile, the mean marked."""
    width, height = _PANEL
    blank = np.full((height, width, 3), 255, np.uint8)
    panels: list[NDArray[np.uint8]] = []
    for name, channel, summary in statistics_rows(statistics):
        assert summary.quantiles is not None
        assert summary.mean is not None
        part, image = statistics.parts[name], blank.copy()
        values, counts = part.distribution(CHANNEL_NAMES[name].index(channel))
        # Between the outer quantiles: one outlier would squeeze everything else into a bar. Two values have no quantiles between.
        low, high = (summary.quantiles[0], summary.quantiles[-1]) if len(values) > 2 else (float(values[0]), float(values[-1]))
        if high <= low:
            low, high = low - 0.5, high + 0.5
        count = int(high - low) + 1 if part.kind == "u8" else _BARS  # one bar per value, or integers would look like a comb
        bars, _ = np.histogram(values, count, (low, high), weights=counts.astype(np.float64))
        base, top = height - _MARGIN, _MARGIN
        for i, share in enumerate(bars / max(bars.max(), 1)):
            x0, x1 = (_MARGIN + (width - 2 * _MARGIN) * k // count for k in (i, i + 1))
            cv2.rectangle(image, (x0, base - round(share * (base - top))), (max(x0, x1 - 1), base), (180, 130, 70), -1)
        mean_x = _MARGIN + round((width - 2 * _MARGIN) * min(max((summary.mean - low) / (high - low), 0), 1))
        cv2.line(image, (mean_x, top), (mean_x, base), (40, 40, 200), 1, cv2.LINE_AA)
        _write(image, f"{name} {channel}", (_MARGIN, 16), 0.42)
        _write(image, f"{low:.3g}", (_MARGIN - 14, height - 8), 0.36)
        _write(image, f"{high:.3g}", (width - _MARGIN - 30, height - 8), 0.36)
        panels.append(image)
    columns = 3
    panels += [blank] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    strip = np.full((30, columns * width, 3), 255, np.uint8)
    _write(strip, title, (8, 20), 0.5)
    code = cv2.imencode(".png", np.vstack([strip, *rows]))[1]
    with atomic_file(path) as temporary:
        temporary.write_bytes(code.tobytes())


def _write(image: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)
