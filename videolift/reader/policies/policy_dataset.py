"""Samples for policies: images and state at a frame, and the chunk of actions that follows, within one episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from videolift.dataset.file import PackagedFile
from videolift.errors import ConfigError
from videolift.reader.frames import Sample, read_frames
from videolift.reader.handles import Handles
from videolift.reader.opening import choose_files
from videolift.reader.pairs import shots
from videolift.reader.policies.episodes import Episode, EpisodeRow, RestRule, episodes_between_rests, episodes_of_rows
from videolift.reader.policies.state import HandTrack, StateSpec, action_chunk
from videolift.reader.selection import Selection

CutEpisodes = Callable[[PackagedFile], list[Episode]]
"""Cuts one video into episodes."""


def whole_shots(file: PackagedFile) -> list[Episode]:
    """Every shot of a video is one episode, and its text the video's."""
    return [Episode(start, stop, file.attribute("text", "")) for start, stop in shots(file)]


def cut_by_rows(rows: Sequence[EpisodeRow]) -> CutEpisodes:
    """Episodes are the rows of a table; a video without rows has none. Rows are cut again where a shot ends."""

    def cut(file: PackagedFile) -> list[Episode]:
        found = episodes_of_rows(rows, file.path.stem, file.array("timestamps"))
        bounds = shots(file)
        parts = [(max(e.start, a), min(e.stop, b), e.text) for e in found for a, b in bounds]
        return [Episode(start, stop, text) for start, stop, text in parts if stop > start]

    return cut


def cut_at_rest(rule: RestRule | None = None) -> CutEpisodes:
    """Episodes end where the hands rest."""

    def cut(file: PackagedFile) -> list[Episode]:
        track = HandTrack.of(file)
        if track is None:
            return whole_shots(file)
        seconds, fps = file.array("timestamps"), file.attribute_of_type("fps", float)
        return episodes_between_rests(track.points_world, seconds, fps, rule, file.attribute("text", ""), file.shot)

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
    return PolicyDataset([file.path for file in chosen.files], horizon, spec=spec, episodes=episodes, selection=selection)


class PolicyDataset:
    """One sample per frame from which at least one action is known; opens every file once to see which these are.

    Args:
        files: packaged files.
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
        files: Sequence[Path],
        horizon: int,
        *,
        spec: StateSpec | None = None,
        episodes: CutEpisodes = whole_shots,
        selection: Selection | None = None,
        handles: Handles | None = None,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon is {horizon}, at least one action must be asked for")
        self.files, self.horizon, self.spec = list(files), horizon, spec or StateSpec()
        self.selection = Selection() if selection is None else selection
        self.handles = Handles() if handles is None else handles
        self.episodes: list[tuple[int, Episode]] = []
        """Number of the file, and the episode."""
        parts = [np.empty((0, 2), np.int64)]
        for number, path in enumerate(self.files):
            with PackagedFile(path) as file:
                track, found = HandTrack.of(file), episodes(file)
            for episode in found if track is not None else ():
                assert track is not None
                known = track.known(self.spec)[episode.start : episode.stop]
                # An action that starts or ends at a hand that was not seen would teach a jump.
                moves = known[:-1].any(1) & (known[:-1] == known[1:]).all(1)
                frames = np.flatnonzero(moves) + episode.start
                parts.append(np.stack([np.full(len(frames), len(self.episodes)), frames], 1))
                self.episodes.append((number, episode))
        self._index = np.concatenate(parts)
        """Episode and frame (n, 2) of the frames with an action to learn."""

    def __len__(self) -> int:
        return len(self._index)

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
        episode_index, frame = self._index[range(len(self))[index]].tolist()
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
