"""The tasks: embed a photo, compare two, find a person in a folder.

Each loads the default embedder when none is given; a program that asks more than once makes one `Embedder` and hands
it on. Weights, exported networks and calibrations lie in the platform's folders for the user, as the command line's.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from facecli.api.rule import FilePath, rule_of
from facecli.calibration.calibration import Calibration
from facecli.config import DEFAULT_FACES, DEFAULT_PRIOR, DEFAULT_TOP
from facecli.errors import FaceError, printable
from facecli.gallery.gallery import Gallery
from facecli.gallery.refresh import refresh
from facecli.gallery.searchable import Searchable
from facecli.photos.source import Photo, named
from facecli.recognition import identify as recognition
from facecli.recognition.identify import Identified
from facecli.recognition.verify import Verdict, verify_photos
from facecli.templates.embedder import Embedder
from facecli.templates.template import Embedded, probes_of


def embed(photo: Photo, *, embedder: Embedder | None = None) -> Embedded:
    """Return every face of `photo` with its template, float32 [D], unit; the largest first.

    `photo` is a path, bytes, a Pillow image, or uint8 [H, W, 3] in RGB. Raises the `FaceError` of a photo that cannot
    be read or shows no face.
    """
    chosen = embedder if embedder is not None else Embedder(faces="all")
    (result,) = chosen.embed([named(photo)])
    if isinstance(result, FaceError):
        raise result
    return result


def verify(
    left: Photo,
    right: Photo,
    *,
    embedder: Embedder | None = None,
    fmr: float | None = None,
    threshold: float | None = None,
    calibration: Calibration | FilePath | None = None,
    prior: float = DEFAULT_PRIOR,
) -> Verdict:
    """Say whether two photos show the same person, by one face of each: the main one by default.

    The threshold is that of the calibration in force, or of `calibration` or the file of one, for `fmr` (1e-3 by
    default), or `threshold` as given. Photos are as in
    `embed`. Raises the `FaceError` of the first photo that fails, `NoCalibration` and `UsageError`.
    """
    chosen = embedder if embedder is not None else Embedder()
    rule = rule_of(chosen, fmr, threshold, calibration, prior)
    return verify_photos(chosen, rule, named(left, "left"), named(right, "right"))


def identify(
    photo: Photo,
    db: FilePath | Searchable,
    *,
    embedder: Embedder | None = None,
    top: int = DEFAULT_TOP,
    fmr: float | None = None,
    threshold: float | None = None,
    calibration: Calibration | FilePath | None = None,
    prior: float = DEFAULT_PRIOR,
) -> list[Identified]:
    """Say who the faces of `photo` are among the people of `db`: a folder with a folder of photos for each.

    New and changed photos of the folder are enrolled first, by their main face, and a `UserWarning` says of how
    many no face could be. A `Gallery`, or what can be searched like one, is taken as it stands. `top` people are
    listed for each face. Photos are as in `embed`. Raises the `FaceError` of the photo or of the database,
    `NoCalibration`, `UsageError`.
    """
    chosen = embedder if embedder is not None else Embedder(faces="all")
    rule = rule_of(chosen, fmr, threshold, calibration, prior)
    gallery = _enrolled(db, chosen) if isinstance(db, str | os.PathLike) else db
    probes = probes_of(embed(photo, embedder=chosen))
    answers = recognition.identify(gallery, rule, probes, top=top, min_quality=chosen.lowest_quality)
    return [answer for answer in answers if isinstance(answer, Identified)]


def enrol(db: FilePath, *, embedder: Embedder | None = None) -> Gallery:
    """Enrol the new and changed photos of the folder `db`, by their main face; return it to search in.

    A `UserWarning` says how many photos have no usable face, and names the first. Raises `DatabaseError`,
    `NoSuchFile`.
    """
    return _enrolled(db, embedder if embedder is not None else Embedder())


def _enrolled(db: FilePath, embedder: Embedder) -> Gallery:
    gallery, report = refresh(Path(db), embedder.choosing(DEFAULT_FACES), cache_dir=embedder.cache_dir)
    if report.failures:
        first = report.failures[0]
        text = f"{len(report.failures)} photos cannot be used, first {first.path}: {first.message}"
        warnings.warn(f"{printable(db)}: {text}", UserWarning, stacklevel=3)  # where the task was called
    return gallery
