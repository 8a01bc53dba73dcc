"""Artifacts written from the truth open through the readers and are the truth."""

import numpy as np
import pytest

from stages.sample.artifacts import grid, write_truth_artifacts
from videolift.artifacts import Clip, Depth, Hands, Tracks
from videolift.geometry import project, transform


@pytest.fixture(scope="module")
def output(tmp_path_factory, left):
    path = tmp_path_factory.mktemp("output")
    write_truth_artifacts(path, "v", left, window_length=10, stride=4)
    return path


def test_clip_and_depth_are_those_of_the_truth(output, left):
    with Clip(output / "frames" / "v.h5") as clip, Depth(output / "depth" / "v.h5") as depth:
        np.testing.assert_array_equal(clip[:], left.rgb)
        assert clip.fps == pytest.approx(10)
        np.testing.assert_allclose(depth[:], left.depth_m, rtol=6e-4)
        np.testing.assert_allclose(depth.T_camera_world, left.T_camera_world, atol=1e-6)
        assert (depth.tier, depth.scale, depth.attrs["pose"]) == ("A", "metric", "given")


def test_windows_follow_the_contract(output, left):
    with Tracks(output / "tracks_3d" / "v.h5") as tracks:
        assert tracks.window_start.tolist() == list(range(0, 38 - 10 + 1, 4))
        window = tracks[2]
        xyz, uv, visible = left.tracks(8, grid(192, 144, 12), 10)
        np.testing.assert_allclose(window.xyz_cam0, xyz, atol=1e-6)
        np.testing.assert_allclose(window.uv_px, uv, atol=1e-4)
        np.testing.assert_array_equal(window.visible, visible)
        column, row = uv[0].round().astype(int).T
        np.testing.assert_array_equal(window.label, left.instance[8, row, column])


def test_only_the_rendered_hand_is_valid(output, left):
    with Hands(output / "hand_poses" / "v.h5") as hands, Depth(output / "depth" / "v.h5") as depth:
        assert hands.valid[:, 0].all()
        assert not hands.valid[:, 1].any()
        assert np.isnan(hands.T_camera_wrist[:, 1]).all()
        K = depth.K
        np.testing.assert_allclose(project(hands.joints_camera[:, 0], K), hands.keypoints_px[:, 0], atol=1e-2)
        in_hand = transform(np.linalg.inv(hands.T_camera_wrist[:, 0]), hands.joints_camera[:, 0])
        assert (in_hand[:, 9, 0] > 0.08).all(), "a left hand's fingers point to +x"
