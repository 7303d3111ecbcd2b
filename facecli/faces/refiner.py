"""Looks at boxes again with the second and third network of MTCNN: which hold a face, and its five landmarks.

Boxes come from MTCNN's first network, or from another detector. Inside, they are as the networks were trained: pixels
counted from 1, both ends inside. They become continuous coordinates when a face leaves.
"""

from __future__ import annotations

import numpy as np

from facecli.arrays import Array
from facecli.faces.face import Face
from facecli.faces.overlap import suppress
from facecli.faces.pyramid import Pyramid
from facecli.models.network import Runner
from facecli.photos.decode import Image

REFINED_AT, OUTPUT_AT = 0.7, 0.7
"""Face probabilities that a box must reach in the second and third network."""
REFINE_PX = 24
OUTPUT_PX = 48


class Refiner:
    """The two networks, ready to run."""

    def __init__(self, refine: Runner, output: Runner) -> None:
        self.refine, self.output = refine, output

    def faces(self, pyramid: Pyramid, boxes: Array, image: Image) -> list[Face]:
        """Return the faces that `boxes` [n, 4], in px of the pyramid and counted from 1, lead to, largest first."""
        boxes, crops = _crops(pyramid, _squared(boxes), REFINE_PX)
        if not len(boxes):
            return []
        probability, shift = self.refine(crops)
        good = probability[:, 1] > REFINED_AT
        boxes, score, shift = boxes[good], probability[good, 1], shift[good]
        keep = suppress(boxes, score, 0.7)
        boxes, crops = _crops(pyramid, _squared(shifted(boxes[keep], shift[keep], 1)), OUTPUT_PX)
        if not len(boxes):
            return []
        probability, shift, points = self.output(crops)
        good = probability[:, 1] > OUTPUT_AT
        boxes, score, shift, points = boxes[good], probability[good, 1], shift[good], points[good]
        corner, size = boxes[:, None, :2] - 1, (boxes[:, 2:] - boxes[:, :2])[:, None] + 1
        landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)  # [n, 5, 2]
        boxes = shifted(boxes, shift, 1)
        keep = suppress(boxes, score, 0.7, of_smaller=True)
        boxes[:, :2] -= 1
        scale = np.array([image.width / pyramid.width, image.height / pyramid.height])
        faces = [Face.of(boxes[i] * np.tile(scale, 2), landmarks[i] * scale, score[i]) for i in keep]
        return sorted(faces, key=lambda face: -face.area_within(image.width, image.height))


def _crops(pyramid: Pyramid, boxes: Array, px: int) -> tuple[Array, Array]:
    """Return the boxes that touch the image and what they show of it, float32 [n, 3, px, px]."""
    whole = np.trunc(boxes).astype(int)
    first = np.maximum(whole[:, :2], 1) - 1
    last = np.minimum(whole[:, 2:], [pyramid.width, pyramid.height])
    inside = (last > first).all(axis=1)
    crops = np.empty((int(inside.sum()), 3, px, px), np.float32)
    for crop, (left, top), (right, bottom) in zip(
        crops, first[inside].tolist(), last[inside].tolist(), strict=True
    ):
        crop[:] = pyramid.crop(left, top, right, bottom, px)
    return boxes[inside], crops


def shifted(boxes: Array, shift: Array, end: int) -> Array:
    """Move the four sides of `boxes` by `shift`, given as shares of width and height (plus `end`)."""
    size = boxes[:, 2:] - boxes[:, :2] + end
    return boxes + shift * np.concatenate([size, size], axis=1)


def _squared(boxes: Array) -> Array:
    """Return squares about the same centres, as large as the longer side."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)
