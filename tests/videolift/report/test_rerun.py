"""The rerun recording holds the scene in the world's frame; without the package the error says what to install."""

import subprocess
import sys
from unittest.mock import create_autospec

import numpy as np
import pytest
from typer.testing import CliRunner

from stages.sample.artifacts import grid, true_window
from videolift.cli import app
from videolift.errors import ConfigError
from videolift.geometry import invert_pose, transform
from videolift.report.rerun_file import log_scene, shot_roots, world_tracks, write_rerun
from videolift.report.video_scene import open_scene


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


def test_every_frame_of_a_video_with_cuts_belongs_to_its_shots_own_root():
    assert shot_roots(np.array([0, 0, 0], np.int32)) == ["world"] * 3
    assert shot_roots(np.array([-1, 0, -1, 1, 1], np.int32)) == ["shot_1", "shot_1", "shot_1", "shot_2", "shot_2"]


def test_two_shots_are_drawn_in_two_worlds_and_never_at_once(run_output):
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra view)")
    stream = create_autospec(rerun.RecordingStream, instance=True)
    with open_scene(run_output, "pick") as scene:
        scene.shot = np.repeat([0, -1, 1], [12, 2, 20]).astype(np.int32)
        log_scene(rerun, stream, scene)
    frame, shown, seen = 0, set(), {}
    for name, arguments, keywords in stream.method_calls:
        if name == "set_time" and arguments == ("frame",):
            frame = keywords["sequence"]
        elif name == "log" and isinstance(arguments[1], rerun.Clear):
            shown -= {entity for entity in shown if entity == arguments[0] or entity.startswith(arguments[0] + "/")}
        elif name == "log" and not keywords.get("static") and not arguments[0].startswith("scores/"):
            shown.add(arguments[0])
        seen[frame] = {entity.split("/")[0] for entity in shown}
    assert [seen[number] for number in (0, 13, 14, 33)] == [{"shot_1"}, {"shot_1"}, {"shot_2"}, {"shot_2"}]
    assert all(len(roots) == 1 for roots in seen.values())
    assert {"shot_2/camera", "shot_2/tracks/points", "shot_2/hands/right/joints"} <= shown
    blueprint = stream.send_blueprint.call_args.args[0]
    spaces = [[view.origin for view in shot.contents] for shot in blueprint.root_container.contents[0].contents]
    assert spaces == [["/shot_1", "/shot_1/camera"], ["/shot_2", "/shot_2/camera"]]


def test_what_excludes_each_other_is_refused(output):
    result = CliRunner().invoke(app, ["view", "pick", "-o", str(output), "--page", "--web"])
    assert isinstance(result.exception, ConfigError)
