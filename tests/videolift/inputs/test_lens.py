from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from videolift.errors import BadInput
from videolift.inputs.lens import Lens, read_lens

K = np.array([[700.0, 0, 639.5], [0, 710, 359.5], [0, 0, 1]])
SIZE = (1280, 720)
FIVE = (-0.28, 0.07, 0.0005, -0.0004, 0.01)
EIGHT = (0.1, -0.05, 0.001, 0.0005, 0.01, 0.2, -0.03, 0.002)
FISHEYE = (-0.02, 0.004, -0.001, 0.0002)
DISTORTIONS = [(FIVE, "pinhole"), (FIVE[:4], "pinhole"), (EIGHT, "pinhole"), (FISHEYE, "fisheye"), ((), "pinhole")]


def ros(values):
    matrix = {"rows": 3, "cols": 3, "data": values.ravel().tolist()}
    return {"image_width": 1280, "image_height": 720, "camera_matrix": matrix}


@pytest.mark.parametrize(("distortion", "model"), DISTORTIONS)
@pytest.mark.parametrize("kind", ["npz", "json", "yaml"])
def test_plain_files_are_read(tmp_path, kind, distortion, model):
    path = tmp_path / f"calib.{kind}"
    values = {"K": K.tolist(), "distortion": list(distortion), "model": model, "size": list(SIZE)}
    if kind == "npz":
        np.savez(path, **values)
    else:
        path.write_text(json.dumps(values) if kind == "json" else yaml.safe_dump(values))
    lens = read_lens(path)
    assert np.array_equal(lens.K, K)
    assert (lens.size_px, lens.distortion, lens.model) == (SIZE, pytest.approx(distortion), model)


def test_ros_camera_info_is_read(tmp_path):
    values = ros(K) | {"distortion_model": "plumb_bob", "distortion_coefficients": {"rows": 1, "cols": 5, "data": list(FIVE)}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    lens = read_lens(tmp_path / "c.yaml")
    assert (lens.size_px, lens.distortion, lens.model) == (SIZE, FIVE, "pinhole")


def test_opencvs_own_files_are_read(tmp_path):
    path = tmp_path / "c.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 1280)
    storage.write("image_height", 720)
    storage.write("camera_matrix", K)
    storage.write("distortion_coefficients", np.array([FIVE]))
    storage.release()
    lens = read_lens(path)
    assert np.allclose(lens.K, K)
    assert lens.distortion == pytest.approx(FIVE)


def test_focal_lengths_by_name_and_no_size(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"fx": 700, "fy": 710, "cx": 639.5, "cy": 359.5}))
    lens = read_lens(tmp_path / "c.json")
    assert np.array_equal(lens.K, K)
    assert lens.size_px is None
    assert not lens.distorts


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"K": [[700, 0, 640], [0, 700, 360]]}, "not a calibration"),
        ({"K": [[-700, 0, 640], [0, 700, 360], [0, 0, 1]]}, "positive focal"),
        ({"K": [[700, 5, 640], [0, 700, 360], [0, 0, 1]]}, "skew"),
        ({"K": K.tolist(), "distortion": [0.1, 0.2, 0.3]}, "3 distortion coefficients"),
        ({"K": K.tolist(), "distortion": [0.1] * 5, "model": "fisheye"}, "fisheye takes 4"),
        ({"K": K.tolist(), "model": "omnidirectional"}, "omnidirectional"),
        ({"K": K.tolist(), "size": [320, 240]}, "outside the image"),
        ({"K": "rm -rf"}, "not a calibration"),
        ({"matrix": []}, "no K among"),
        ([1, 2], "expected a mapping"),
    ],
)
def test_what_is_no_camera_is_refused_with_its_value(tmp_path, values, says):
    (tmp_path / "c.json").write_text(json.dumps(values))
    with pytest.raises(BadInput, match=says) as caught:
        read_lens(tmp_path / "c.json")
    assert caught.value.code == "calibration"


def test_files_that_attack_are_refused(tmp_path):
    np.savez(tmp_path / "pickle.npz", K=np.array([{"a": 1}], dtype=object))
    np.savez_compressed(tmp_path / "bomb.npz", K=np.zeros(1 << 22))
    (tmp_path / "tag.yaml").write_text("K: !!python/object/apply:os.system ['true']\n")
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04" + bytes(200))
    (tmp_path / "large.json").write_bytes(b" " * (2 << 20))
    for name in ("pickle.npz", "bomb.npz", "tag.yaml", "noise.npz", "large.json", "gone.npz"):
        with pytest.raises(BadInput) as caught:
            read_lens(tmp_path / name)
        assert caught.value.code == "calibration"


def test_distortion_is_opencvs():
    # the library stops after five iterations: far from the middle it is the less exact one
    uv = np.random.default_rng(0).uniform((440, 210), (840, 510), (200, 2))
    for distortion, model in DISTORTIONS:
        lens = Lens(K, SIZE, distortion, model)
        library = cv2.fisheye.undistortPoints if model == "fisheye" else cv2.undistortPoints
        wanted = library(uv[:, None], K, np.array(distortion or (0.0,) * 4), P=K)[:, 0]
        assert lens.undistort(uv, K) == pytest.approx(wanted, abs=0.02)


@given(st.sampled_from(DISTORTIONS), st.floats(0, 1), st.floats(0, 1), st.floats(0.8, 1.4))
def test_points_come_back_through_a_lens(which, x, y, zoom):
    lens = Lens(K, SIZE, *which)
    K_clip = K * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
    uv = np.array([x * 1279, y * 719])
    assert lens.distort(lens.undistort(uv, K_clip), K_clip) == pytest.approx(uv, abs=1e-4)


def test_a_point_outside_the_models_range_is_nan():
    assert np.isnan(Lens(K, SIZE, (-0.9, 0.0, 0.0, 0.0)).undistort([1279.0, 719.0], K)).all()


@pytest.mark.parametrize(("distortion", "model"), DISTORTIONS)
def test_the_pinhole_is_the_widest_without_empty_pixels(distortion, model):
    lens = Lens(K, SIZE, distortion, model)
    clip, offset = (960, 720), (160, 0)
    found = lens.pinhole(clip, offset)
    assert found[0, 0] / found[1, 1] == pytest.approx(K[0, 0] / K[1, 1])
    grid = np.stack(np.meshgrid(np.linspace(0, 959, 60), np.linspace(0, 719, 60)), -1)

    def inside(matrix):
        out = lens.distort(grid, matrix)
        return bool(((out >= -0.5) & (out <= np.array(SIZE) - 0.5)).all())

    assert inside(found)
    wider = found * np.array([[0.98, 1, 1], [1, 0.98, 1], [1, 1, 1]])
    assert not inside(wider)


def test_a_clip_never_reaches_beyond_the_point_where_the_lens_folds():
    # bends back 364 px from the middle, still inside the picture: rays beyond would fetch the pixels of others
    lens = Lens(np.array([[900.0, 0, 639.5], [0, 900, 359.5], [0, 0, 1]]), SIZE, (-0.9, 0.0, 0.0, 0.0))
    found = lens.pinhole((960, 720), (160, 0))
    corners = np.array([[0.0, 0.0], [959, 0], [0, 719], [959, 719]])
    rays = np.linalg.norm((corners - found[:2, 2]) / found[0, 0], axis=1)
    assert np.all(rays < 1 / np.sqrt(3 * 0.9))


def test_resizing_a_lens_moves_its_centre_by_half_pixels():
    lens = Lens(K, SIZE, FIVE).resized((640, 360))
    assert lens.K[0].tolist() == [350, 0, 319.5]
    assert lens.distortion == FIVE


def test_the_example_of_the_docs_is_read(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "calibration.md").read_text()
    (tmp_path / "c.json").write_text(page.split("```json")[1].split("```")[0])
    assert read_lens(tmp_path / "c.json").size_px == (1920, 1080)


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
def test_endless_brackets_are_no_calibration(tmp_path, name):
    (tmp_path / name).write_text("[" * 5000 + "]" * 5000)
    with pytest.raises(BadInput, match="not a calibration"):
        read_lens(tmp_path / name)
