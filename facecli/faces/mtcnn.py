"""Finds faces: the MTCNN cascade over an image pyramid that is never searched further than it must be.

Three networks: the first slides over every level of the pyramid, the second and third look again at what it
proposes, and the last gives five landmarks (Zhang et al., 2016). Coordinates are continuous: pixel i spans
[i, i + 1), so pixel centres lie at half-integers. Results are in px of the original image, upright.

The levels sit on one ladder of face sizes, `LADDER_PX / FACTOR**k` of the original image, whatever the smallest
face asked for: asking for smaller ones adds levels and moves none. Searching for every face walks the whole
ladder. Searching for the one face that counts walks it from the coarse end, on an image decoded at reduced scale,
and stops at the step that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facecli.arrays import Array
from facecli.config import Detection
from facecli.faces.choice import LARGEST, Choice
from facecli.faces.detector import FaceDetector, Identity
from facecli.faces.face import Face
from facecli.faces.overlap import suppress
from facecli.faces.pyramid import Pyramid
from facecli.faces.refiner import OUTPUT_AT, REFINED_AT, Refiner, shifted
from facecli.models import mtcnn_networks
from facecli.models.network import Network, Runner
from facecli.photos.decode import Image
from facecli.photos.source import Decode

FACTOR = 0.709
"""Ratio of one step of the image pyramid to the next (the cascade's training value)."""
THRESHOLDS = (0.6, REFINED_AT, OUTPUT_AT)
"""Face probabilities that a candidate must reach in the three stages of the cascade."""
SEARCH_PX = 600
"""Longer side that a reduced-scale decoding keeps, where only the largest face is wanted."""
SURE = 0.95
"""Face probability that ends the search for the largest face."""
LADDER_PX = 20.0
"""A face side on the ladder of levels."""
CELL_PX = 12
"""Side of the window that the first network slides, and its stride."""
STRIDE_PX = 2


class Mtcnn(FaceDetector):
    """The cascade, ready to run: three runners.

    `min_face_px` (at the original scale) only decides how far down the search goes.
    """

    identity = Identity(
        weights=[stage.sha256 for stage in mtcnn_networks.STAGES],
        search={"factor": FACTOR, "thresholds": THRESHOLDS, "search_px": SEARCH_PX, "sure": SURE},
    )
    smallest_px = CELL_PX

    def __init__(self, stages: Sequence[Runner], min_face_px: int = Detection.min_face_px) -> None:
        self.propose = stages[0]
        self.refiner = Refiner(*stages[1:])
        self.min_face_px = min_face_px

    @classmethod
    def load(cls, run: Callable[[Network], Runner], min_face_px: int) -> Mtcnn:
        """Return the cascade over its three networks, made ready by `run`."""
        return cls([run(mtcnn_networks.network(stage)) for stage in mtcnn_networks.STAGES], min_face_px)

    def all_faces(self, image: Image) -> list[Face]:
        """Return every face of `min_face_px` or more in an image at full scale, largest first.

        Smaller faces that happen to be seen are returned too.
        """
        pyramid = Pyramid(image.pixels)
        boxes = [self._proposals(pyramid, side) for side in self._ladder(image)]
        return self._faces(pyramid, np.concatenate([_NOTHING, *boxes]), image)

    def first_faces(self, decode: Decode, choice: Choice = LARGEST) -> tuple[list[Face], Image]:
        """Return the faces of the coarsest scales, largest first, and the image as decoded.

        The search ends at the first scale whose faces are enough for `choice`; smaller faces may be missing.
        """
        image = decode(SEARCH_PX)
        pyramid = Pyramid(image.pixels)
        boxes = _NOTHING
        searched_px = 0.0
        for side in self._ladder(image):
            if side * image.scale < CELL_PX * 2 and image.scale < 1.0:
                # Too coarse a decoding for faces this small, and nothing larger was there, or did not count.
                image = decode(None)
                pyramid, boxes = Pyramid(image.pixels), _NOTHING
                if choice != LARGEST:
                    larger = [self._proposals(pyramid, px) for px in self._ladder(image) if px > side]
                    boxes = np.concatenate([_NOTHING, *larger])
            boxes = np.concatenate([boxes, self._proposals(pyramid, side * image.scale)])
            searched_px += image.width * image.height * (CELL_PX / side) ** 2
            # The coarse levels are nearly free: what they propose is looked at once, together.
            if searched_px < _FREE_PX or not len(boxes):
                continue
            faces = self._faces(pyramid, boxes, image)
            sure = [face for face in faces if face.probability >= SURE]
            if choice.enough(sure, image.width, image.height, side * FACTOR):
                return faces, image
        return self._faces(pyramid, boxes, image), image

    def _ladder(self, image: Image) -> Iterator[float]:
        """Yield face sides in px of the original, largest first, down to a step below the smallest asked for."""

        def rung(side: float) -> float:
            return math.log(LADDER_PX / side) / math.log(FACTOR)

        # A face as small as the window must fill it to be seen, hence the further step.
        finest = math.floor(rung(self.min_face_px * FACTOR) + 1e-3)
        coarsest = math.floor(rung(min(image.width, image.height)))
        for k in range(coarsest, finest - 1, -1):
            yield LADDER_PX / FACTOR**k

    def _proposals(self, pyramid: Pyramid, side: float) -> Array:
        """Return what the first network sees at the level of face side `side`: [n, 9] box, score, shift."""
        scale = CELL_PX / side
        level = pyramid.level(int(pyramid.height * scale + 1), int(pyramid.width * scale + 1))
        if min(level.shape[1:]) < CELL_PX:
            return _NOTHING
        score, shift = self._slide(level)
        rows, columns = np.nonzero(score >= THRESHOLDS[0])
        score = score[rows, columns]
        corner = STRIDE_PX * np.stack([columns, rows], axis=1)
        boxes = np.floor(np.concatenate([corner + 1, corner + CELL_PX], axis=1) / scale).astype(np.float32)
        keep = suppress(boxes, score, 0.5)
        shift = shift[:, rows[keep], columns[keep]].T
        return np.concatenate([boxes[keep], score[keep, None], shift], axis=1)

    def _slide(self, level: Array) -> tuple[Array, Array]:
        """Return the first network's score [rows, columns] and shift [4, rows, columns] over a level [3, h, w].

        Its feature maps take fifty bytes a pixel and more, so a panorama is done in strips: one output row sees
        `CELL_PX` rows, from every second one on.
        """
        _, height, width = level.shape
        step = max(1, _STRIP_PX // width)
        parts = []
        for start in range(0, max(1, (height - CELL_PX) // STRIDE_PX + 1), step):
            top = STRIDE_PX * start
            # The last strip runs to the end: rounding up, the network sees a row more of an odd height.
            last = top + STRIDE_PX * step + CELL_PX >= height
            bottom = height if last else top + STRIDE_PX * (step - 1) + CELL_PX
            parts.append(self.propose(np.ascontiguousarray(level[None, :, top:bottom])))
            if last:
                break
        probability, shift = (np.concatenate(maps, axis=2) for maps in zip(*parts, strict=True))
        return probability[0, 1], shift[0]

    def _faces(self, pyramid: Pyramid, proposals: Array, image: Image) -> list[Face]:
        """Return what the second and third network leave of the first one's proposals, largest first."""
        proposals = proposals[suppress(proposals[:, :4], proposals[:, 4], 0.7)]
        return self.refiner.faces(pyramid, shifted(proposals[:, :4], proposals[:, 5:], 0), image)


_NOTHING = np.empty((0, 9), np.float32)
_FREE_PX = 80 * 80
_STRIP_PX = 500_000
"""Windows of the first network at once: a photo of 2,500 px is one strip."""
