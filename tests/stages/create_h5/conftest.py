"""Truth artifacts of one short clip, and a function that packages them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.backend import Inputs
from stages.create_h5.hdf5 import BACKEND
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from tests.blocks import blocks_of
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.inputs.catalog import Video


@pytest.fixture(scope="session")
def truth():
    return render("orbit", frames=14, width=128, height=96, side="left")


@pytest.fixture(scope="session")
def truth_folder(tmp_path_factory, truth):
    folder = tmp_path_factory.mktemp("truth")
    write_truth_artifacts(folder, "clip", truth, window_length=5, stride=2, grid_px=6)
    return folder


@pytest.fixture
def inputs(truth_folder):
    def make(folder=truth_folder, **changes):
        files = {"clip": Clip, "depth": Depth, "tracks": Tracks, "hands": Hands}
        folders = {"clip": "frames", "depth": "depth", "tracks": "tracks_3d", "hands": "hand_poses"}
        parts = {name: kind(folder / folders[name] / "clip.h5") for name, kind in files.items()}
        video = Video("clip", "/nowhere/clip.mp4", text="lift the box")
        return Inputs(**({"video": video} | parts | changes))

    return make


@pytest.fixture
def package_clip(tmp_path, inputs):
    def run(name="clip", progress=lambda done, total: None, settings=None, **changes):
        block = blocks_of("clip")["create_h5"]
        block = block.model_copy(update={"window_length": 5, "stride": 2, "size": 64, **(settings or {})})
        backend = BACKEND(block, root=Path())
        out = backend.writer(tmp_path / f"{name}.hdf5")
        quality = backend.process(inputs(**changes), out, shrink=1.0, progress=progress)
        return out.publish(), quality

    return run
