"""Of boxes that cover one another, the better ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Array


def suppress(boxes: Array, scores: Array, overlap: float, *, of_smaller: bool = False) -> NDArray[np.intp]:
    """Return the indices of `boxes` [n, 4] that stay, best score first (greedy non-maximum suppression).

    A box goes when a better one covers it by more than `overlap`: intersection over union, or over the
    smaller of the two areas.
    """
    staying: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        stays = _little_overlap(boxes[left[:_HEADS]], boxes[left], overlap, of_smaller)
        alive = np.ones(len(left), bool)
        for i in range(len(stays)):
            if alive[i]:
                staying.append(left[i])
                alive &= stays[i]
        left = left[_HEADS:][alive[_HEADS:]]
    return np.array(staying, np.intp)


_HEADS = 64
"""Boxes compared with all others at once: a level shows a dozen, and a crowd's thousands fit into memory."""


def _little_overlap(some: Array, boxes: Array, overlap: float, of_smaller: bool) -> NDArray[np.bool_]:
    """Say which of `boxes` [n, 4] each of `some` [m, 4] covers by at most `overlap`: [m, n]."""
    left, top, right, bottom = boxes.T
    one = some.T[:, :, None]  # [4, m, 1]
    width = np.minimum(one[2], right) - np.maximum(one[0], left)
    height = np.minimum(one[3], bottom) - np.maximum(one[1], top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas, own = (right - left) * (bottom - top), (one[2] - one[0]) * (one[3] - one[1])
    whole = np.minimum(own, areas) if of_smaller else own + areas - shared
    return shared <= overlap * whole
