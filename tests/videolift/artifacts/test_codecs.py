"""Pixel codecs: exact for every input, and worth their cost."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolift.artifacts.codecs import residual_decode, residual_encode


@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 128, 256]))
def test_decoding_undoes_encoding_for_every_input(frames, height, width, seed, levels):
    rgb = (np.random.default_rng(seed).integers(0, levels, (frames, height, width, 3)) * (255 // max(levels - 1, 1))).astype(
        np.uint8
    )
    before = rgb.copy()
    planes = residual_encode(rgb)
    assert (planes.dtype, planes.shape) == (np.uint8, (frames, 3, height, width))
    np.testing.assert_array_equal(residual_decode(planes), rgb)
    np.testing.assert_array_equal(rgb, before)


def test_one_frame_and_many_frames_are_encoded_alike():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(residual_encode(rgb)[2], residual_encode(rgb[2]))
    np.testing.assert_array_equal(residual_decode(residual_encode(rgb[2])), rgb[2])


def test_arrays_that_are_not_contiguous_are_encoded_alike():
    rgb = np.random.default_rng(0).integers(0, 256, (2, 8, 10, 3), dtype=np.uint8)[:, ::2, ::-1]
    np.testing.assert_array_equal(residual_decode(residual_encode(rgb)), rgb)


@pytest.mark.parametrize("value", [0, 255])
def test_extremes_wrap_round_and_come_back(value):
    rgb = np.full((1, 4, 4, 3), value, np.uint8)
    rgb[0, ::2, :, 1] = 255 - value
    np.testing.assert_array_equal(residual_decode(residual_encode(rgb)), rgb)


def test_a_picture_compresses_better_encoded():
    y, x = np.indices((96, 128))
    light = 120 + 60 * np.sin(x / 17) + 40 * np.cos(y / 11) + np.random.default_rng(0).normal(0, 1.5, x.shape)
    rgb = np.stack([light, light * 0.9 + 8, light * 0.7 + 20], -1).astype(np.uint8)
    assert len(zlib.compress(residual_encode(rgb).tobytes())) < 0.8 * len(zlib.compress(rgb.tobytes()))
