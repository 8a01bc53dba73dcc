"""State and action: exact both ways, never across an episode, a shot or an unknown hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from videolift.errors import ConfigError
from videolift.geometry import invert_pose
from videolift.reader import PackagedFile, Selection
from videolift.reader.opening import DatasetFile, choose_files
from videolift.reader.pairs import PairDataset, Spacing, open_pairs
from videolift.reader.policies.episodes import Episode, EpisodeRow, steady_ranges
from videolift.reader.policies.policy_dataset import PolicyDataset, cut_at_rest, cut_by_rows, open_policy
from videolift.reader.policies.state import (
    HandTrack,
    StateSpec,
    action_chunk,
    actions_between,
    apply_action,
    hand_shape,
    wrist_poses,
)
from videolift.shot_ranges import true_ranges

SPECS = [
    StateSpec(frame=frame, hands=("right",), action=action, fingertips=tips)
    for frame, action, tips in itertools.product(("world", "camera", "start"), ("absolute", "delta"), (False, True))
]


@pytest.fixture(scope="module")
def track(profiles):
    with PackagedFile(profiles["default"]) as file:
        return HandTrack.of(file)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_actions_lead_through_the_true_poses_to_a_hundredth_of_a_millimetre(track, spec):
    first, horizon = 2, 8
    ahead = HandTrack(*(getattr(track, name)[first:] for name in ("T_world_wrist", "T_camera_world", "shape")))
    chunk = action_chunk(ahead, spec, horizon, track.T_camera_world[0])
    assert not chunk.is_pad.any()
    reference = {"world": np.eye(4), "camera": track.T_camera_world[first], "start": track.T_camera_world[0]}[spec.frame]
    state = chunk.state
    for step in range(horizon + 1):
        T_world_wrist = invert_pose(reference) @ wrist_poses(state, spec)[0]
        np.testing.assert_allclose(T_world_wrist, track.T_world_wrist[first + step, 1], atol=1e-5)
        if step < horizon:
            state = apply_action(state, chunk.actions[step], spec)


@pytest.mark.parametrize("action", ["absolute", "delta"])
def test_actions_undo_themselves_for_random_hands(action):
    rng, spec = np.random.default_rng(0), StateSpec(action=action)
    T = np.tile(np.eye(4), (30, 2, 1, 1))
    q, _ = np.linalg.qr(rng.normal(size=(30, 2, 3, 3)))
    T[..., :3, :3] = q * np.linalg.det(q)[..., None, None]
    T[..., :3, 3] = rng.normal(size=(30, 2, 3))
    states, known = HandTrack(T, np.tile(np.eye(4), (30, 1, 1)), rng.random((30, 2, 17))).states(spec, np.eye(4))
    assert known.all()
    state = states[0]
    for action_now, wanted in zip(actions_between(states, spec), states[1:], strict=True):
        state = apply_action(state, action_now.astype(np.float32), spec)
        np.testing.assert_allclose(state, wanted, atol=1e-5)


def test_closure_and_aperture_are_what_their_names_say(track):
    straight = np.zeros((21, 3))
    straight[1:, 0] = np.tile([0.02, 0.05, 0.07, 0.09], 5)
    straight[5:9, 1] = 0.0
    straight[4] = [0.05, 0.03, 0]
    shape = hand_shape(np.eye(4), straight)
    assert shape[0] == pytest.approx(0, abs=1e-12)
    assert shape[1] == pytest.approx(np.linalg.norm(straight[4] - straight[8]))
    np.testing.assert_allclose(shape[2:5], straight[4])
    closure = track.shape[:, 1, 0]
    assert (np.diff(closure) >= -1e-6).all()  # the sample's hand closes around the box


def with_unknown(path, source, hands, frames):
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        valid = file["hands/valid"][...]
        valid[frames, hands] = False
        file["hands/valid"][...] = valid
    return path


def test_no_action_crosses_an_unknown_hand(profiles, tmp_path):
    path = with_unknown(tmp_path / "clip.hdf5", profiles["default"], 1, [6])
    data = PolicyDataset([path], 4, spec=StateSpec(hands=("right",)))
    assert [data[i]["frame"] for i in range(len(data))] == [0, 1, 2, 3, 4, 7, 8, 9, 10]
    assert [int((~data[i]["action_is_pad"]).sum()) for i in range(len(data))] == [4, 4, 3, 2, 1, 4, 3, 2, 1]
    for i in range(len(data)):
        sample = data[i]
        assert (sample["action"][sample["action_is_pad"]] == 0).all()
        assert np.isfinite(sample["action"]).all()


def test_no_action_crosses_an_episode(profiles):
    rows = [EpisodeRow("default", 0.0, 0.5, "reach"), EpisodeRow("default", 0.5, 1.2, "lift")]
    data = PolicyDataset(
        [profiles["default"]], 3, spec=StateSpec(hands=("right",)), episodes=cut_by_rows(rows), selection=Selection(past_frames=2)
    )
    samples = [data[i] for i in range(len(data))]
    assert [(s["frame"], s["task"], s["frame_index"]) for s in samples] == [
        *((t, "reach", t) for t in range(4)),
        *((t, "lift", t - 5) for t in range(5, 11)),
    ]
    assert [int((~s["action_is_pad"]).sum()) for s in samples] == [3, 3, 2, 1, 3, 3, 3, 3, 2, 1]
    assert samples[4]["frame_valid"].tolist() == [False, True]
    np.testing.assert_array_equal(samples[4]["rgb"][0], samples[4]["rgb"][1])
    assert samples[4]["seconds"][0] == samples[4]["seconds"][1]


def test_no_action_crosses_a_shot(profiles, tmp_path):
    path = tmp_path / "clip.hdf5"
    path.write_bytes(profiles["default"].read_bytes())
    with h5py.File(path, "r+") as file:
        file["timestamps"][8:] = file["timestamps"][8:] + 5.0
    for cut in (cut_by_rows([EpisodeRow("clip", 0, 9)]), cut_at_rest()):
        data = PolicyDataset([path], 4, spec=StateSpec(hands=("right",)), episodes=cut)
        assert [data[i]["frame"] for i in range(len(data))] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
        assert [int((~data[i]["action_is_pad"]).sum()) for i in range(7)] == [4, 4, 4, 4, 3, 2, 1]


def test_a_hand_that_is_never_seen_is_0_and_masked(dataset_folder):
    data = open_policy(dataset_folder, 3, split="train")
    sample = data[0]
    assert sample["state_valid"].tolist() == [False, True]
    half = len(StateSpec().names) // 2
    assert (sample["observation.state"][:half] == 0).all()
    assert (sample["action"][:, :half] == 0).all()
    assert (sample["observation.state"][half:] != 0).any()
    assert sample["action"].shape == (3, 22)


def test_nothing_is_opened_to_tell_the_samples(dataset_folder, monkeypatch):
    chosen = choose_files(dataset_folder, Selection(points=None), split="train")
    opened = PolicyDataset([file.path for file in chosen.files], 3)
    pairs = PairDataset([file.path for file in chosen.files], Spacing(frames=2))
    for module in ("opening", "policies.policy_dataset", "handles"):
        monkeypatch.setattr(f"videolift.reader.{module}.PackagedFile", None)
    assert len(open_policy(dataset_folder, 3, split="train")) == len(opened) == 22
    assert open_policy(dataset_folder, 3, split="train").episodes == opened.episodes
    assert len(open_pairs(dataset_folder, Spacing(frames=2), split="train")) == len(pairs) == 20


@given(arrays(bool, (20, 2)), st.integers(0, 20), st.integers(0, 20))
def test_steady_ranges_are_those_of_equal_rows(known, first, end):
    start, stop = sorted((first, end))
    found = steady_ranges([true_ranges(known[:, hand]) for hand in (0, 1)], Episode(start, stop))
    expected = []
    for t in range(start, stop):
        if known[t].any():
            if expected and expected[-1][1] == t and (known[t] == known[t - 1]).all():
                expected[-1] = (expected[-1][0], t + 1)
            else:
                expected.append((t, t + 1))
    assert found == expected


@pytest.mark.parametrize("ranges", ["[[0, 5], [4, 9]]", "[[3, 3]]", "[[-1, 4]]", "[7]", "{", "[[0, null]]"])
def test_ranges_that_cannot_be_are_a_damaged_index(ranges):
    file = DatasetFile(Path("a.hdf5"), 3, 1, 10.0, "", (ranges, None, None))
    with pytest.raises(ConfigError, match=r"the index says of a.hdf5 that frames .* run the statistics stage again"):
        file.unbroken  # noqa: B018


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"frame": "cam"}, "frame is 'cam'"), ({"hands": ()}, "hands is"), ({"action": "rel"}, "action is 'rel'")],
)
def test_a_state_that_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        StateSpec(**fields)
