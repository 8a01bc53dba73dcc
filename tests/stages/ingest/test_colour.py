from __future__ import annotations

import numpy as np
import pytest

from stages.ingest.colour import BT2020_TO_BT709, hlg_to_scene, light_to_pq, pq_to_light, tone_curve
from tests.videos import Tags, rgb_to_yuv444, write_video, yuv_frame

PATCHES = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0],
        [0.5, 0.5, 0.5],
        [0.9, 0.1, 0.1],
        [0.1, 0.8, 0.2],
        [0.2, 0.2, 0.9],
        [0.9, 0.8, 0.1],
        [0.3, 0.6, 0.7],
    ]
)
SIDE = 16


def picture(patches: np.ndarray) -> np.ndarray:
    """Colours (N, 3) as an image (SIDE, N SIDE, 3)."""
    return np.repeat(np.repeat(patches[None], SIDE, 0), SIDE, 1)


def colours(clip) -> np.ndarray:
    """The middle of each patch of the first frame, (N, 3)."""
    return clip[0][SIDE // 2, SIDE // 2 :: SIDE].astype(float)


def clip_of(tmp_path, ingest, patches, *, tags, bits=8, encoded_as=None, full_range=False, codec=None, name="v.mkv"):
    pix_fmt = {8: "yuv444p", 10: "yuv444p10le", 12: "yuv444p12le"}[bits]
    planes = rgb_to_yuv444(picture(patches), encoded_as or tags.matrix, full_range=full_range, bits=bits)
    path = tmp_path / name
    write_video(
        path,
        [yuv_frame(planes, pix_fmt)] * 3,
        fps=10,
        codec=codec or "ffv1",
        pix_fmt=pix_fmt,
        tags=tags,
        options=None if codec else {},
    )
    clip, quality = ingest(path, fit="stretch", width=SIDE * len(patches), height=SIDE)
    return clip, quality


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
@pytest.mark.parametrize("bits", [8, 10])
def test_matrix_and_range_are_those_of_the_file(tmp_path, ingest, matrix, full_range, bits):
    tags = Tags(matrix, full_range)
    clip, _ = clip_of(tmp_path, ingest, PATCHES, tags=tags, bits=bits, full_range=full_range)
    assert np.abs(colours(clip) - 255 * PATCHES).max() <= 2
    stored = clip.attrs["source"]["colour"]
    assert (stored["matrix"], stored["range"], stored["assumed"]) == (matrix, "full" if full_range else "limited", [])


def test_the_wrong_matrix_would_be_seen(tmp_path, ingest):
    clip, _ = clip_of(tmp_path, ingest, PATCHES, tags=Tags("bt709"), encoded_as="bt601")
    assert np.abs(colours(clip) - 255 * PATCHES).max() > 15


@pytest.mark.parametrize(("height", "matrix"), [(48, "bt601"), (720, "bt709")])
def test_an_unstated_matrix_is_assumed_by_size_and_named(tmp_path, ingest, height, matrix):
    colour = np.array([0.9, 0.2, 0.3])
    planes = rgb_to_yuv444(np.broadcast_to(colour, (height, height * 4 // 3, 3)), matrix, full_range=False)
    tags = Tags(None, None, None, None)
    path = write_video(tmp_path / "v.mp4", [yuv_frame(planes, "yuv444p")] * 2, fps=10, tags=tags)
    clip, _ = ingest(path)
    assert np.abs(clip[0] - 255 * colour).max() <= 2
    assert clip.attrs["source"]["colour"]["assumed"] == ["matrix", "range"]
    assert clip.attrs["source"]["colour"]["matrix"] == matrix


@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "bgr0"), ("png", "rgb24"), ("ffv1", "gray")])
def test_formats_without_a_matrix_pass_through(tmp_path, ingest, codec, pix_fmt):
    patches = PATCHES if pix_fmt != "gray" else np.repeat(PATCHES[:, :1], 3, 1)
    image = np.rint(255 * picture(patches)).astype(np.uint8)
    path = write_video(
        tmp_path / ("v.mov" if codec == "png" else "v.mkv"),
        [image] * 2,
        fps=10,
        codec=codec,
        pix_fmt=pix_fmt,
        tags=Tags(None, True, None, None),
        options={},
    )
    clip, _ = ingest(path, fit="stretch", width=image.shape[1], height=SIDE)
    assert np.abs(colours(clip) - 255 * patches).max() <= 2


def test_anchor_points_of_the_transfer_functions_are_those_of_the_standards():
    # BT.2408 table 1: the PQ signals of 100, 203 and 1000 cd/m2; HLG puts reference white, 203 cd/m2, at 75 %
    assert pq_to_light(np.array([0.508, 0.581, 0.752])) == pytest.approx([100, 203, 1000], rel=0.01)
    assert light_to_pq(pq_to_light(np.linspace(0.01, 1, 50))) == pytest.approx(np.linspace(0.01, 1, 50))
    assert 1000 * hlg_to_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, rel=0.01)
    assert hlg_to_scene(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 1 / 12, 1], abs=1e-6)
    assert BT2020_TO_BT709.sum(1) == pytest.approx([1, 1, 1], abs=2e-3)


@pytest.mark.parametrize("peak", [400.0, 1000.0, 4000.0])
def test_the_tone_curve_keeps_the_dark_and_bends_the_bright(peak):
    light = np.geomspace(0.01, peak, 400)
    toned = tone_curve(light, peak)
    assert np.all(np.diff(toned) > 0)
    assert toned[light < 40] == pytest.approx(light[light < 40], rel=1e-6)
    assert toned[-1] == pytest.approx(203, rel=1e-3)
    assert np.all(toned <= light * (1 + 1e-9))


def sdr_code(light: float) -> float:
    return 255 * (light / 203) ** (1 / 2.4)


def test_pq_greys_become_the_same_light_on_an_ordinary_screen(tmp_path, ingest):
    light = np.array([0.5, 2.0, 10.0, 40.0, 1000.0, 4000.0])
    patches = np.repeat(light_to_pq(light)[:, None], 3, 1)
    clip, _ = clip_of(tmp_path, ingest, patches, tags=Tags("bt2020", False, "bt2020", "pq"), bits=10)
    expected = [sdr_code(value) for value in light[:4]] + [255, 255]
    assert np.abs(colours(clip) - np.array(expected)[:, None]).max() <= 2
    stored = clip.attrs["source"]["colour"]
    assert (stored["transfer"], stored["peak_cd_m2"]) == ("pq", 1000)


@pytest.mark.parametrize(("codec", "name"), [("ffv1", "v.mkv"), ("libx265", "v.mp4")])
def test_hlg_greys_become_the_same_light_on_an_ordinary_screen(tmp_path, ingest, codec, name):
    signal = np.array([0.0, 0.25, 0.5, 1.0])
    light = 1000 * np.array([0, 0.25**2 / 3, 1 / 12, 1]) ** 1.2
    tags = Tags("bt2020", False, "bt2020", "hlg")
    clip, _ = clip_of(
        tmp_path, ingest, np.repeat(signal[:, None], 3, 1), tags=tags, bits=10, codec=codec if codec != "ffv1" else None, name=name
    )
    expected = [0, sdr_code(light[1]), sdr_code(tone_curve(light[2:3], 1000)[0]), 255]
    assert np.abs(colours(clip) - np.array(expected)[:, None]).max() <= 2


@pytest.mark.parametrize("transfer", ["bt709", "pq"])
def test_wide_primaries_are_brought_to_bt709(tmp_path, ingest, transfer):
    # colours inside BT.709, written with BT.2020 primaries: they must come back as they are
    wanted = np.array([[0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.3, 0.3, 0.8], [0.6, 0.6, 0.6]])
    light = wanted**2.4 @ np.linalg.inv(BT2020_TO_BT709.astype(float)).T
    # 20 cd/m2 at most: below the tone curve's knee
    signal = light ** (1 / 2.4) if transfer == "bt709" else light_to_pq(20 * light)
    clip, _ = clip_of(tmp_path, ingest, signal, tags=Tags("bt2020", False, "bt2020", transfer), bits=12)
    expected = wanted if transfer == "bt709" else wanted * (20 / 203) ** (1 / 2.4)
    assert np.abs(colours(clip) - 255 * expected).max() <= 2
    assert clip.attrs["source"]["colour"]["primaries"] == "bt2020"


def test_a_stated_peak_is_used(tmp_path, ingest):
    signal = np.repeat(light_to_pq(np.array([[4000.0], [1000.0]])), 3, 1)
    planes = rgb_to_yuv444(picture(signal), "bt2020", full_range=False, bits=10)
    path = tmp_path / "v.mkv"
    master = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,1)"
    options = {"x265-params": f"lossless=1:log-level=error:max-cll=4000,400:master-display={master}"}
    write_video(
        path,
        [yuv_frame(planes, "yuv444p10le")] * 2,
        fps=10,
        codec="libx265",
        pix_fmt="yuv444p10le",
        tags=Tags("bt2020", False, "bt2020", "pq"),
        options=options,
    )
    clip, _ = ingest(path, fit="stretch", width=2 * SIDE, height=SIDE)
    assert clip.attrs["source"]["colour"]["peak_cd_m2"] == 4000
    white, less = colours(clip)[:, 0]
    assert white == 255
    assert less == pytest.approx(sdr_code(tone_curve(np.array(1000.0), 4000)), abs=1)
    assert less < 254
