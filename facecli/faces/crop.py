"""From a photo to the chips of the faces that count: searched, chosen, decoded finely enough, aligned."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facecli.arrays import Pixels
from facecli.errors import NoFace
from facecli.faces import align
from facecli.faces.choice import Choice
from facecli.faces.detector import FaceDetector
from facecli.faces.face import Face
from facecli.models.spec import ModelSpec
from facecli.photos.decode import Image
from facecli.photos.source import Decode


@dataclass(frozen=True, eq=False)
class Crop:
    """A face that counts: `index` numbers the faces seen from the largest, `chip` is uint8 [S, S, 3], RGB."""

    face: Face
    index: int
    chip: Pixels


@dataclass(frozen=True, eq=False)
class Crops:
    """The faces of a photo that count, one or more, of the `n_faces` seen; size in px of the upright image."""

    width: int
    height: int
    n_faces: int
    chosen: tuple[Crop, ...]


def cut(
    decode: Decode,
    spec: ModelSpec,
    detector: FaceDetector | None,
    choice: Choice,
    *,
    path: str | os.PathLike[str],
) -> Crops:
    """Return the chips, as the network of `spec` wants them, of the faces that `choice` takes of a photo.

    Without a detector the photo is a face crop already, and its one face the whole of it. `path` only names the
    photo in errors. Raises `NoFace`, `SeveralFaces` and what `decode` raises.
    """
    if detector is None:
        image = decode(2 * spec.input_size)
        face = Face((0.0, 0.0, float(image.width), float(image.height)), (), 1.0)
        crop = Crop(face, 0, align.whole(image.pixels, spec.input_size))
        return Crops(image.width, image.height, 1, (crop,))
    if choice.needs_all:
        image = decode(None)
        faces = detector.all_faces(image)
    else:
        faces, image = detector.first_faces(decode, central=choice.policy == "center")
    if not faces:
        raise NoFace(
            f"no face of {detector.min_face_px} px or more found in {image.width} x {image.height} px",
            path=path,
            hint="try a smaller min_face_px, or aligned if the image is a face crop",
            advice="smaller_face",
        )
    indices = choice.of(faces, image.width, image.height, path=path)
    chips = _chips([faces[index] for index in indices], image, decode, spec)
    chosen = tuple(Crop(faces[index], index, chip) for index, chip in zip(indices, chips, strict=True))
    return Crops(image.width, image.height, len(faces), chosen)


def _chips(faces: Sequence[Face], image: Image, decode: Decode, spec: ModelSpec) -> list[Pixels]:
    """Return the chip of each face, from an image decoded finely enough not to enlarge what is there."""
    matrices = [
        align.onto_square(face.box, spec.input_size, spec.crop_margin)
        if spec.template is None
        else align.similarity(face.landmarks, spec.template)
        for face in faces
    ]
    wanted = min(max(align.scale_of(matrix) for matrix in matrices), 1.0)
    if image.scale < wanted:
        # Decoded at a scale that sufficed for the search, but would blur the chips.
        image = decode(math.ceil(max(image.width, image.height) * wanted))
    height, width = image.pixels.shape[:2]
    to_original = np.array([image.width / width, image.height / height])
    return [
        align.chip(
            image.pixels,
            np.concatenate([matrix[:, :2] * to_original, matrix[:, 2:]], axis=1),
            spec.input_size,
        )
        for matrix in matrices
    ]
