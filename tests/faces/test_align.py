"""Alignment: the similarity against a general least-squares solver, the chip against hand-worked pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facecli.faces.align import chip, onto_square, scale_of, similarity, whole
from facecli.models.built_in import BUILT_IN

coordinate = st.floats(-500, 500, allow_nan=False, width=32)
points = st.lists(st.tuples(coordinate, coordinate), min_size=5, max_size=5)
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def by_lstsq(source, target):
    """The map [a -b x; b a y] by the normal equations, without any trick of the plane."""
    rows, goal = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
        goal += [u, v]
    a, b, dx, dy = np.linalg.lstsq(np.array(rows, float), np.array(goal, float), rcond=None)[0]
    return np.array([[a, -b, dx], [b, a, dy]])


def by_umeyama(source, target):
    """Umeyama (1991), eq. 40 to 43, by the singular value decomposition."""
    source, target = np.array(source, float), np.array(target, float)
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - mean_t).T @ (source - mean_s) / len(source)
    u, d, v = np.linalg.svd(covariance)
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(sign) @ v
    scale = (d * sign).sum() / (source - mean_s).var(axis=0).sum()
    return np.concatenate([scale * rotation, (mean_t - scale * rotation @ mean_s)[:, None]], axis=1)


@settings(deadline=None)
@given(points, points)
def test_similarity_is_the_least_squares_one(source, target):
    assume(np.ptp(source, axis=0).max() > 1)
    found = similarity(source, target)
    np.testing.assert_allclose(found, by_lstsq(source, target), atol=1e-3)
    # Never a reflection: the determinant of [a -b; b a] is a^2 + b^2.
    assert np.linalg.det(found[:, :2]) >= 0


@settings(deadline=None)
@given(points, st.floats(0.01, 20), st.floats(-np.pi, np.pi), coordinate, coordinate, st.integers(0, 99))
def test_similarity_is_umeyamas(source, scale, angle, x, y, seed):
    """Where turning fits better than turning over, as on faces, the SVD gives the same."""
    assume(np.ptp(source, axis=0).min() > 1)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    blur = np.random.default_rng(seed).normal(0, 0.01 * scale, (5, 2))
    target = np.array(source) @ turn.T + (x, y) + blur
    expected = by_umeyama(source, target)
    np.testing.assert_allclose(similarity(source, target), expected, atol=1e-4 * (1 + abs(expected).max()))


def test_mirrored_points_are_not_mirrored_back():
    template = np.array(BUILT_IN["dlib"].template)
    mirrored = template * (-1, 1) + (150, 0)
    found = similarity(mirrored, template)
    assert found[0, 0] == found[1, 1]
    assert np.linalg.det(found[:, :2]) > 0
    assert abs(mirrored @ found[:, :2].T + found[:, 2] - template).max() > 5


def test_coinciding_points_give_scale_zero_and_a_chip_all_the_same():
    matrix = similarity([(3, 4)] * 5, BUILT_IN["dlib"].template)
    assert scale_of(matrix) == 0
    assert chip(np.full((9, 9, 3), 7, np.uint8), matrix, 10).shape == (10, 10, 3)


def test_identity_returns_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(chip(pixels, IDENTITY, 40), pixels)


def test_a_shift_by_whole_pixels_moves_pixels_and_shows_black_outside():
    pixels = np.random.default_rng(0).integers(1, 256, (40, 40, 3), dtype=np.uint8)
    found = chip(pixels, np.array([[1.0, 0, 5], [0, 1, -3]]), 40)
    np.testing.assert_array_equal(found[:37, 5:], pixels[3:, :35])
    assert not found[:, :5].any()
    assert not found[37:].any()


def ramp(side, step):
    line = (np.arange(side) * step).astype(np.uint8)
    return np.repeat(np.repeat(line[None, :, None], side, axis=0), 3, axis=2)


def test_half_a_pixel_is_half_a_step_of_a_gradient():
    """Pixel centres lie at half-integers: chip pixel i, shifted by a half, reads between i - 1 and i."""
    found = chip(ramp(40, 4), np.array([[1.0, 0, 0.5], [0, 1, 0]]), 40).astype(int)
    assert (found[5:35, 1:40, 0] == 4 * np.arange(1, 40) - 2).all()


@pytest.mark.parametrize("scale", [3.0, 2.0, 0.8, 0.5, 0.4, 0.25, 0.21])
def test_a_gradient_keeps_its_place_at_every_scale(scale):
    """Chip pixel i, centre i + .5, reads the coordinate (i + .5) / scale of the image.

    Rising and falling gradients tell a shift, which turns its sign, from rounding down, which does not.
    """
    side, size, slope = 800, 100, 0.23
    rising = (slope * (np.arange(side) + 0.5)).round()
    expected = slope * (np.arange(size) + 0.5) / scale
    off = []
    for line, wanted in ((rising, expected), (255 - rising, 255 - expected)):
        pixels = np.repeat(np.repeat(line.astype(np.uint8)[None, :, None], side, axis=0), 3, axis=2)
        found = chip(pixels, np.array([[scale, 0, 0], [0, scale, 0]]), size)[50, :, 0].astype(float)
        off.append((found - wanted)[2 : size - 2])
    assert abs(np.array(off)).max() <= 1.5
    shift_px = (off[0] - off[1]).mean() / 2 / slope  # of the image
    assert abs(shift_px) < 0.15 / min(scale, 1)


def test_shrinking_passes_over_no_pixel():
    """A checker of single pixels must come out grey: plain bilinear sampling would show black and white."""
    checker = np.indices((600, 600)).sum(axis=0) % 2 * 255
    pixels = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    matrix = similarity([(0, 0), (600, 20)], [(0, 0), (150, 5)])
    found = chip(pixels, matrix, 140)[5:-5, 5:-5].astype(int)
    assert abs(found - 127).max() <= 3


def test_only_reading_what_the_chip_shows_changes_nothing():
    pixels = np.random.default_rng(3).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    template = [(30, 30), (70, 30), (50, 55)]
    matrix = similarity([(400, 250), (520, 262), (455, 330)], template)
    padded = np.zeros((900, 1300, 3), np.uint8)
    padded[30:530, 60:760] = pixels
    moved = similarity([(460, 280), (580, 292), (515, 360)], template)
    np.testing.assert_array_equal(chip(pixels, matrix, 100), chip(padded, moved, 100))


def test_a_chip_that_shows_nothing_of_the_image_is_black():
    assert not chip(np.full((10, 10, 3), 9, np.uint8), np.array([[1.0, 0, 500], [0, 1, 0]]), 20).any()


def test_a_one_pixel_image_can_be_warped():
    assert chip(np.full((1, 1, 3), 200, np.uint8), np.array([[0.01, 0, 5], [0, 0.01, 5]]), 20).max() <= 200
    assert chip(np.full((1, 1, 3), 200, np.uint8), np.array([[8.0, 0, 0], [0, 8, 0]]), 8).min() == 200


def test_whole_takes_the_central_square():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    assert (whole(pixels, 20) == 200).all()
    assert whole(pixels[:7, :3], 150).shape == (150, 150, 3)


def test_onto_square_holds_the_longer_side_with_its_margin():
    matrix = onto_square((10, 20, 50, 100), 112, 0.1)
    corners = np.array([(30 - 40 - 8, 60 - 40 - 8), (30 + 48, 60 + 48)]) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(corners, [(0, 0), (112, 112)])
