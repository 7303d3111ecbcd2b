"""What comes of a photograph: templates with the faces that they are of, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facecli.arrays import Array
from facecli.faces.face import Face


@dataclass(frozen=True)
class FaceTemplate:
    """One face and its template: `index` counts the faces seen from the largest, `embedding` is float32 [D], unit."""

    face: Face
    index: int
    embedding: Array


@dataclass(frozen=True)
class Embedded:
    """The chosen faces of one image.

    `n_faces` counts those seen: with the policy `largest` or `center` the search ends at the first scale that
    shows a face, so smaller ones may not have been. `width` and `height` are px of the upright image.
    """

    path: Path
    width: int
    height: int
    n_faces: int
    faces: tuple[FaceTemplate, ...]


@dataclass(frozen=True)
class Enrolled:
    """A template for a database: float32 [D], unit, and the face that it is of.

    `face` counts the `n_faces` faces seen, from the largest; places are px of the upright image.
    """

    embedding: Array
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    probability: float
    face: int
    n_faces: int


class Failure(NamedTuple):
    """A photo without a template. `path` is relative to the database, printable."""

    path: str
    code: str
    message: str
