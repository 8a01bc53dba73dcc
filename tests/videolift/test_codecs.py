from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from videolift.codecs import residual_decode, residual_encode

IMAGES = st.tuples(st.integers(1, 70), st.integers(1, 9)).flatmap(lambda size: arrays(np.uint8, (*size, 3)))


@given(IMAGES)
def test_any_image_comes_back_exactly(rgb):
    assert np.array_equal(residual_decode(residual_encode(rgb)), rgb)


def test_stacks_of_images_come_back_exactly():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 37, 20, 3), np.uint8)
    planes = residual_encode(rgb)
    assert planes.shape == (5, 3, 37, 20)
    assert np.array_equal(residual_decode(planes), rgb)


def test_encoding_leaves_its_input_alone():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    before = rgb.copy()
    residual_encode(rgb)
    assert np.array_equal(rgb, before)


def test_a_smooth_picture_becomes_mostly_zeros():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    planes = residual_encode(ramp)
    assert np.all(planes[0, 1:] == 1)
    assert not planes[1:].any()
