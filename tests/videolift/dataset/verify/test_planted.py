"""Planted faults: wrong labels are named by the images, good ones are left alone. `planted.FAULTS` is the table."""

from __future__ import annotations

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tests.videolift.dataset.verify.planted import CLIPS, FAULTS, findings_of, make_clip, named_in, plant
from videolift.dataset.verify.image_checks import sudden_steps

QUICK = (
    *("poses one frame late", "camera frozen", "focal length x 1.15", "depth one frame late", "images one frame late"),
    *("sides swapped", "hands one frame late", "wrist rotations transposed"),
    *("points of the next window", "hidden points called visible"),
)
"""One or two of each part; the rest is slow."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return {clip: make_clip(folder, clip, 11 + i) for i, clip in enumerate(CLIPS)}


def named(clips, tmp_path, kind):
    fault = FAULTS[kind]
    return set(findings_of(fault, clips[fault.clip], tmp_path / "planted.hdf5"))


@pytest.mark.parametrize("clip", CLIPS)
def test_good_labels_raise_no_alarm(clips, clip):
    assert named_in(clips[clip]) == []


def test_a_file_that_keeps_the_whole_picture_is_judged_alike(tmp_path):
    """Its images are not square; depth on its own shows where width and height are taken for each other."""
    path = make_clip(tmp_path, "tripod", 13, view="full")
    assert named_in(path) == []
    with h5py.File(path, "r+") as file:
        file["depth"][...] = file["depth"][...][:, :, ::-1]
    assert named_in(path) == ["depth mirrored"]


def test_an_assumed_plane_under_a_still_camera_is_no_frozen_depth(clips, tmp_path):
    def assumed(labels):
        labels["depth"][:], labels["tracks/query"][:, 2], labels["tracks/displacement"][..., 2] = 0.6, 0.6, 0
        labels.attributes |= {"scale": np.bytes_("assumed"), "tier": np.bytes_("D")}

    assert named_in(plant(clips["tripod"], tmp_path / "assumed.hdf5", assumed)) == []


def test_a_cut_is_one_step_and_hands_that_hurry_are_none():
    assert [t for t, _ in sudden_steps([0.9, 0.9, 0.95, 0.06, 0.9, 0.9])] == [3]
    # measured where two hands shuffle cups before a still camera
    assert not list(sudden_steps([0.8, 0.7, 0.62, 0.46, 0.37, 0.26, 0.28, 0.36, 0.48, 0.32, 0.5, 0.65, 0.8]))


def test_edges_of_sparse_depth_in_a_frame_or_two_prove_nothing(clips, tmp_path):
    def sparse(labels):
        kept = np.zeros(labels["depth"].shape, bool)
        kept[18:21, 60:140, 60:140] = True
        labels["depth"] = np.where(kept, np.roll(labels["depth"], 8, 2), 0).astype(np.float16)
        labels["depth"][:, 0, 0] = 1 + np.arange(len(kept)) / 100  # no two maps are alike

    assert not [name for name in named_in(plant(clips["tripod"], tmp_path / "sparse.hdf5", sparse)) if "depth" in name]


def test_points_that_rough_depth_cannot_vouch_for_are_not_called_hidden_by_mistake(clips, tmp_path):
    def rough(labels):
        noise = np.random.default_rng(3).normal(scale=0.05, size=labels["depth"].shape)
        labels["depth"] = (labels["depth"] * (1 + noise)).astype(np.float16)
        labels["tracks/visible"][1:] = np.random.default_rng(4).random(labels["tracks/visible"][1:].shape) < 0.5

    assert "visible points called hidden" not in named_in(plant(clips["tripod"], tmp_path / "rough.hdf5", rough))


@pytest.mark.parametrize("kind", QUICK)
def test_a_planted_fault_is_named(clips, tmp_path, kind):
    assert named(clips, tmp_path, kind) & set(FAULTS[kind].named)


@pytest.mark.parametrize("kind", ["sides swapped", "a left hand not mirrored"])
def test_a_hand_that_a_depth_camera_sees_in_part_is_judged_by_its_palm(clips, tmp_path, kind):
    def in_part(labels):
        FAULTS[kind].plant(labels)
        labels["hands/joints_camera"][:, :, [4, 13, 16, 20]] = np.nan

    assert set(named_in(plant(clips["handheld"], tmp_path / "part.hdf5", in_part))) & set(FAULTS[kind].named)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind, fault in FAULTS.items() if kind not in QUICK and fault.named])
def test_every_other_planted_fault_is_named(clips, tmp_path, kind):
    assert named(clips, tmp_path, kind) & set(FAULTS[kind].named)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind, fault in FAULTS.items() if not fault.named])
def test_what_nobody_can_see_raises_no_alarm(clips, tmp_path, kind):
    assert named(clips, tmp_path, kind) == set()


@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("seed", range(100, 134))
def test_other_renderings_raise_no_alarm(tmp_path, clip, seed):
    assert named_in(make_clip(tmp_path, clip, seed)) == []
