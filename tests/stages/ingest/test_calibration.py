from __future__ import annotations

import json

import av
import numpy as np
import pytest

from tests.videos import moving_pattern, write_video
from videolift.errors import BadInput
from videolift.geometry import pinhole
from videolift.inputs.framing import Framing
from videolift.inputs.lens import Lens
from videolift.inputs.named_cameras import NamedCamera

SIZE = (320, 180)
K = np.array([[170.0, 0, 161.5], [0, 172, 88.5], [0, 0, 1]])
LENSES = {
    "barrel": Lens(K, SIZE, (-0.22, 0.04, 0.001, -0.0008, 0.0)),
    "pincushion": Lens(K, SIZE, (0.12, 0.02, 0.0, 0.0)),
    "fisheye": Lens(K * np.array([[0.6, 1, 1], [1, 0.6, 1], [1, 1, 1]]), SIZE, (-0.01, 0.002, 0.0, 0.0), "fisheye"),
}


def scene(rays: np.ndarray) -> np.ndarray:
    """Colour 0..255 (..., 3) seen along rays (x / z, y / z), soft enough to survive resizing."""
    x, y = rays[..., 0], rays[..., 1]
    waves = np.stack([np.sin(7 * x) * np.cos(5 * y), np.cos(6 * x + 4 * y), np.sin(5 * y - 3 * x)], -1)
    return 128 + 90 * waves


def rays_of(uv: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (uv - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]


def grid(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float)


def filmed_through(lens: Lens) -> np.ndarray:
    unit = np.eye(3)
    rays = lens.undistort(grid(*SIZE), unit)
    return np.rint(np.nan_to_num(scene(rays), nan=0)).astype(np.uint8)


def calibration(path, lens: Lens, **changes):
    values = {"K": lens.K.tolist(), "distortion": list(lens.distortion), "model": lens.model, "size": list(SIZE)}
    path.write_text(json.dumps(values | changes))
    return path


def lossless(path, frame):
    return write_video(path, [frame] * 3, fps=10, codec="ffv1", pix_fmt="bgr0", options={})


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("fit", ["auto", "stretch"])
def test_an_undistorted_clip_shows_what_its_intrinsics_say(tmp_path, ingest, name, fit):
    path = lossless(tmp_path / "v.mkv", filmed_through(LENSES[name]))
    clip, _ = ingest(path, calib=calibration(tmp_path / "c.json", LENSES[name]), fit=fit, width=160, height=120)
    K_given = np.array(clip.attrs["K_given"])
    wanted = scene(rays_of(grid(160, 120), K_given))
    assert np.abs(clip[0] - wanted).mean() < 1.5
    assert np.abs(clip[0] - wanted).max() < 12


def test_without_distortion_the_intrinsics_follow_the_framing(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", moving_pattern(3, 128, 48), fps=10)
    (tmp_path / "c.json").write_text(json.dumps({"K": pinhole(100, 256, 96).tolist(), "size": [256, 96]}))
    clip, _ = ingest(path, calib=tmp_path / "c.json")
    # half size, then 32 columns cut on each side
    assert np.array(clip.attrs["K_given"]) == pytest.approx(pinhole(50, 64, 48))
    assert Framing.from_attrs(clip.attrs).lens is None


def test_a_calibration_belongs_to_the_upright_picture(tmp_path, ingest):
    frame = filmed_through(LENSES["barrel"])
    turned = np.ascontiguousarray(np.rot90(frame, -1))
    path = write_video(tmp_path / "v.mp4", [turned] * 3, fps=10, rotation=(90, False, False))
    clip, _ = ingest(path, calib=calibration(tmp_path / "c.json", LENSES["barrel"]), width=160, height=120)
    wanted = scene(rays_of(grid(160, 120), np.array(clip.attrs["K_given"])))
    assert np.abs(clip[0] - wanted).mean() < 2.5


def test_a_calibration_of_another_shape_is_refused(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", moving_pattern(3), fps=10)
    with pytest.raises(BadInput, match="320x180") as caught:
        ingest(path, calib=calibration(tmp_path / "c.json", LENSES["barrel"]))
    assert caught.value.code == "calibration"


def test_a_lens_that_folds_the_picture_is_refused(tmp_path, ingest):
    path = lossless(tmp_path / "v.mkv", filmed_through(LENSES["barrel"]))
    folding = calibration(tmp_path / "c.json", LENSES["barrel"], distortion=[-40.0, 0, 0, 0])
    with pytest.raises(BadInput, match="at any zoom"):
        ingest(path, calib=folding)


def test_a_calibration_without_a_size_is_taken_for_the_videos_and_says_so(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", moving_pattern(3), fps=10)
    (tmp_path / "c.json").write_text(json.dumps({"K": pinhole(80, 64, 48).tolist()}))
    clip, quality = ingest(path, calib=tmp_path / "c.json")
    assert np.array(clip.attrs["K_given"]) == pytest.approx(pinhole(80, 64, 48))
    assert any("names no size" in check for check in quality.checks)


def test_a_camera_known_by_name_gives_the_clip_its_nominal_intrinsics(tmp_path, ingest):
    path = write_video(tmp_path / "v.mp4", moving_pattern(3, 128, 96), fps=10)
    nominal = Lens(pinhole(1000, 640, 480), (640, 480))
    clip, _ = ingest(path, camera=NamedCamera("a webcam", nominal, "named", "its data sheet").to_row())
    K, how = clip.known_camera()
    assert how == "named"
    assert pytest.approx(pinhole(100, 64, 48)) == K


def test_a_clip_remembers_make_and_model_of_its_camera(tmp_path, ingest):
    plain = write_video(tmp_path / "plain.mp4", moving_pattern(3), fps=10)
    clip, _ = ingest(plain)
    assert "camera" not in clip.attrs["source"]
    with (
        av.open(str(plain)) as source,
        av.open(str(tmp_path / "phone.mov"), "w", options={"movflags": "use_metadata_tags"}) as target,
    ):
        target.metadata.update({"com.apple.quicktime.make": "Maker", "com.apple.quicktime.model": "Phone\n13 <b>"})
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                target.mux(packet)
    clip, _ = ingest(tmp_path / "phone.mov")
    assert clip.attrs["source"]["camera"] == "Maker Phone 13 b"
