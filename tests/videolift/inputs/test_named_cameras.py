"""Cameras by name: the packaged ones, the user's, and what a row of the table takes from them."""

import numpy as np
import pytest

from videolift.errors import ConfigError
from videolift.geometry import field_of_view_deg
from videolift.inputs.named_cameras import NamedCamera, cameras_beside, common_cameras
from videolift.inputs.table import read_table


@pytest.mark.parametrize("camera", common_cameras().values(), ids=lambda camera: camera.name)
def test_every_common_camera_is_a_plausible_one_and_says_where_its_values_are_from(camera):
    width, _ = camera.lens.size_px
    assert 40 < field_of_view_deg(camera.lens.K[0, 0], width) < 110
    assert camera.how == "named"
    assert len(camera.source) > 20


def test_a_row_takes_the_camera_it_names_and_keeps_the_name_for_the_dataset(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"12345")
    (tmp_path / "list.csv").write_text("path,camera\na.mp4,realsense-d435\n")
    (video,) = read_table(tmp_path / "list.csv")
    camera = NamedCamera.from_row(video.camera)
    assert (camera.how, camera.lens.size_px) == ("named", (1920, 1080))
    assert field_of_view_deg(camera.lens.K[0, 0], 1920) == pytest.approx(69)
    assert video.metadata == {"camera": "realsense-d435"}


def test_a_name_that_nobody_knows_only_says_which_videos_share_a_camera(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"12345")
    (tmp_path / "list.csv").write_text("path,camera\na.mp4,helmet 3\n")
    (video,) = read_table(tmp_path / "list.csv")
    assert video.camera is None
    assert video.metadata == {"camera": "helmet 3"}


def test_the_users_own_file_comes_first_and_a_calibration_before_any_name(tmp_path):
    for name in ("a.mp4", "K.json"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "cameras.yaml").write_text("kinect-v1: {size: [640, 480], K: [[500, 0, 320], [0, 501, 240], [0, 0, 1]]}\n")
    (tmp_path / "list.csv").write_text("path,camera,calib\na.mp4,kinect-v1,\na.mp4,kinect-v1,K.json\n")
    named, calibrated = read_table(tmp_path / "list.csv")
    assert named.camera["how"] == "given"
    assert np.array(named.camera["K"])[1, 1] == 501
    assert calibrated.camera is None


@pytest.mark.parametrize(
    ("focal", "fx"),
    [("hfov_deg: 90", 480), ("dfov_deg: 90", 600), ("focal_35mm: 36", 960), ("focal_35mm_diagonal: 43.27", 1200)],
)
def test_a_focal_length_is_read_in_each_way_that_makers_state_it(tmp_path, focal, fx):
    (tmp_path / "cameras.yaml").write_text(f"a: {{size: [960, 720], {focal}}}\n")
    assert cameras_beside(tmp_path / "list.csv")["a"].lens.K[0, 0] == pytest.approx(fx)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {size: [640, 480]}", "a camera needs K"),
        ("a: {size: [640, 480], focal_px: -5}", "positive focal lengths"),
        ("a: {size: [640, 480], focal_px: 500, how: guessed}", "'guessed'"),
        ("- a\n- b", "not a list of cameras"),
        ("a: [", "not a list of cameras"),
    ],
)
def test_a_file_of_cameras_that_is_none_is_named_with_what_is_wrong(tmp_path, text, said):
    (tmp_path / "a.mp4").write_bytes(b"12345")
    (tmp_path / "cameras.yaml").write_text(text)
    (tmp_path / "list.csv").write_text("path,camera\na.mp4,a\n")
    with pytest.raises(ConfigError, match=r"cameras\.yaml") as error:
        read_table(tmp_path / "list.csv")
    assert said in str(error.value)
