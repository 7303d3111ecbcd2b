"""Finds faces with YuNet, which sees masked and dark ones, and their landmarks with MTCNN, which places them better.

Where MTCNN's second and third network see no face in YuNet's box, YuNet's own landmarks stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from facecli.faces.detector import Identity
from facecli.faces.face import Face
from facecli.faces.pyramid import Pyramid
from facecli.faces.refiner import OUTPUT_AT, REFINED_AT, Refiner
from facecli.faces.yunet import YuNet
from facecli.models import mtcnn_networks
from facecli.models.network import Network, Runner
from facecli.photos.decode import Image

STAGES = (mtcnn_networks.REFINE, mtcnn_networks.OUTPUT)


class Fused(YuNet):
    """YuNet and two of MTCNN's three networks, ready to run."""

    identity = Identity(
        weights=[*YuNet.identity.weights, *(stage.sha256 for stage in STAGES)],
        search={**YuNet.identity.search, "thresholds": (REFINED_AT, OUTPUT_AT)},
    )

    def __init__(self, look: Runner, refiner: Refiner, min_face_px: int) -> None:
        super().__init__(look, min_face_px)
        self.refiner = refiner

    @classmethod
    def load(cls, run: Callable[[Network], Runner], min_face_px: int) -> Fused:
        """Return the detector over its three networks, made ready by `run`."""
        yunet = YuNet.load(run, min_face_px)
        refiner = Refiner(*(run(mtcnn_networks.network(stage)) for stage in STAGES))
        return cls(yunet.look, refiner, min_face_px)

    def _faces(self, seen: Sequence[Face], pyramid: Pyramid, image: Image) -> list[Face]:
        """Return the faces that are large enough, largest first, each with the better landmarks."""
        return [self._placed(face, pyramid, image) for face in super()._faces(seen, pyramid, image)]

    def _placed(self, face: Face, pyramid: Pyramid, image: Image) -> Face:
        scale = np.array([pyramid.width / image.width, pyramid.height / image.height])
        box = np.array(face.box, np.float32) * np.tile(scale, 2) + [1, 1, 0, 0]
        again = self.refiner.faces(pyramid, box[None].astype(np.float32), image)
        return replace(face, landmarks=again[0].landmarks) if again else face
