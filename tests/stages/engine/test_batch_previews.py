"""A batch's job draws previews of what it packaged: the worst, all, or none; what goes wrong with one stops nothing."""

import logging

import av
import numpy as np
import pytest

from stages.engine.batch_previews import draw_previews
from stages.sample import render
from stages.sample.artifacts import write_truth_artifacts
from tests.videolift.report.conftest import package_pick
from videolift.artifacts import Depth
from videolift.paths import Layout
from videolift.report import write_preview


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """Two packaged videos: ``good``, and ``bad``, whose depth is mostly invalid."""
    layout = Layout(tmp_path_factory.mktemp("output"))
    truth = render("tripod_rgbd", frames=14, width=64, height=48)
    spoilt = render("tripod_rgbd", frames=14, width=64, height=48)
    spoilt.depth_m[:, :, 20:] = 0
    for name, one in (("good", truth), ("bad", spoilt)):
        write_truth_artifacts(layout.output, "pick", one, window_length=8, grid_px=4)
        with Depth(layout.artifact("depth", "pick")) as depth:
            assert np.isclose((depth[0] > 0).mean(), 1.0 if name == "good" else 20 / 64)
        published = package_pick(layout.output)
        published.path.rename(layout.artifact("create_h5", name))
    return layout


@pytest.fixture
def layout(packaged, tmp_path):
    (tmp_path / "h5_dataset").symlink_to(packaged.dataset)
    return Layout(tmp_path)


@pytest.mark.parametrize(("which", "drawn"), [("none", []), ("worst", ["bad"]), ("all", ["bad", "good"])])
def test_the_setting_says_which_videos_are_drawn(layout, which, drawn):
    draw_previews(layout, which, ["bad", "good"])
    found = sorted(path.stem for path in layout.previews.glob("*.mp4")) if layout.previews.is_dir() else []
    assert found == drawn


def test_what_is_there_and_newer_is_not_drawn_again(layout):
    draw_previews(layout, "worst", ["bad", "good"])
    path = layout.previews / "bad.mp4"
    before = path.stat().st_ino
    draw_previews(layout, "worst", ["bad", "good"])
    assert path.stat().st_ino == before


def test_a_file_that_cannot_be_read_is_logged_and_the_others_are_drawn(layout, packaged, caplog):
    layout.dataset.unlink()
    layout.dataset.mkdir()
    (layout.dataset / "good.hdf5").symlink_to(packaged.artifact("create_h5", "good"))
    (layout.dataset / "torn.hdf5").write_bytes(b"not hdf5")
    with caplog.at_level(logging.WARNING, "videolift"):
        draw_previews(layout, "all", ["torn", "good"])
    assert "no preview of torn" in caplog.text
    assert (layout.previews / "good.mp4").exists()


def test_of_a_long_video_only_the_part_around_its_worst_second_is_drawn(layout):
    movie, _ = write_preview(layout.output, "good", most_seconds=0.5)
    with av.open(str(movie)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
