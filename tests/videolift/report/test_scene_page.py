"""The 3D page holds the video in its first camera, opens without anything else, and draws cheaply."""

import base64
import shutil

import numpy as np
import pytest

from stages.sample.artifacts import write_truth_artifacts
from tests.chromium import CHROMEDRIVER, CHROMIUM, Chromium
from videolift.errors import ConfigError
from videolift.geometry import invert_pose, transform
from videolift.report import write_scene_page
from videolift.report.scene_page import MAX_WINDOWS, in_first_cameras, scene_content
from videolift.report.video_scene import open_scene

in_browser = pytest.mark.skipif(not (CHROMEDRIVER and CHROMIUM), reason="needs Chromium: apt-get install chromium chromium-driver")
KINDS = {"i2": np.int16, "u1": np.uint8, "f4": np.float32}


@pytest.fixture(scope="module")
def content(output):
    with open_scene(output, "pick") as scene:
        return scene_content(scene)


def array(content, name):
    kind, length, offset = content["arrays"][name]
    return np.frombuffer(base64.b64decode(content["blob"]), KINDS[kind], length, offset)


def test_the_view_follows_the_middle_of_what_each_window_shows(content):
    first = content["tiles"][0]
    cloud = array(content, "cloud_xyz").reshape(-1, 3)[: first["cloud"]] * content["unit_per_step"] + np.array(content["center"])
    np.testing.assert_allclose(np.median(cloud, axis=0), first["middle"], atol=2 * content["unit_per_step"])


def test_windows_lie_end_to_end_so_that_every_frame_has_one(content):
    assert [tile["start"] for tile in content["tiles"]] == [0, 8, 16, 24]


def test_points_lie_where_they_are_in_the_first_camera(content, output, truth):
    with open_scene(output, "pick") as scene:
        window = scene.window(16)
    T_first_cam0 = truth.T_camera_world[0] @ invert_pose(truth.T_camera_world[16])
    expected = transform(T_first_cam0, window.xyz_cam0[3].astype(np.float64))
    tile = content["tiles"][2]
    steps = array(content, "xyz").reshape(-1, 3)[tile["at"] + 3 * tile["points"] :][: tile["points"]]
    found = steps * content["unit_per_step"] + np.array(content["center"])
    visible = array(content, "visible")[tile["at"] + 3 * tile["points"] :][: tile["points"]].astype(bool)
    assert visible.sum() > 100
    np.testing.assert_allclose(found[visible], expected[visible], atol=content["unit_per_step"])


def test_hands_are_left_out_where_their_lengths_differ_from_the_depths(output):
    with open_scene(output, "pick") as scene:
        assert "joints" in scene_content(scene)["arrays"]
        scene.worth = {**scene.worth, "scale": "arbitrary"}
        assert "joints" not in scene_content(scene)["arrays"]


def test_a_long_video_shows_windows_evenly_and_says_so(output):
    with open_scene(output, "pick") as scene:
        scene.window_start, scene.window_length = np.arange(400), 1
        scene.window = lambda number, real=scene.window: real(number % 27)
        content = scene_content(scene)
    assert len(content["tiles"]) == MAX_WINDOWS
    assert content["note"] == f"{MAX_WINDOWS} of 400 windows, evenly over the video"


def test_every_shot_is_seen_from_its_own_first_camera(truth):
    shot = np.repeat([0, -1, 1], [12, 2, 20]).astype(np.int32)
    T_view_camera = in_first_cameras(truth.T_camera_world, shot)
    for first in (0, 14):
        np.testing.assert_allclose(T_view_camera[first], np.eye(4), atol=1e-12)
    expected = truth.T_camera_world[14] @ invert_pose(truth.T_camera_world[30])
    np.testing.assert_allclose(T_view_camera[30], expected, atol=1e-12)


def test_a_video_without_depth_is_refused_with_what_shows_it(output, tmp_path):
    shutil.copytree(output / "frames", tmp_path / "frames")
    with pytest.raises(ConfigError, match="pick has no depth.*videolift preview pick"):
        write_scene_page(tmp_path, "pick")


@in_browser
def test_the_page_draws_three_thousand_points_in_few_calls_and_rewrites_its_buffers(tmp_path, truth):
    write_truth_artifacts(tmp_path / "output", "pick", truth, window_length=8, grid_px=3)
    path = write_scene_page(tmp_path / "output", "pick")
    assert path == tmp_path / "output" / "report" / "scenes" / "pick.html"
    with Chromium(tmp_path / "profile") as browser:
        for width in (1200, 400):
            browser.show(path, width=width)
            browser.wait("document.documentElement.dataset.ready && videolift.scripting.length > 3")
            assert browser.run("return document.documentElement.scrollWidth") <= width
        legend = browser.run("return [...$('legend').children].map((one) => [one.textContent, one.firstChild.style.background])")
        assert [text for text, _ in legend] == [
            "point that stands still",
            "point that moved 2 % to 20 % or more of its distance from the camera",
            *("left hand", "right hand", "camera", "its path"),
        ]
        drawn = browser.run("return shades.map(css)")
        assert legend[0][1] == drawn[0]
        assert legend[1][1] == f"linear-gradient(90deg, {', '.join(drawn[drawn.count(drawn[0]) :])})", "the points' own colours"
        assert browser.run("return D.points") == 3000
        counts = browser.run(
            """const calls = {draw: 0, allocate: 0, rewrite: 0}, frames = 12;
            const kinds = {drawArrays: 'draw', drawElements: 'draw', bufferData: 'allocate', bufferSubData: 'rewrite'};
            for (const [name, kind] of Object.entries(kinds)) {
              const real = gl[name].bind(gl); gl[name] = (...given) => { calls[kind]++; return real(...given); };
            }
            play(false);
            for (let i = 0; i < frames; i++) { show(i); renderer.render({ scene: root, camera }); }
            calls.draw /= frames; return calls;"""
        )
        assert counts["draw"] <= 20
        assert counts["allocate"] == 0
        assert counts["rewrite"] > 0
        assert browser.run("return L.points.count") > 1000
        assert browser.run("show(0); const at = [...orbit.target]; show(24); return at.join() !== [...orbit.target].join()")
        browser.run("document.querySelector('#layers input:not(#follow)').click()")
        assert browser.run("return L.cloud.mesh.visible") is False
        assert [line for line in browser.console() if "GPU stall" not in line] == []
