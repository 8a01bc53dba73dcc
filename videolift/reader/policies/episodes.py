"""Episodes: stretches of a video in which one thing is done. From rows of a table, or cut where the hands rest."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videolift.errors import ConfigError
from videolift.geometry import Float
from videolift.shot_ranges import FrameRange, true_ranges, unbroken_ranges


@dataclass(frozen=True)
class EpisodeRow:
    """A row of the table: what is done in a video between two times, in seconds of the source."""

    video: str
    start_s: float
    end_s: float
    text: str = ""


@dataclass(frozen=True)
class Episode:
    """Frames ``start`` to ``stop`` (exclusive) of one video, and what is done in them."""

    start: int
    stop: int
    text: str = ""


@dataclass(frozen=True)
class RestRule:
    """When hands rest: wrists and fingertips of both slower than ``speed`` for at least ``seconds``. A cut lies in its middle.

    Attributes:
        speed: per second, in the unit of the video's lengths (metres where it has any).
        seconds: shorter pauses, such as the one in which fingers close around a thing, belong to what is done.
        smooth_s: width of the running median over positions, against jitter.
    """

    speed: float = 0.04
    seconds: float = 0.9
    smooth_s: float = 0.5


def read_episode_table(path: Path) -> list[EpisodeRow]:
    """Rows of a CSV with the columns ``video``, ``start``, ``end`` (seconds) and ``text``; other columns are ignored.

    Raises:
        ConfigError: a column is missing, or a row makes no sense; the text names the line.
    """
    rows = []
    # utf-8-sig: Excel puts a byte order mark before the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        missing = {"video", "start", "end"} - set(table.fieldnames or ())
        if missing:
            raise ConfigError(f"{path} has no column {', '.join(sorted(missing))}; its columns are {table.fieldnames}")
        for row in table:
            try:
                start, end = float(row["start"]), float(row["end"])
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{path}, line {table.line_num}: start and end must be seconds: {error}") from error
            if not 0 <= start < end:
                raise ConfigError(f"{path}, line {table.line_num}: the episode is from {start} to {end} s: end must be after start")
            rows.append(EpisodeRow(row["video"], start, end, row.get("text") or ""))
    return rows


def episodes_of_rows(rows: Sequence[EpisodeRow], video: str, seconds: NDArray[np.float64]) -> list[Episode]:
    """The episodes that a table names in one video of frame times ``seconds`` (T); rows may overlap, and follow the table's order.

    Raises:
        ConfigError: a row lies outside the video.
    """
    episodes = []
    for row in rows:
        if row.video == video:
            # 1e-6: a time that was rounded when the table was written must not miss its frame.
            start, stop = (int(np.searchsorted(seconds, t - 1e-6)) for t in (row.start_s, row.end_s))
            if stop - start < 1:
                raise ConfigError(
                    f"no frame of {video} lies between {row.start_s} and {row.end_s} s: it has {seconds[0]:g} to {seconds[-1]:g} s"
                )
            episodes.append(Episode(start, stop, row.text))
    return episodes


def episodes_between_rests(
    points_world: Float,
    seconds: NDArray[np.float64],
    fps: float,
    rule: RestRule | None = None,
    text: str = "",
    shot: NDArray[np.int32] | None = None,
) -> list[Episode]:
    """Cuts a video in the middle of every rest of its hands, and where a shot ends.

    Args:
        points_world: (T, 2, P, 3) of the hands, NaN where not known: a hand that is not seen does not move.
        seconds: (T) times of the frames.
        fps: the clip's rate.
        rule: see `RestRule`.
        text: of every episode.
        shot: (T) of the frames, -1 for none; None: all of them are one.
    """
    rule = rule or RestRule()
    speed = hand_speed(points_world, fps, rule.smooth_s)
    cuts = []
    for start, stop in true_ranges(speed < rule.speed):
        # A rest at either end of the video has nothing on its other side to be cut from.
        if stop - start >= rule.seconds * fps and start > 0 and stop < len(speed):
            cuts.append((start + stop) // 2)
    out = []
    for first, last in unbroken_ranges(seconds, fps, shot):
        bounds = [first, *(cut for cut in cuts if first < cut < last), last]
        out += [Episode(a, b, text) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return out


def steady_ranges(known: Sequence[Sequence[FrameRange]], episode: Episode) -> list[FrameRange]:
    """Stretches of an episode in which the same hands are known, and at least one.

    Args:
        known: for each hand, the stretches in which it is known.
        episode: of the same video.
    """
    changes = Counter({episode.start: 0, episode.stop: 0})
    for first, end in itertools.chain.from_iterable(known):
        changes[min(max(first, episode.start), episode.stop)] += 1
        changes[min(max(end, episode.start), episode.stop)] -= 1
    hands, steady = 0, []
    for first, end in itertools.pairwise(sorted(changes)):
        hands += changes[first]
        if hands:
            steady.append((first, end))
    return steady


def hand_speed(points_world: Float, fps: float, smooth_s: float) -> Float:
    """Speed (T) of the faster hand, per second: the median over its points (T, 2, P, 3); 0 where no hand is known.

    Positions are smoothed by a running median and mean of that width: a detector's jitter is faster than a resting hand.
    """
    if len(points_world) < 2:
        return np.zeros(len(points_world))
    half = max(1, round(smooth_s * fps / 2))
    smooth = _running(_running(points_world, half, np.nanmedian), half, np.nanmean)
    moved = np.linalg.norm(np.diff(smooth, axis=0), axis=-1) * fps
    central = np.concatenate([moved[:1], (moved[:-1] + moved[1:]) / 2, moved[-1:]])
    ordered = np.sort(central, -1)  # NaN last
    known = np.isfinite(central).sum(-1)
    middle = np.take_along_axis(ordered, (np.maximum(known, 1)[..., None] - 1) // 2, -1)[..., 0]
    return np.asarray(np.where(known > 0, middle, 0.0).max(-1))


def _running(values: Float, half: int, middle: Callable[..., Float]) -> Float:
    out = np.full(values.shape, np.nan)
    for t in range(len(values)):
        part = values[max(0, t - half) : t + half + 1]
        known = np.isfinite(part).any(0)
        # Rows of NaN alone are left out first: numpy's functions warn of them.
        if known.any():
            out[t][known] = middle(part[:, known], axis=0)
    return out
