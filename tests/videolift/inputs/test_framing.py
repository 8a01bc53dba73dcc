from __future__ import annotations

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.geometry import pinhole, project
from videolift.inputs.framing import Framing
from videolift.inputs.lens import Lens

SIDES = st.integers(16, 2000)
CLIPS = st.integers(16, 640)


@st.composite
def framings(draw) -> Framing:
    source = draw(SIDES), draw(SIDES)
    aspect = Fraction(draw(st.integers(1, 40)), draw(st.integers(10, 40)))
    return Framing.fit(source, (draw(CLIPS), draw(CLIPS)), draw(st.sampled_from(["auto", "crop", "stretch", "pad"])), aspect)


@given(framings())
def test_the_clip_lies_inside_the_resized_image(framing):
    for axis in (0, 1):
        assert 0 <= framing.offset_px[axis] <= framing.resized_px[axis] - framing.clip_px[axis]
    left, top, width, height = framing.visible_px()
    assert left + width <= framing.source_px[0] + 1e-6
    assert top + height <= framing.source_px[1] + 1e-6


@given(framings())
def test_covering_wastes_less_than_a_pixel_and_cuts_both_sides_alike(framing):
    slack = [framing.resized_px[i] - framing.clip_px[i] for i in (0, 1)]
    assert min(slack) <= 1
    assert all(abs(2 * offset - gap) <= 1 for offset, gap in zip(framing.offset_px, slack, strict=True))


@given(framings(), st.floats(100, 2000), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_mapped_intrinsics_project_where_mapped_pixels_lie(framing, focal, x, y):
    K = pinhole(focal, *framing.source_px)
    point = np.array([x, y, 1.0])
    assert framing.unmap_pixels(project(point, framing.map_intrinsics(K))) == pytest.approx(project(point, K), abs=1e-6)


@given(framings())
def test_attributes_bring_the_same_framing_back(framing):
    again = Framing.from_attrs({"framing": json.loads(json.dumps(framing.to_attrs()))})
    assert again.to_attrs() == framing.to_attrs()


@pytest.mark.parametrize(
    ("source", "aspect", "fit", "clip_px", "resized_px", "offset_px"),
    [
        ((1920, 1080), 1, "auto", (512, 384), (683, 384), (85, 0)),
        ((1080, 1920), 1, "auto", (384, 512), (384, 683), (0, 85)),
        ((1080, 1920), 1, "crop", (512, 384), (512, 910), (0, 263)),
        ((1080, 1920), 1, "stretch", (512, 384), (512, 384), (0, 0)),
        ((1000, 1000), 1, "auto", (512, 384), (512, 512), (0, 64)),
        ((720, 576), Fraction(64, 45), "auto", (512, 384), (683, 384), (85, 0)),
        ((640, 480), 1, "auto", (512, 384), (512, 384), (0, 0)),
    ],
)
def test_known_sizes(source, aspect, fit, clip_px, resized_px, offset_px):
    framing = Framing.fit(source, (512, 384), fit, Fraction(aspect))
    assert (framing.clip_px, framing.resized_px, framing.offset_px) == (clip_px, resized_px, offset_px)


@given(framings(), st.integers(8, 300), st.integers(8, 300))
def test_nearest_equals_opencvs_exact_nearest_but_for_ties(framing, width, height):
    image = np.arange(width * height, dtype=np.uint16).reshape(height, width)
    wanted = cv2.resize(image, framing.resized_px, interpolation=cv2.INTER_NEAREST_EXACT)
    (left, top), (w, h) = framing.offset_px, framing.clip_px
    wanted = wanted[top : top + h, left : left + w]
    got = framing.map_nearest(image)
    row, column = np.divmod(got.astype(int), width)
    x, y = np.arange(w) + left, np.arange(h) + top
    tie_x = (2 * x + 1) * width % (2 * framing.resized_px[0]) == 0
    tie_y = (2 * y + 1) * height % (2 * framing.resized_px[1]) == 0
    sure = ~tie_x[None] & ~tie_y[:, None]
    assert np.array_equal(got[sure], wanted[sure])
    assert got.shape == wanted.shape


def test_nearest_keeps_any_type_and_trailing_axes():
    framing = Framing.fit((64, 48), (32, 24), "auto")
    for dtype in (np.float16, bool, np.int64):
        assert framing.map_nearest(np.ones((48, 64), dtype)).dtype == dtype
    assert framing.map_nearest(np.zeros((96, 128, 3))).shape == (24, 32, 3)


def test_a_lens_moves_depth_and_points_alike():
    lens = Lens(np.array([[300.0, 0, 319.5], [0, 300, 239.5], [0, 0, 1]]), (640, 480), (-0.25, 0.05, 0, 0, 0))
    framing = Framing.fit((640, 480), (320, 240), "auto").corrected(lens)
    y, x = np.mgrid[:480, :640].astype(float)
    columns = framing.map_nearest(x)
    uv = np.stack(np.meshgrid(np.arange(320), np.arange(240)), -1)
    assert np.abs(columns - framing.unmap_pixels(uv)[..., 0]).max() <= 0.5 + 1e-6
    again = Framing.from_attrs({"framing": json.loads(json.dumps(framing.to_attrs()))})
    assert np.array_equal(again.map_nearest(x), columns)
    assert framing.map_intrinsics(np.eye(3)) == pytest.approx(framing.K_clip)


@pytest.mark.parametrize(("source", "clip_px"), [((1920, 1080), (683, 384)), ((1080, 1920), (384, 683)), ((640, 480), (512, 384))])
def test_pad_keeps_the_whole_picture_at_the_scale_of_auto(source, clip_px):
    framing = Framing.fit(source, (512, 384), "pad")
    assert framing.clip_px == framing.resized_px == clip_px
    assert framing.offset_px == (0, 0)
    assert framing.visible_px() == (0, 0, *source)
    cut = Framing.fit(source, (512, 384), "auto")
    assert cut.resized_px == framing.resized_px


@pytest.mark.parametrize("fit", ["auto", "crop", "stretch", "pad"])
@pytest.mark.parametrize("with_lens", [False, True])
def test_pixels_of_the_source_and_of_the_clip_map_both_ways(fit, with_lens):
    framing = Framing.fit((640, 360), (320, 240), fit)
    if with_lens:
        framing = framing.corrected(
            Lens(np.array([[300.0, 0, 319.5], [0, 300, 179.5], [0, 0, 1]]), (640, 360), (-0.2, 0.04, 0, 0, 0))
        )
    uv = np.stack(np.meshgrid(np.linspace(20, framing.clip_px[0] - 20, 5), np.linspace(20, framing.clip_px[1] - 20, 5)), -1)
    assert framing.map_pixels(framing.unmap_pixels(uv)) == pytest.approx(uv, abs=1e-4)
    assert framing.map_pixels(framing.unmap_pixels(uv, (1280, 720)), (1280, 720)) == pytest.approx(uv, abs=1e-4)


def test_the_picture_holds_what_lies_beside_the_clip_and_not_what_was_never_filmed():
    framing = Framing.fit((1920, 1080), (512, 384), "auto")  # 85 px of each side are cut away
    assert framing.holds([[0, 0], [-80, 10], [590, 10], [-90, 10], [256, 390], [np.nan, 0]]).tolist() == [True] * 3 + [False] * 3
