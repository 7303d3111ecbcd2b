"""The tasks: embed a photo, compare two, find a person in a folder.

Each loads the default embedder when none is given; a program that asks more than once makes one `Embedder` and hands
it on. Weights, exported networks and calibrations lie in the platform's folders for the user, as the command line's.
"""

from __future__ import annotations

import os
from pathlib import Path

from facecli.api.results import Identified, Verdict
from facecli.calibration.decision import Rule, make_rule
from facecli.config import DEFAULT_PRIOR, DEFAULT_TOP, default_user_dir
from facecli.errors import FaceError
from facecli.gallery.refresh import refresh
from facecli.models.families import family
from facecli.photos.source import Photo, named
from facecli.recognition import identify as recognition
from facecli.recognition.verify import verify_photos
from facecli.templates.embedder import Embedder
from facecli.templates.reading import probes_of
from facecli.templates.template import Embedded


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
    calibration: str | os.PathLike[str] | None = None,
    prior: float = DEFAULT_PRIOR,
) -> Verdict:
    """Say whether two photos show the same person, by one face of each: the largest by default.

    The threshold is that of the calibration for `fmr` (1e-3 by default), or `threshold` as given. Photos are as in
    `embed`. Raises the `FaceError` of the first photo that fails, `NoCalibration` and `UsageError`.
    """
    chosen = embedder if embedder is not None else Embedder()
    rule = _rule(chosen, fmr, threshold, calibration, prior)
    return Verdict(**verify_photos(chosen, rule, named(left, "left"), named(right, "right")))


def identify(
    photo: Photo,
    db: str | os.PathLike[str],
    *,
    embedder: Embedder | None = None,
    top: int = DEFAULT_TOP,
    fmr: float | None = None,
    threshold: float | None = None,
    calibration: str | os.PathLike[str] | None = None,
    prior: float = DEFAULT_PRIOR,
) -> list[Identified]:
    """Say who the faces of `photo` are among the people of `db`, a folder with a folder of photos for each.

    New and changed photos of `db` are enrolled first, by their largest face. `top` people are listed for each face.
    Photos are as in `embed`. Raises the `FaceError` of the photo or of the database, `NoCalibration`, `UsageError`.
    """
    chosen = embedder if embedder is not None else Embedder(faces="all")
    rule = _rule(chosen, fmr, threshold, calibration, prior)
    gallery, _ = refresh(Path(db), chosen.choosing("largest"), cache_dir=chosen.cache_dir)
    probes = probes_of(embed(photo, embedder=chosen))
    return [Identified(**record) for record in recognition.identify(gallery, rule, probes, top=top)]


def _rule(
    embedder: Embedder,
    fmr: float | None,
    threshold: float | None,
    calibration: str | os.PathLike[str] | None,
    prior: float,
) -> Rule:
    return make_rule(
        embedder.id,
        user_dir=default_user_dir(),
        threshold=threshold,
        fmr=fmr,
        calibration=None if calibration is None else Path(calibration),
        beside=family(embedder.spec).calibration_beside(embedder.spec),
        prior=prior,
    )
