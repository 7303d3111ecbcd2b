"""Resampling for the detector: the same numbers as the resampling its networks were written for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from facecli.faces.pyramid import Pyramid, area_mean

sides = st.integers(1, 90)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def torch_area(pixels, height, width):
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float64))
    return interpolate(planes[None], size=(height, width), mode="area")[0].numpy()


@settings(deadline=None, max_examples=150)
@given(sides, sides, st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_area_mean_is_torchs_area_interpolation(height, width, to_height, to_width, seed):
    pixels = noise(height, width, seed)
    found = area_mean(pixels, to_height, to_width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch_area(pixels, to_height, to_width), atol=1e-4)


@pytest.mark.parametrize(
    "size",
    [(257, 1), (1, 257), (258, 1), (16, 16), (16, 17), (300, 7), (7, 300), (3000, 2), (2, 9000), (700, 700)],
)
def test_windows_too_large_for_sixteen_bits(size):
    """Sums of white pixels over windows of more than 257 overflow 16 bits, over 65,793 x 255 24 of them."""
    white = np.full((*size, 3), 255, np.uint8)
    np.testing.assert_array_equal(area_mean(white, 1, 1), np.full((3, 1, 1), 255, np.float32))
    pixels = noise(*size)
    np.testing.assert_allclose(area_mean(pixels, 2, 2), torch_area(pixels, 2, 2), atol=1e-4)


def test_levels_up_to_four_times_smaller_are_exact_and_further_ones_come_from_halvings():
    pixels = noise(400, 300)
    pyramid = Pyramid(pixels)
    np.testing.assert_array_equal(pyramid.level(150, 101), area_mean(pixels, 150, 101))
    # 400 / 25 is 16: halved while what is left stays at least four times as large.
    halved = pyramid.level(25, 19)
    assert abs(halved - area_mean(pixels, 25, 19)).mean() < 4
    np.testing.assert_allclose(halved.mean(axis=(1, 2)), pixels.mean(axis=(0, 1)), atol=1.5)


def test_crop_reads_the_named_pixels():
    pixels = noise(100, 120)
    pyramid = Pyramid(pixels)
    np.testing.assert_array_equal(pyramid.crop(10, 20, 34, 44, 24), pixels[20:44, 10:34].transpose(2, 0, 1))


def test_a_crop_of_a_halved_source_shows_the_same_place():
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 240, axis=0).repeat(3, axis=2)
    crop = Pyramid(ramp).crop(40, 0, 232, 192, 24)  # eight times too large: from a halving
    np.testing.assert_allclose(crop[0, 0], 40 + 8 * np.arange(24) + 3.5, atol=1.0)
