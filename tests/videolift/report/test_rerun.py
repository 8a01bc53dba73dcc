"""The rerun recording holds the scene in the world's frame; without the package the error says what to install."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from stages.sample.artifacts import grid, true_window
from videolift.cli import app
from videolift.errors import ConfigError
from videolift.geometry import invert_pose, transform
from videolift.report import write_rerun
from videolift.report.rerun_file import world_tracks


def test_without_the_package_the_error_says_what_to_install(output, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ConfigError, match=r"pip install 'videolift\[view\]'"):
        write_rerun(output, "pick", tmp_path / "pick.rrd")
    assert not list(tmp_path.iterdir())


def test_tracks_of_what_stands_still_lie_still_in_the_world(truth):
    uv = grid(192, 144, 6)
    column, row = uv.astype(int).T
    window = true_window(truth, 10, 8, uv[~truth.moving[10, row, column]])
    points, colours, paths = world_tracks(window, 7, invert_pose(truth.T_camera_world[10]))
    first, _, _ = world_tracks(window, 0, invert_pose(truth.T_camera_world[10]))
    np.testing.assert_allclose(points, first[window.visible[7]], atol=1e-6)
    assert paths == []
    expected = transform(invert_pose(truth.T_camera_world[10]), window.xyz_cam0[0])
    np.testing.assert_allclose(first, expected, atol=1e-6)
    assert (colours == colours[0]).all()


def test_the_recording_opens_and_holds_camera_depth_tracks_hands_and_scores(run_output, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra view)")
    path = write_rerun(run_output, "pick", tmp_path / "pick.rrd")
    command = [sys.executable, "-m", "rerun", "rrd"]
    subprocess.run([*command, "verify", str(path)], check=True)
    printed = subprocess.run([*command, "print", str(path)], check=True, capture_output=True, text=True).stdout
    for entity in (
        "camera/rgb",
        "camera/depth",
        "camera/keypoints/right",
        "tracks/points",
        "hands/right/joints",
        "hands/right/wrist",
    ):
        assert f"/world/{entity}" in printed
    assert "/scores/depth_residual" in printed


def test_what_excludes_each_other_is_refused(output):
    result = CliRunner().invoke(app, ["view", "pick", "-o", str(output), "--page", "--web"])
    assert isinstance(result.exception, ConfigError)
