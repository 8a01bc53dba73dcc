"""One clip of known truth, packaged in every profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from videolift.artifacts import Clip, Depth, DepthWriter, Hands, Tracks
from videolift.dataset import PackagedVideo, publish_dataset
from videolift.dataset.package import Packaging, Sources, package
from videolift.dataset.profiles import PROFILES
from videolift.dataset.writer import DatasetWriter


def package_truth(artifacts, path, *, video="clip", profile="default", **changes):
    files = {"clip": Clip(artifacts / f"frames/{video}.h5"), "depth": Depth(artifacts / f"depth/{video}.h5")}
    files |= {"tracks": Tracks(artifacts / f"tracks_3d/{video}.h5"), "hands": Hands(artifacts / f"hand_poses/{video}.h5")}
    out = DatasetWriter(path)
    settings = Packaging(size=64, window_length=5, stride=1, profile=profile)
    package(Sources(**(files | changes)), settings, out, lambda done, total: None)
    published = out.publish()
    return PackagedVideo(path.stem, path, published.sha256, published.bytes)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    write_truth_artifacts(folder, "clip", render("orbit", frames=12, width=128, height=96), window_length=5, grid_px=4)
    return folder


@pytest.fixture(scope="session")
def profiles(artifacts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    return {profile: package_truth(artifacts, folder / f"{profile}.hdf5", profile=profile).path for profile in PROFILES}


@pytest.fixture(scope="session")
def dataset_folder(artifacts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset") / "h5_dataset"
    rows = [package_truth(artifacts, folder / f"v{i}.hdf5", profile=profile) for i, profile in enumerate(PROFILES)]
    rows = [replace(r, metadata={"split": s}) for r, s in zip(rows, ("train", "train", "val"), strict=True)]
    publish_dataset(folder, rows, left_out={})
    return folder


@pytest.fixture(scope="session")
def bare_file(artifacts, tmp_path_factory):
    """A video of which nothing but its images is known."""
    path = tmp_path_factory.mktemp("bare") / "bare.hdf5"
    return package_truth(artifacts, path, depth=None, tracks=None, hands=None).path


@pytest.fixture(scope="session")
def two_groups(artifacts, tmp_path_factory):
    """A dataset of one metric video and one whose depth has a unit of its own."""
    folder = tmp_path_factory.mktemp("groups") / "h5_dataset"
    other = artifacts / "depth/arbitrary.h5"
    with Depth(artifacts / "depth/clip.h5") as depth:
        writer = DepthWriter(other)
        writer.append_frames(depth[:], depth.T_camera_world, depth.pose_valid)
        writer.put(K=depth.K)
        writer.declare(backend={"name": "sfm", "version": 1}, tier="C", scale="arbitrary", pose="sfm", intrinsics="estimated")
        writer.publish()
    rows = [package_truth(artifacts, folder / "metric.hdf5")]
    rows.append(package_truth(artifacts, folder / "arbitrary.hdf5", depth=Depth(other), hands=None))
    publish_dataset(folder, rows, left_out={})
    return folder
