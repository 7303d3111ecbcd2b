"""Levels: only flat photos are spread, over all of black to white."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facecli.photos.decode import Image
from facecli.photos.levels import FLAT, levelled, spread


def ramp(black, white, height=120, width=300):
    """Return an image whose grey rises from left to right."""
    grey = np.linspace(black, white, width).round().astype(np.uint8)
    return Image(np.broadcast_to(grey[None, :, None], (height, width, 3)), width, height)


def test_a_photo_of_usual_contrast_is_handed_on_as_it_is():
    image = ramp(40, 40 + 1.05 * FLAT)
    assert spread(image) is image
    assert image.levels == (0.0, 255.0)


@pytest.mark.parametrize(("black", "white"), [(0, 20), (100, 180), (230, 255)])
def test_a_flat_one_is_spread_from_black_to_white(black, white):
    image = ramp(black, white)
    made = spread(image)
    assert (made.pixels.min(), made.pixels.max(), made.pixels.dtype) == (0, 255, np.uint8)
    low, high = made.levels
    assert black - 0.01 <= low < high <= white + 0.01
    back = low + made.pixels.astype(float) * (high - low) / 255
    # The outermost hundredth is cut off.
    np.testing.assert_allclose(back, image.pixels, atol=0.02 * (white - black) + 0.5)
    assert (made.width, made.height, made.scale) == (image.width, image.height, image.scale)


def test_a_blank_photo_shows_no_more_than_a_blank_one_with_noise_does():
    noise = np.random.default_rng(2).integers(99, 101, (50, 60, 3)).astype(np.uint8)
    assert np.ptp(spread(Image(noise, 60, 50)).pixels.astype(int)) < 70
    one = Image(np.full((1, 1, 3), 7, np.uint8), 1, 1)
    assert spread(one).pixels.shape == (1, 1, 3)


def test_colours_stay_apart():
    image = ramp(20, 60)
    tinted = replace(image, pixels=image.pixels + np.array([6, 0, 3], np.uint8))
    red, green, blue = spread(tinted).pixels[:, 100:200].astype(int).transpose(2, 0, 1)
    np.testing.assert_allclose(red - green, 6 * 255 / 40, atol=3)
    np.testing.assert_allclose(blue - green, 3 * 255 / 40, atol=3)


def test_every_decoding_is_spread():
    sizes = []

    def decode(at_least_px):
        sizes.append(at_least_px)
        return ramp(0, 20)

    made = levelled(decode)
    assert made(600).pixels.max() == made(None).pixels.max() == 255
    assert sizes == [600, None]
