"""Faces in photos that lie on a side or stand on their head, with no metadata that says so.

A network's raw output is long for an upright face. Where a photo's main face has a short one, or no face is seen, the
photo is searched turned as well, and spread where it is dark or flat, and counts as it is where the output of its main
face is longest. Detectors find
and alignment straightens what is rolled by up to half a quarter turn, so four turns see every roll.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from facecli.arrays import Pixels
from facecli.config import DEFAULT_FACES
from facecli.errors import FaceError, NoFace, SeveralFaces
from facecli.faces.choice import Choice
from facecli.faces.crop import Crops, cut
from facecli.faces.detector import FaceFinder
from facecli.faces.face import Face
from facecli.models.spec import ModelSpec
from facecli.photos.decode import AS_DECODED, Image
from facecli.photos.levels import levelled
from facecli.photos.source import Decode

LOOK_PX = 600
"""Longer side at which a photo is looked at for being flat."""
TURNS = (90, 180, 270)
"""By how many degrees a photo's faces may be turned, clockwise."""
LONGER = 0.25
"""By how much longer than as the photo lies an output must be: spoiled faces are short at every turn."""


def in_doubt(crops: Crops | FaceError, lengths: Sequence[float], spec: ModelSpec) -> bool:
    """Say whether a photo may show its faces better when it is turned.

    `crops` are its faces as it lies, or why there are none; `lengths` are of their raw outputs.
    """
    if spec.upright_length is None:
        return False
    if isinstance(crops, FaceError):
        return isinstance(crops, NoFace | SeveralFaces)
    return lengths[0] < spec.upright_length


def upright(
    crops: Crops | FaceError,
    lengths: Sequence[float],
    decode: Decode,
    spec: ModelSpec,
    detector: FaceFinder,
    choice: Choice,
    *,
    length_of: Callable[[Pixels], float],
    path: str | os.PathLike[str],
) -> Crops | None:
    """Return the faces of a photo that is in doubt as they are cut at the best turn; None where it is best as it is.

    `length_of` tells the length of a chip's raw output. Raises what `cut` raises at that turn.
    """
    original = decode
    # Good photos are never spread: a small face before a plain wall would be distorted.
    decode = functools.cache(levelled(decode))
    is_flat = decode(LOOK_PX).levels != AS_DECODED
    main = choice if choice.face is None and not choice.needs_all else Choice(DEFAULT_FACES)

    def length_at(degrees: int) -> float:
        try:
            seen = cut(decode, spec, Turned(detector, degrees), main, path=path)
        except NoFace:
            return 0.0
        return length_of(seen.chosen[0].chip)

    if isinstance(crops, NoFace):
        as_it_lies = 0.0
    elif isinstance(crops, Crops) and (choice.face is None or crops.chosen[0].index == 0):
        as_it_lies = lengths[0]
    else:
        # The main face is none of those that count.
        as_it_lies = length_of(cut(original, spec, detector, main, path=path).chosen[0].chip)
        if spec.upright_length is not None and as_it_lies >= spec.upright_length:
            return None
    turns = TURNS if not is_flat else (0, *TURNS)
    by_turn = {None: as_it_lies + LONGER} | {degrees: length_at(degrees) for degrees in turns}
    turned = max(by_turn, key=lambda degrees: by_turn[degrees])
    if turned is None:
        return None
    return replace(cut(decode, spec, Turned(detector, turned), choice, path=path), turned=turned)


class Turned:
    """A detector that sees photos turned counterclockwise by `degrees`; faces are in px of the photo as it lies."""

    def __init__(self, detector: FaceFinder, degrees: int) -> None:
        self.detector = detector
        self.quarters = degrees // 90
        self.min_face_px = detector.min_face_px

    def all_faces(self, image: Image) -> list[Face]:
        """Return every face of an image at full scale."""
        return self._as_it_lies(self.detector.all_faces(_turned(image, self.quarters)), image)

    def first_faces(self, decode: Decode, choice: Choice) -> tuple[list[Face], Image]:
        """Return faces and the image as decoded, not turned; see `FaceFinder`."""
        faces, seen = self.detector.first_faces(
            lambda at_least_px: _turned(decode(at_least_px), self.quarters), choice
        )
        image = _turned(seen, -self.quarters)
        return self._as_it_lies(faces, image), image

    def _as_it_lies(self, faces: list[Face], image: Image) -> list[Face]:
        return [_turned_back(face, self.quarters, image.width, image.height) for face in faces]


def _turned(image: Image, quarters: int) -> Image:
    """Return an image turned counterclockwise."""
    pixels = np.ascontiguousarray(np.rot90(image.pixels, quarters))
    width, height = (image.height, image.width) if quarters % 2 else (image.width, image.height)
    return replace(image, pixels=pixels, width=width, height=height)


def _turned_back(face: Face, quarters: int, width: int, height: int) -> Face:
    """Return where a face that was seen in a turned image lies in the image, which has this size."""

    def point(x: float, y: float) -> tuple[float, float]:
        return [(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarters]

    left, top, right, bottom = face.box
    (x0, y0), (x1, y1) = point(left, top), point(right, bottom)
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    return replace(face, box=box, landmarks=tuple(point(x, y) for x, y in face.landmarks))
