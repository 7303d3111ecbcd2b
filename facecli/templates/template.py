"""What comes of a photograph: templates with the faces that they are of, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from facecli.arrays import Array
from facecli.errors import printable
from facecli.faces.face import Face
from facecli.faces.quality import Quality


@dataclass(frozen=True)
class FaceTemplate:
    """One face and its template: `index` counts the faces seen from the largest, `embedding` is float32 [D], unit.

    `quality` is None for a face crop, which nobody aligned. `turned` is by how many degrees the face is turned
    clockwise in the photo: 0, 90, 180 or 270.
    """

    face: Face
    index: int
    embedding: Array
    quality: Quality | None = None
    turned: int = 0

    @property
    def strictness(self) -> float:
        """Of its quality; 0 where nobody knows it."""
        return 0.0 if self.quality is None else self.quality.strictness


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
class FacePlace:
    """Which face of an image a template is of; None where a record of before does not say.

    `face` counts the `n_faces` seen, from the largest; `box` is (left, top, right, bottom) in px of the upright image,
    to a tenth; `face_probability` is the detector's, in 0..1, `quality` is in 0..100, and `turned` is by how many
    degrees the photo's faces are turned clockwise.
    """

    face: int | None
    n_faces: int | None
    box: tuple[float, ...] | None
    face_probability: float | None
    quality: float | None = None
    turned: int | None = None

    @classmethod
    def of(cls, image: Embedded, chosen: FaceTemplate) -> FacePlace:
        """Return the place of one face of an image."""
        box = tuple(round(side, 1) for side in chosen.face.box)
        quality = None if chosen.quality is None else chosen.quality.score
        return cls(
            chosen.index, image.n_faces, box, round(chosen.face.probability, 4), quality, chosen.turned
        )

    def record(self) -> dict[str, Any]:
        """Return the keys of a record that say which face it is about."""
        return {**vars(self), "box": None if self.box is None else list(self.box)}


@dataclass(frozen=True)
class Probe:
    """A template to look for, float32 [D], unit: `path` is of its image, printable; for `strictness` see `Quality`."""

    path: str
    embedding: Array
    place: FacePlace
    strictness: float = 0.0


@dataclass(frozen=True)
class FailedProbe:
    """What could not be embedded, with the `code` and `message` of its error."""

    path: str
    error: dict[str, str]


def probes_of(image: Embedded) -> list[Probe]:
    """Return the chosen faces of an image as probes."""
    return [
        Probe(printable(image.path), chosen.embedding, FacePlace.of(image, chosen), chosen.strictness)
        for chosen in image.faces
    ]


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
    quality: Quality | None = None


class Failure(NamedTuple):
    """A photo without a template. `path` is relative to the database, printable."""

    path: str
    code: str
    message: str
