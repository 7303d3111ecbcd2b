"""From a face's landmarks to the chip a network is fed: one least-squares similarity, one resampling.

Coordinates are continuous: pixel i spans [i, i + 1) and has its centre at i + 0.5, in images and in chips.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from facecli.arrays import Pixels

Matrix = NDArray[np.float64]


def similarity(source: ArrayLike, target: ArrayLike) -> Matrix:
    """Return the [2, 3] similarity (rotation, scale, shift) that takes `source` points nearest to `target`.

    Both are [n, 2], n >= 2. Least squares over all points, never a reflection (Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", 1991, eq. 40 to 43; in the plane it
    reduces to a complex regression). Points that all coincide give scale 0.

    >>> similarity([(0, 0), (2, 0)], [(1, 1), (1, 5)]).round(6) + 0.0
    array([[ 0., -2.,  1.],
           [ 2.,  0.,  1.]])
    """
    a, b = (np.asarray(points, np.float64) @ [1, 1j] for points in (source, target))
    centre, goal = a.mean(), b.mean()
    spread = np.sum(np.abs(a - centre) ** 2)
    turn = np.sum(np.conj(a - centre) * (b - goal)) / spread if spread > 0 else 0j
    shift = goal - turn * centre
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def onto_square(box: tuple[float, float, float, float], size: int, margin: float) -> Matrix:
    """Return the [2, 3] map of the square about `box`'s centre onto a chip of `size` px.

    The square is as large as the box's longer side plus `margin` of it on each side.
    """
    left, top, right, bottom = box
    scale = size / (max(right - left, bottom - top) * (1 + 2 * margin))
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])


def scale_of(matrix: Matrix) -> float:
    """Return chip px per image px of a similarity."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def chip(pixels: Pixels, matrix: Matrix, size: int) -> Pixels:
    """Return what `matrix` (image to chip) puts on a chip: uint8 [size, size, 3], black outside the image.

    Bilinear. An image that would shrink below half is first averaged over whole blocks of pixels, so that no
    pixel is passed over.
    """
    turn, shift = matrix[:, :2], matrix[:, 2]
    back = np.linalg.inv(turn) if scale_of(matrix) > 0 else np.zeros((2, 2))
    corners = (np.array([(0, 0), (size, 0), (0, size), (size, size)]) - shift) @ back.T
    height, width = pixels.shape[:2]
    factor = max(1, int(1 / scale_of(matrix))) if scale_of(matrix) > 0 else 1
    # Only the part that the chip shows is read; block edges stay where they are in the whole image.
    left, top = (max(0, math.floor(low) // factor * factor - 2 * factor) for low in corners.min(axis=0))
    right = min(width, math.ceil(corners[:, 0].max()) + 2 * factor)
    bottom = min(height, math.ceil(corners[:, 1].max()) + 2 * factor)
    if right <= left or bottom <= top:
        return np.zeros((size, size, 3), np.uint8)
    image = PillowImage.fromarray(pixels[top:bottom, left:right])
    if factor > 1:
        image = image.reduce(factor)
    linear = back / factor
    start = (-back @ shift - (left, top)) / factor
    data = (linear[0, 0], linear[0, 1], start[0], linear[1, 0], linear[1, 1], start[1])
    bilinear = PillowImage.Resampling.BILINEAR
    return np.asarray(image.transform((size, size), PillowImage.Transform.AFFINE, data, bilinear))


def whole(pixels: Pixels, size: int) -> Pixels:
    """Return the central square of an image that is a face crop already, as uint8 [size, size, 3]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    image = PillowImage.fromarray(pixels)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), PillowImage.Resampling.BILINEAR, box=box))
