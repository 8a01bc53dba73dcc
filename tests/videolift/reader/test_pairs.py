"""Temporal pairs and clips: the true frames at the true distance, within a shot, never one frame twice."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from videolift.errors import ConfigError
from videolift.reader import Selection
from videolift.reader.pairs import PairDataset, Spacing, open_pairs

SELECTION = Selection(depth=False, camera=False)


def frames_of(data):
    return [[round(t * 10) for t in data[i]["seconds"]] for i in range(len(data))]


def test_pairs_are_frames_at_the_gap(dataset_folder):
    data = open_pairs(dataset_folder, Spacing(frames=3), split="val", selection=SELECTION)
    assert frames_of(data) == [[t, t + 3] for t in range(9)]
    assert data[2]["rgb"].shape == (2, 3, 64, 64)
    assert (data[2]["gap_frames"], data[2]["gap_seconds"]) == (3, pytest.approx(0.3))


def test_the_images_are_those_of_the_frames(profiles):
    sample = PairDataset([profiles["default"]], Spacing(count=3, frames=2), SELECTION)[4]
    with h5py.File(profiles["default"], locking=False) as file:
        np.testing.assert_array_equal(sample["rgb"], file["rgb"][...][[4, 6, 8]])


def test_a_gap_in_seconds_follows_the_videos_rate(profiles):
    assert frames_of(PairDataset([profiles["default"]], Spacing(count=3, seconds=0.4), SELECTION)) == [
        [t, t + 4, t + 8] for t in range(4)
    ]


def test_a_drawn_gap_is_uniform_among_those_that_fit(profiles):
    data = PairDataset([profiles["default"]], Spacing(frames=(1, 4)), Selection(rgb=False, depth=False, camera=False))
    assert len(data) == 11
    gaps = np.array([[data.open(i, epoch=e)["gap_frames"] for e in range(300)] for i in (0, 8, 10)])
    assert [sorted(set(row)) for row in gaps.tolist()] == [[1, 2, 3, 4], [1, 2, 3], [1]]
    counts = np.bincount(gaps[0])[1:]
    assert ((counts - 75) ** 2 / 75).sum() < 16


def test_no_pair_crosses_a_shot(profiles, tmp_path):
    path = tmp_path / "clip.hdf5"
    path.write_bytes(profiles["default"].read_bytes())
    with h5py.File(path, "r+") as file:
        file["timestamps"][5:] = file["timestamps"][5:] + 2.0
    assert frames_of(PairDataset([path], Spacing(frames=2), SELECTION)) == [[t, t + 2] for t in (0, 1, 2)] + [
        [t + 20, t + 22] for t in range(5, 10)
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either in frames or in seconds"),
        ({"frames": 1, "seconds": 1.0}, "either in frames or in seconds"),
        ({"frames": 0}, "must be above 0"),
        ({"frames": (4, 2)}, "must be above 0 and rise"),
        ({"count": 1, "frames": 1}, "a pair has 2 frames"),
    ],
)
def test_a_spacing_that_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Spacing(**fields)


def test_a_gap_below_half_a_frame_is_refused_and_not_the_same_frame(profiles):
    with pytest.raises(ConfigError, match=r"a gap of 0.04 s is the same frame at 10 frames per second: the least is 0.05 s"):
        PairDataset([profiles["default"]], Spacing(seconds=0.04), SELECTION)
