"""Samples for policies: images and state at a frame, and the chunk of actions that follows, within one episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from videolift.artifacts.hands import SIDES
from videolift.dataset.file import PackagedFile
from videolift.errors import ConfigError
from videolift.reader.frames import Sample, read_frames
from videolift.reader.handles import Handles
from videolift.reader.opening import DatasetFile, choose_files
from videolift.reader.policies.episodes import (
    Episode,
    EpisodeRow,
    RestRule,
    episodes_between_rests,
    episodes_of_rows,
    steady_ranges,
)
from videolift.reader.policies.state import HandTrack, StateSpec, action_chunk
from videolift.reader.selection import Selection

CutEpisodes = Callable[[DatasetFile], list[Episode]]
"""Cuts one video into episodes."""


def whole_shots(file: DatasetFile) -> list[Episode]:
    """Every shot of a video is one episode, and its text the video's."""
    return [Episode(start, stop, file.text) for start, stop in file.unbroken]


def cut_by_rows(rows: Sequence[EpisodeRow]) -> CutEpisodes:
    """Episodes are the rows of a table; a video without rows has none. Rows are cut again where a shot ends."""
    by_video: dict[str, list[EpisodeRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)

    def cut(file: DatasetFile) -> list[Episode]:
        # Before the file is opened: a table of a few videos leaves thousands of files alone.
        if (own := by_video.get(file.path.stem)) is None:
            return []
        with PackagedFile(file.path) as opened:
            found = episodes_of_rows(own, file.path.stem, opened.array("timestamps"))
        parts = [(max(e.start, a), min(e.stop, b), e.text) for e in found for a, b in file.unbroken]
        return [Episode(start, stop, text) for start, stop, text in parts if stop > start]

    return cut


def cut_at_rest(rule: RestRule | None = None) -> CutEpisodes:
    """Episodes end where the hands rest; to see where, every file is opened once."""

    def cut(file: DatasetFile) -> list[Episode]:
        with PackagedFile(file.path) as opened:
            track = HandTrack.of(opened)
            if track is None:
                return whole_shots(file)
            seconds = opened.array("timestamps")
            return episodes_between_rests(track.points_world, seconds, file.fps, rule, text=file.text, shot=opened.shot)

    return cut


def open_policy(
    folder: Path | str,
    horizon: int,
    *,
    spec: StateSpec | None = None,
    episodes: CutEpisodes = whole_shots,
    split: str | None = None,
    group: str | None = None,
    selection: Selection | None = None,
) -> PolicyDataset:
    """Samples for policies from a published dataset; arguments as `open_dataset` and `PolicyDataset`."""
    selection = selection or Selection()
    chosen = choose_files(folder, selection, split=split, group=group)
    return PolicyDataset(chosen.files, horizon, spec=spec, episodes=episodes, selection=selection)


class PolicyDataset:
    """One sample per frame from which at least one action is known.

    Args:
        files: packaged files in the order of the index; paths are opened once to see in which frames hands are known.
        horizon: actions per sample.
        spec: what state and action hold.
        episodes: how a video is cut.
        selection: what is read of the images; what it says of windows does not count.
        handles: where files are kept open.

    Raises:
        ConfigError: a horizon below 1.
        CorruptFile: a file cannot be read.
    """

    def __init__(
        self,
        files: Sequence[DatasetFile | Path],
        horizon: int,
        *,
        spec: StateSpec | None = None,
        episodes: CutEpisodes = whole_shots,
        selection: Selection | None = None,
        handles: Handles | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon is {horizon}, at least one action must be asked for")
        known = [file if isinstance(file, DatasetFile) else DatasetFile.look(file) for file in files]
        self.files, self.horizon, self.spec = [file.path for file in known], horizon, spec or StateSpec()
        self.selection = Selection() if selection is None else selection
        self.handles = Handles() if handles is None else handles
        self.episodes: list[tuple[int, Episode]] = []
        """Number of the file, and the episode."""
        rows = []
        for number, file in enumerate(known):
            if (hands := file.hands_known) is None:
                continue
            wanted = [hands[SIDES.index(side)] for side in self.spec.hands]
            for episode in episodes(file):
                # An action that ends at a hand that was not seen would teach a jump: a stretch's last frame has none.
                rows += [(len(self.episodes), first, end - first - 1) for first, end in steady_ranges(wanted, episode)]
                self.episodes.append((number, episode))
        self._rows = np.array(rows, np.int64).reshape(-1, 3)  # episode, first frame, samples
        self._ends = np.cumsum(self._rows[:, 2])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Sample:
        """As `open`, in epoch 0."""
        return self.open(index)

    def open(self, index: int, *, epoch: int = 0) -> Sample:
        """What `read_frames` gives of the past frames, which begin within the episode (``frame_valid``), and:

        ``observation.state`` f32 (D), ``state_valid`` (hands), ``action`` f32 (H, D), ``action_is_pad`` (H), ``task``, ``video``,
        ``frame``, ``episode_index``, ``frame_index`` (in the episode).

        Raises:
            IndexError: no such sample.
            CorruptFile: its file cannot be read.
        """
        index = range(len(self))[index]
        row = int(np.searchsorted(self._ends, index, side="right"))
        episode_index, first, _ = self._rows[row].tolist()
        frame = first + index - (int(self._ends[row - 1]) if row else 0)
        number, episode = self.episodes[episode_index]
        path = self.files[number]
        file = self.handles.get(path)
        # Not beyond the episode: its last actions are marked as padding instead.
        ahead = HandTrack.of(file, frame, min(frame + self.horizon + 1, episode.stop))
        assert ahead is not None
        chunk = action_chunk(ahead, self.spec, self.horizon, file.array("camera/T_camera_world", episode.start))
        past = np.arange(frame - self.selection.past_frames + 1, frame + 1)
        sample: Sample = {"video": path.stem, "frame": frame, "task": episode.text, "episode_index": episode_index}
        sample |= {"frame_index": frame - episode.start, "frame_valid": past >= episode.start}
        sample |= {"observation.state": chunk.state, "state_valid": chunk.state_valid}
        sample |= {"action": chunk.actions, "action_is_pad": chunk.is_pad}
        # Before the episode its first frame is repeated, and `frame_valid` is False.
        return sample | read_frames(file, np.maximum(past, episode.start), self.selection)
