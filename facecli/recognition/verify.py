"""Is this the same person: pairs of photos, and a photo against an enrolled person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facecli.arrays import Array
from facecli.calibration.decision import Rule
from facecli.errors import FaceError, printable
from facecli.hooks import Progress
from facecli.photos.source import NamedPhoto
from facecli.templates.embedder import Embedder
from facecli.templates.records import face_place
from facecli.templates.template import Embedded

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
    "error",
]


def verify_photos(embedder: Embedder, rule: Rule, left: NamedPhoto, right: NamedPhoto) -> dict[str, Any]:
    """Compare one face each of two photos. Raises the `FaceError` of the first photo that fails."""
    found = []
    for result in embedder.embed([left, right]):
        if isinstance(result, FaceError):
            raise result
        found.append(result)
    return _compared(found[0], found[1], rule, embedder)


def verify_subject(
    embedder: Embedder, rule: Rule, gallery: Gallery, photo: Path, subject: str
) -> dict[str, Any]:
    """Compare a photo with an enrolled person, by the most similar of the person's samples.

    `right` is that sample, relative to the database.
    """
    with gallery.one_moment():
        samples, templates = gallery.samples_of(subject), gallery.templates_of(subject)
    (found,) = embedder.embed([(photo, None)])
    if isinstance(found, FaceError):
        raise found
    similarities = templates.astype(np.float64) @ found.faces[0].embedding
    best = int(np.argmax(similarities))
    return {
        "left": printable(photo),
        "right": printable(samples[best].path),
        "subject": samples[best].subject,
        "samples": len(samples),
        **rule.judge(similarities[best]),
        "left_face": face_place(found, found.faces[0]),
        "right_face": None,
        "embedder_id": embedder.id,
    }


def verify_pairs(
    embedder: Embedder, rule: Rule, pairs: PairSet, *, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one record a pair, in order; a pair with a photo that failed has `error` in place of a similarity.

    Each image is embedded once, whatever the number of its pairs.
    """
    from facecli.trials.pairs import images

    names = images(pairs)
    found: dict[str, Embedded | FaceError] = {}
    results = embedder.embed((pairs.root / name, None) for name in names)
    for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
        found[name] = result
        if progress is not None:
            progress(done, len(names))
    for row, (left, right) in enumerate(zip(pairs.left, pairs.right, strict=True)):
        mated = None if pairs.mated is None else bool(pairs.mated[row])
        a, b = found[left], found[right]
        failed = next((result for result in (a, b) if isinstance(result, FaceError)), None)
        if failed is not None:
            error = {"code": failed.code, "message": str(failed)}
            yield {"left": printable(left), "right": printable(right), "mated": mated, "error": error}
        elif isinstance(a, Embedded) and isinstance(b, Embedded):
            record = _compared(a, b, rule, embedder)
            yield {**record, "left": printable(left), "right": printable(right), "mated": mated}


def _compared(left: Embedded, right: Embedded, rule: Rule, embedder: Embedder) -> dict[str, Any]:
    a, b = left.faces[0], right.faces[0]
    return {
        "left": printable(left.path),
        "right": printable(right.path),
        **rule.judge(similarity(a.embedding, b.embedding)),
        "left_face": face_place(left, a),
        "right_face": face_place(right, b),
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
    error = record.get("error")
    row["error"] = None if error is None else f"{error['code']}: {error['message']}"
    return [row]
