"""Is this the same person: pairs of photos, and a photo against an enrolled person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from facecli.arrays import Array
from facecli.calibration.decision import Decision, Rule
from facecli.errors import FaceError, printable
from facecli.hooks import Progress
from facecli.photos.source import NamedPhoto
from facecli.templates.embedder import Embedder
from facecli.templates.template import Embedded, FacePlace

if TYPE_CHECKING:
    # Two photos need neither, and their imports are felt.
    from facecli.gallery.gallery import Gallery
    from facecli.trials.pairs import PairSet


COLUMNS = [
    "left",
    "right",
    "similarity",
    "threshold",
    "match",
    "fmr",
    "fnmr",
    "probability",
    "mated",
    "left_face",
    "right_face",
    "left_quality",
    "right_quality",
    "error",
]


@dataclass(frozen=True)
class Verdict(Decision):
    """Whether two photos show the same person: a `Decision` on the faces that were taken of them.

    `right_face` is None where `right` is an enrolled sample.
    """

    left: str
    right: str
    left_face: FacePlace
    right_face: FacePlace | None
    embedder_id: str

    def record(self) -> dict[str, Any]:
        """Return what `verify` prints."""
        return {
            **self._pair(),
            "similarity": self.similarity,
            "threshold": self.threshold,
            "match": self.match,
            "fmr": self.fmr,
            "fnmr": self.fnmr,
            "probability": self.probability,
            "left_face": self.left_face.record(),
            "right_face": None if self.right_face is None else self.right_face.record(),
            "embedder_id": self.embedder_id,
        }

    def _pair(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True)
class SubjectVerdict(Verdict):
    """Whether a photo shows an enrolled person, by the most similar of that person's `samples`, which is `right`."""

    subject: str
    samples: int

    def _pair(self) -> dict[str, Any]:
        return {**super()._pair(), "subject": self.subject, "samples": self.samples}


@dataclass(frozen=True)
class ListedVerdict(Verdict):
    """A verdict on a pair of a list, `mated` as the list says, None where it does not."""

    mated: bool | None

    def record(self) -> dict[str, Any]:
        return {**super().record(), "mated": self.mated}


@dataclass(frozen=True)
class Uncompared:
    """A pair of a list of which a photo failed."""

    left: str
    right: str
    mated: bool | None
    error: FaceError

    def record(self) -> dict[str, Any]:
        """Return what `verify --pairs` prints of it."""
        return {**vars(self), "error": {"code": self.error.code, "message": str(self.error)}}


def verify_photos(embedder: Embedder, rule: Rule, left: NamedPhoto, right: NamedPhoto) -> Verdict:
    """Compare one face each of two photos. Raises the `FaceError` of the first photo that fails."""
    photos = []
    for result in embedder.embed([left, right]):
        if isinstance(result, FaceError):
            raise result
        photos.append(result)
    return Verdict(**_compared(photos[0], photos[1], rule, embedder))


def verify_subject(
    embedder: Embedder, rule: Rule, gallery: Gallery, photo: NamedPhoto, subject: str
) -> SubjectVerdict:
    """Compare a photo with an enrolled person, by the most similar of the person's samples.

    `right` is that sample, relative to the database. Raises the `FaceError` of the photo, `DatabaseError` for
    somebody who is not enrolled.
    """
    with gallery.one_moment():
        samples, templates = gallery.samples_of(subject), gallery.templates_of(subject)
    (result,) = embedder.embed([photo])
    if isinstance(result, FaceError):
        raise result
    face = result.faces[0]
    strictness = np.minimum(face.strictness, [sample.strictness for sample in samples])
    similarities = templates.astype(np.float64) @ face.embedding
    best = int(np.argmax(similarities - strictness))
    place = FacePlace.of(result, face)
    return SubjectVerdict(
        **vars(rule.judge(similarities[best], float(strictness[best]), rated=rule.rates(place.quality))),
        left=printable(result.path),
        right=printable(samples[best].path),
        left_face=place,
        right_face=None,
        embedder_id=embedder.id,
        subject=samples[best].subject,
        samples=len(samples),
    )


def verify_pairs(
    embedder: Embedder, rule: Rule, pairs: PairSet, *, progress: Progress | None = None
) -> Iterator[ListedVerdict | Uncompared]:
    """Yield the verdict on each pair, in order and as soon as it is known, or why a pair could not be compared.

    Each image is embedded once, whatever the number of its pairs, and forgotten after the last of them.
    """
    from facecli.trials.pairs import images

    names = images(pairs)
    last = {name: row for row, pair in enumerate(zip(pairs.left, pairs.right, strict=True)) for name in pair}
    embedded: dict[str, Embedded | FaceError] = {}
    results = enumerate(embedder.embed((pairs.root / name, None) for name in names))
    for row, (left, right) in enumerate(zip(pairs.left, pairs.right, strict=True)):
        mated = None if pairs.mated is None else bool(pairs.mated[row])
        # Images come in the order in which the pairs need them first.
        while left not in embedded or right not in embedded:
            at, result = next(results)
            embedded[names[at]] = result
            if progress is not None:
                progress(at + 1, len(names))
        a, b = embedded[left], embedded[right]
        for name in {left, right}:
            if last[name] == row:
                del embedded[name]
        if isinstance(a, FaceError):
            yield Uncompared(printable(left), printable(right), mated, a)
        elif isinstance(b, FaceError):
            yield Uncompared(printable(left), printable(right), mated, b)
        else:
            # As the list writes them, not as they were opened.
            names_of_pair = {"left": printable(left), "right": printable(right)}
            yield ListedVerdict(**{**_compared(a, b, rule, embedder), **names_of_pair}, mated=mated)


def _compared(left: Embedded, right: Embedded, rule: Rule, embedder: Embedder) -> dict[str, Any]:
    """Return the fields of a `Verdict`."""
    a, b = left.faces[0], right.faces[0]
    places = FacePlace.of(left, a), FacePlace.of(right, b)
    decision = rule.judge(
        similarity(a.embedding, b.embedding),
        min(a.strictness, b.strictness),
        rated=all(rule.rates(place.quality) for place in places),
    )
    return {
        **vars(decision),
        "left": printable(left.path),
        "right": printable(right.path),
        "left_face": places[0],
        "right_face": places[1],
        "embedder_id": embedder.id,
    }


def similarity(a: Array, b: Array) -> float:
    """Return the cosine similarity of two unit templates, in double precision."""
    return float(np.dot(a.astype(np.float64), b.astype(np.float64)))


def flatten(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the flat row of a record: faces as `index of count`."""
    row = dict(record)
    for side in ("left_face", "right_face"):
        face = record.get(side)
        row[side] = None if face is None else f"{face['face']} of {face['n_faces']}"
        row[side.replace("face", "quality")] = None if face is None else face["quality"]
    error = record.get("error")
    row["error"] = None if error is None else f"{error['code']}: {error['message']}"
    return [row]
