"""An output folder with artifacts that are exactly the truth of a small rendered clip."""

import pytest

from stages.sample import Truth, render
from stages.sample.artifacts import write_truth_artifacts


@pytest.fixture(scope="session")
def truth() -> Truth:
    return render("orbit_rgbd", frames=34, width=192, height=144)


@pytest.fixture(scope="session")
def output(truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("output")
    write_truth_artifacts(path, "pick", truth, window_length=8, grid_px=6)
    return path
