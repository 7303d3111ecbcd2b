"""Finds faces with YuNet: one network over the whole image, which sees faces of about 10 to 600 px.

So the image is seen with its longer side at `SEARCH_PX`, which shows the largest faces whole, and then at twice that,
and so on, for as long as the smallest face asked for would be too small to be seen. Which sizes there are does not
depend on it, and of a face seen twice the coarser look counts: asking for smaller faces adds some and moves none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from facecli.arrays import Array
from facecli.faces.choice import LARGEST, Choice
from facecli.faces.detector import FaceDetector, Identity
from facecli.faces.face import Face
from facecli.faces.overlap import suppress
from facecli.faces.pyramid import Pyramid
from facecli.models import yunet_network
from facecli.models.network import Network, Runner
from facecli.models.yunet_network import STRIDES
from facecli.photos.decode import Image
from facecli.photos.source import Decode

SEARCH_PX = 640
"""Longer side of the image as it is seen first."""
SEEN_PX = 16
"""Side of a face that is seen reliably."""
KNOWN_PX = 64
"""Side from which a face was to be seen a look before as well: a finer look takes parts of it for faces."""
SCORE = 0.6
OVERLAP = 0.3
"""Of two faces that share more of their union, the better one counts."""


class YuNet(FaceDetector):
    """The network, ready to run."""

    identity = Identity(
        weights=[yunet_network.SHA256],
        search={"side": SEARCH_PX, "seen": SEEN_PX, "known": KNOWN_PX, "score": SCORE, "overlap": OVERLAP},
    )
    smallest_px = 10

    def __init__(self, look: Runner, min_face_px: int) -> None:
        self.look = look
        self.min_face_px = min_face_px

    @classmethod
    def load(cls, run: Callable[[Network], Runner], min_face_px: int) -> YuNet:
        """Return the detector over its network, made ready by `run`."""
        return cls(run(yunet_network.network()), min_face_px)

    def all_faces(self, image: Image) -> list[Face]:
        """Return every face of `min_face_px` or more in an image at full scale, largest first."""
        pyramid = Pyramid(image.pixels)
        seen: list[Face] = []
        for side in self._sides(image):
            seen = _joined(seen, self._seen(pyramid, side, image))
        return self._faces(seen, pyramid, image)

    def first_faces(self, decode: Decode, choice: Choice = LARGEST) -> tuple[list[Face], Image]:
        """Return the faces of the coarsest looks that are enough for `choice`, largest first, and the image as decoded.

        Smaller faces may be missing.
        """
        image = decode(SEARCH_PX)
        pyramid = Pyramid(image.pixels)
        seen: list[Face] = []
        for side in self._sides(image):
            if side > max(pyramid.height, pyramid.width):
                image = decode(None)
                pyramid = Pyramid(image.pixels)
            seen = _joined(seen, self._seen(pyramid, side, image))
            unseen_px = SEEN_PX * max(image.width, image.height) / side
            if choice.enough(self._large(seen, image), image.width, image.height, unseen_px):
                break
        return self._faces(seen, pyramid, image), image

    def _sides(self, image: Image) -> Iterator[int]:
        """Yield the longer sides at which the image is looked at."""
        whole = max(image.width, image.height)
        side = min(SEARCH_PX, whole)
        yield side
        while side < whole and self.min_face_px * side < SEEN_PX * whole:
            side = min(2 * side, whole)
            yield side

    def _seen(self, pyramid: Pyramid, side: int, image: Image) -> list[Face]:
        """Return the faces that one look shows."""
        scale = side / max(pyramid.height, pyramid.width)
        height, width = (max(1, round(px * scale)) for px in (pyramid.height, pyramid.width))
        padded = np.zeros(
            (1, 3, *(-(-px // STRIDES[-1]) * STRIDES[-1] for px in (height, width))), np.float32
        )
        padded[0, :, :height, :width] = pyramid.level(height, width)[::-1]  # BGR
        boxes, points, scores = decoded(self.look(padded)[0][0], *padded.shape[2:])
        to_original = np.array([image.width / width, image.height / height])
        stays = suppress(boxes, scores, OVERLAP)
        if side > SEARCH_PX:
            stays = stays[(boxes[stays, 2:] - boxes[stays, :2]).max(axis=1) < KNOWN_PX]
        boxes, points = boxes * np.tile(to_original, 2), points * to_original
        return [Face.of(boxes[i], points[i], scores[i]) for i in stays]

    def _faces(self, seen: Sequence[Face], pyramid: Pyramid, image: Image) -> list[Face]:
        """Return the faces that are large enough, largest first, as they are handed out."""
        return self._large(seen, image)

    def _large(self, seen: Sequence[Face], image: Image) -> list[Face]:
        large = [face for face in seen if face.longer_px >= self.min_face_px]
        return sorted(large, key=lambda face: -face.area_within(image.width, image.height))


def decoded(cells: Array, height: int, width: int) -> tuple[Array, Array, Array]:
    """Return boxes [n, 4], landmarks [n, 5, 2] and probabilities [n] of the cells that show a face.

    `cells` is the network's output for an image of `height` x `width` px, whose continuous coordinates these are; the
    network counts from the centres of pixels.
    """
    scores = np.sqrt(np.clip(cells[:, 0], 0, 1) * np.clip(cells[:, 1], 0, 1))
    shown = np.flatnonzero(scores >= SCORE)
    corners, strides = (values[shown] for values in _grids(height, width))
    cells = cells[shown]
    centre = (corners + cells[:, 2:4]) * strides + 0.5
    half = np.exp(cells[:, 4:6]) * strides / 2
    points = (corners[:, None] + cells[:, 6:].reshape(-1, 5, 2)) * strides[:, None] + 0.5
    return np.concatenate([centre - half, centre + half], axis=1), points, scores[shown]


@lru_cache(maxsize=16)
def _grids(height: int, width: int) -> tuple[Array, Array]:
    """Return the corner (x, y) of every cell, in cells, and its side in px: [n, 2], [n, 1]."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.divmod(np.arange((height // stride) * (width // stride)), width // stride)
        corners.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((len(rows), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _joined(coarse: list[Face], fine: list[Face]) -> list[Face]:
    """Return the faces of a look and those that only a finer one shows."""
    faces = [*coarse, *fine]
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    first = np.arange(len(faces)) < len(coarse)
    return [faces[i] for i in suppress(boxes, first.astype(np.float32), OVERLAP)]
