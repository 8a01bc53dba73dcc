"""Rows that policies train on, cut from a published dataset: episodes of known hands, state and action of every frame.

This is what every export for policies shares; each stores the rows in its own way. An episode ends where the set of known hands
changes, so that no number in it is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videolift.artifacts.hands import SIDES
from videolift.dataset.file import PackagedFile
from videolift.dataset.index import read_index
from videolift.errors import ConfigError
from videolift.reader.opening import DatasetFile
from videolift.reader.policies.episodes import steady_ranges
from videolift.reader.policies.policy_dataset import CutEpisodes, whole_shots
from videolift.reader.policies.state import HandTrack, StateSpec, action_chunk

NO_TEXT = "no description"
"""The task of a video whose row says nothing."""
SPLIT_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class PolicyExport:
    """What is exported.

    Attributes:
        spec: state and action. With both hands the state also says which are known (``left.known``, ``right.known``).
        episodes: how videos are cut, before they are cut where hands appear or are lost.
        split, group: only these; None for every split, and the main group.
        min_frames: shorter episodes are left out.
    """

    spec: StateSpec = StateSpec(frame="start")
    episodes: CutEpisodes = whole_shots
    split: str | None = None
    group: str | None = None
    min_frames: int = 8

    @property
    def state_names(self) -> list[str]:
        """Names of the numbers of a state."""
        flags = [f"{side}.known" for side in self.spec.hands] if len(self.spec.hands) > 1 else []
        return [*self.spec.names, *flags]

    @property
    def action_names(self) -> list[str]:
        """Names of the numbers of an action."""
        return list(self.spec.names)


@dataclass(frozen=True)
class ExportEpisode:
    """Rows ``start`` to ``stop`` (exclusive) of one video; frame ``stop`` exists and is where the last action leads."""

    video: str
    path: Path
    split: str
    task: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Frames with an action."""
        return self.stop - self.start


@dataclass(frozen=True)
class ExportPlan:
    """Episodes in the order of their splits, and why videos have none; ``fps`` and ``size_px`` (W, H) are those of all."""

    episodes: tuple[ExportEpisode, ...]
    left_out: dict[str, str]
    fps: float
    size_px: tuple[int, int]
    window_length: int
    parts: frozenset[str]
    """Parts that every video has."""

    @property
    def splits(self) -> dict[str, str]:
        """First and end of each split's episodes, as ``0:12``."""
        names = [episode.split for episode in self.episodes]
        ordered = sorted(set(names), key=_split_rank)
        return {name: f"{names.index(name)}:{len(names) - names[::-1].index(name)}" for name in ordered}

    @property
    def tasks(self) -> dict[str, int]:
        """Number of every task, in the order in which they come."""
        return {task: number for number, task in enumerate(dict.fromkeys(episode.task for episode in self.episodes))}

    def index_columns(self, episode: ExportEpisode, number: int, first: int) -> dict[str, NDArray[Any]]:
        """Columns (n) by which LeRobot finds rows: of the ``number``-th episode, whose first row is the ``first`` of all."""
        frames = np.arange(episode.rows)
        return {
            "timestamp": (frames / self.fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(episode.rows, number),
            "index": first + frames,
            "task_index": np.full(episode.rows, self.tasks[episode.task]),
        }


def plan_export(folder: Path, export: PolicyExport, taken: Path | None = None) -> ExportPlan:
    """The episodes of a published dataset.

    Args:
        folder: of the dataset.
        export: what is exported.
        taken: a file that every export of the wanted kind holds, where it would be written.

    Raises:
        ConfigError: an export lies there already; no such dataset, split or group; videos of different rates, sizes or window
            lengths; nothing to export.
    """
    if taken is not None and taken.exists():
        raise ConfigError(f"{taken.parent} holds a dataset already: name a new folder, or remove it")
    entries, _ = read_index(folder).select(split=export.split, group=export.group)
    left_out: dict[str, str] = {}
    episodes: list[ExportEpisode] = []
    for entry in sorted(entries, key=lambda entry: _split_rank(entry.split)):
        path, found = folder / entry.path, list[ExportEpisode]()
        file = DatasetFile.look(path)  # what is exported follows the file itself, which may have changed since it was published
        if (hands := file.hands_known) is not None:
            wanted = [hands[SIDES.index(side)] for side in export.spec.hands]
            for episode in export.episodes(file):
                # Cut where hands appear or are lost: a number for a hand that was not seen would be made up.
                whole = (span for span in steady_ranges(wanted, episode) if span[1] - span[0] >= export.min_frames)
                text = episode.text or NO_TEXT
                found += [ExportEpisode(entry.video, path, entry.split, text, start=start, stop=stop - 1) for start, stop in whole]
        episodes += found
        if not found:
            left_out[entry.video] = f"no {export.min_frames} frames in a row in which the hands' state is known"
    if not episodes:
        raise ConfigError(f"nothing to export: {left_out or 'there is no video'}")
    shared: dict[str, float] = {}
    for name in ("fps", "window_length"):
        values = {getattr(entry, name) for entry in entries}
        if len(values) > 1:
            listed = ", ".join(f"{value:g}" for value in sorted(values))
            raise ConfigError(f"{name} differs between videos ({listed}); an export holds one: export splits or groups apart")
        shared[name] = float(values.pop())
    sizes = {(int(entry.width_px), int(entry.height_px)) for entry in entries}
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise ConfigError(f"images differ between videos ({listed}), but an export holds one size: export splits or groups apart")
    parts = frozenset.intersection(*(frozenset(entry.parts) for entry in entries))
    return ExportPlan(
        tuple(episodes), left_out, fps=shared["fps"], size_px=sizes.pop(), window_length=int(shared["window_length"]), parts=parts
    )


def state_action_rows(
    file: PackagedFile, episode: ExportEpisode, export: PolicyExport
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States (n, D) and actions (n, A) of an episode's rows."""
    # One frame more, where the last action leads.
    track = HandTrack.of(file, episode.start, episode.stop + 1)
    assert track is not None
    start = file.array("camera/T_camera_world", episode.start)
    states, actions = [], []
    for row in range(episode.rows):
        # Two frames, a state and where its action leads: trainers cut longer chunks themselves.
        ahead = HandTrack(*(part[row : row + 2] for part in (track.T_world_wrist, track.T_camera_world, track.shape)))
        chunk = action_chunk(ahead, export.spec, 1, start)
        flags = chunk.state_valid.astype(np.float32) if len(export.spec.hands) > 1 else np.empty(0, np.float32)
        states.append(np.concatenate([chunk.state, flags]))
        actions.append(chunk.actions[0])
    return np.stack(states), np.stack(actions)


def _split_rank(split: str) -> tuple[int, str]:
    # Episodes of a split must follow each other: LeRobot names a split by its first and last episode.
    return (SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)), split
