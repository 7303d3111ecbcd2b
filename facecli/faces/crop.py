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
from facecli.faces.detector import FaceFinder
from facecli.faces.face import Face
from facecli.faces.quality import CHIP_PX, Appearance, appearances
from facecli.models.built_in import ARCFACE_TEMPLATE
from facecli.models.spec import ModelSpec
from facecli.photos.decode import Image
from facecli.photos.source import Decode


@dataclass(frozen=True, eq=False)
class Crop:
    """A face that counts: `index` numbers the faces seen from the largest, `chip` is uint8 [S, S, 3], RGB.

    `appearance` is None for an image that was a crop already: nobody knows where in it the face lies.
    """

    face: Face
    index: int
    chip: Pixels
    appearance: Appearance | None


@dataclass(frozen=True, eq=False)
class Crops:
    """The faces of a photo that count, one or more, of the `n_faces` seen; size in px of the upright image.

    `turned` is by how many degrees they are turned clockwise in it: 0, 90, 180 or 270.
    """

    width: int
    height: int
    n_faces: int
    chosen: tuple[Crop, ...]
    turned: int = 0


def cut(
    decode: Decode,
    spec: ModelSpec,
    detector: FaceFinder | None,
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
        crop = Crop(face, 0, align.whole(image.pixels, spec.input_size), None)
        return Crops(image.width, image.height, 1, (crop,))
    if choice.needs_all:
        image = decode(None)
        faces = detector.all_faces(image)
    else:
        faces, image = detector.first_faces(decode, choice)
    if not faces:
        raise NoFace(
            f"no face of {detector.min_face_px} px or more found in {image.width} x {image.height} px",
            path=path,
            hint="try a smaller min_face_px, or aligned if the image is a face crop",
            advice="smaller_face",
        )
    indices = choice.of(faces, image.width, image.height, path=path)
    counted = [faces[index] for index in indices]
    image, placed = _fine_enough(image, decode, [_placed(face, spec) for face in counted])
    chips = [align.chip(image.pixels, matrix, spec.input_size) for matrix in placed]
    shown = appearances(_looked_at(image, counted, chips, spec), counted, image)
    chosen = tuple(map(Crop, counted, indices, chips, shown))
    return Crops(image.width, image.height, len(faces), chosen)


def _placed(face: Face, spec: ModelSpec) -> align.Matrix:
    """Return the map of a face in the original image onto the chip of `spec`."""
    if spec.template is None:
        return align.onto_square(face.box, spec.input_size, spec.crop_margin)
    return align.similarity(face.landmarks, spec.template)


def _fine_enough(
    image: Image, decode: Decode, matrices: Sequence[align.Matrix]
) -> tuple[Image, list[align.Matrix]]:
    """Return the image decoded finely enough not to enlarge what is there, and the maps from its own pixels."""
    wanted = min(max(align.scale_of(matrix) for matrix in matrices), 1.0)
    if image.scale < wanted:
        # Decoded at a scale that sufficed for the search, but would blur the chips.
        image = decode(math.ceil(max(image.width, image.height) * wanted))
    return image, [_from_pixels(image, matrix) for matrix in matrices]


def _from_pixels(image: Image, matrix: align.Matrix) -> align.Matrix:
    """Return a map from px of the original as one from px of the image as it was decoded."""
    height, width = image.pixels.shape[:2]
    to_original = np.array([image.width / width, image.height / height])
    return np.concatenate([matrix[:, :2] * to_original, matrix[:, 2:]], axis=1)


def _looked_at(image: Image, faces: Sequence[Face], chips: Sequence[Pixels], spec: ModelSpec) -> Pixels:
    """Return the chips that quality is measured on: those of the network where it is fed the same."""
    if (spec.template, spec.input_size) == (ARCFACE_TEMPLATE, CHIP_PX):
        return np.stack(chips)
    matrices = (_from_pixels(image, align.similarity(face.landmarks, ARCFACE_TEMPLATE)) for face in faces)
    return np.stack([align.chip(image.pixels, matrix, CHIP_PX) for matrix in matrices])
