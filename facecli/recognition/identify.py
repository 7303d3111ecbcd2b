"""Who is this: every probe face ranked against the people of a gallery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from facecli.calibration.decision import Rule
from facecli.gallery.searchable import Candidate, Searchable
from facecli.recognition.false_alarms import FalseAlarms
from facecli.templates.template import FacePlace, FailedProbe, Probe

COLUMNS = [
    "probe",
    "face",
    "rank",
    "subject",
    "similarity",
    "threshold",
    "match",
    "probability",
    "sample",
    "error",
]

_PROBES_AT_ONCE = 64


@dataclass(frozen=True)
class Ranked:
    """A person that a face was compared with, by the most similar `sample`, relative to the database.

    `rank` counts from 1; the rest is as in `Decision`.
    """

    rank: int
    subject: str
    sample: str
    similarity: float
    match: bool
    probability: float | None


@dataclass(frozen=True)
class Identified:
    """Who one face of a photo is.

    `subject` is the person's name, None for nobody; `candidates` are the most similar people, best first, and
    `similarity` is the best one's, None where there are none. `place` says which face it is. `fmr` and `fnmr` are the
    error rates of one comparison at `threshold`, None where nobody measured them; `expected_false_alarms` is how many
    of the `n_samples` of the `n_subjects` enrolled a stranger matches on average: FMR x samples. `fpir` is what was
    asked for and measured on the gallery itself, if it was.
    """

    probe: str
    place: FacePlace
    subject: str | None
    similarity: float | None
    threshold: float
    fmr: float | None
    fnmr: float | None
    expected_false_alarms: float | None
    fpir: FalseAlarms | None
    candidates: tuple[Ranked, ...]
    n_subjects: int
    n_samples: int
    embedder_id: str

    @property
    def match(self) -> bool:
        """Whether it is somebody who is enrolled."""
        return self.subject is not None

    def record(self) -> dict[str, Any]:
        """Return what `find` prints of this face."""
        return {
            "probe": self.probe,
            **self.place.record(),
            "subject": self.subject,
            "match": self.match,
            "similarity": self.similarity,
            "threshold": self.threshold,
            "fmr": self.fmr,
            "fnmr": self.fnmr,
            "expected_false_alarms": self.expected_false_alarms,
            "fpir": None if self.fpir is None else self.fpir.record(),
            "candidates": [dict(vars(candidate)) for candidate in self.candidates],
            "gallery": {"subjects": self.n_subjects, "samples": self.n_samples},
            "embedder_id": self.embedder_id,
        }


@dataclass(frozen=True)
class Unidentified:
    """A probe that failed, with the `code` and `message` of its error."""

    probe: str
    error: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return what `find` prints of it."""
        return dict(vars(self))


def identify(
    gallery: Searchable,
    rule: Rule,
    probes: Iterable[Probe | FailedProbe],
    *,
    top: int,
    alarms: FalseAlarms | None = None,
) -> Iterator[Identified | Unidentified]:
    """Yield who each probe is, in order, with the `top` most similar subjects, or why nobody can say."""
    source = iter(probes)
    while batch := list(islice(source, _PROBES_AT_ONCE)):
        faces = [probe for probe in batch if isinstance(probe, Probe)]
        ranked = iter(gallery.search(np.stack([probe.embedding for probe in faces]), top) if faces else [])
        for probe in batch:
            if isinstance(probe, FailedProbe):
                yield Unidentified(probe.path, probe.error)
            else:
                yield _identified(gallery, rule, probe, next(ranked), alarms)


def _identified(
    gallery: Searchable, rule: Rule, probe: Probe, similar: list[Candidate], alarms: FalseAlarms | None
) -> Identified:
    candidates = tuple(_ranked(rule, candidate) for candidate in similar)
    best = candidates[0] if candidates else None
    return Identified(
        probe=probe.path,
        place=probe.place,
        subject=best.subject if best is not None and best.match else None,
        similarity=None if best is None else best.similarity,
        threshold=rule.threshold,
        fmr=rule.fmr,
        fnmr=rule.fnmr,
        expected_false_alarms=None if rule.point is None else round(rule.point.fmr * gallery.n_samples, 6),
        fpir=alarms,
        candidates=candidates,
        n_subjects=gallery.n_subjects,
        n_samples=gallery.n_samples,
        embedder_id=gallery.embedder_id,
    )


def _ranked(rule: Rule, candidate: Candidate) -> Ranked:
    decision = rule.judge(candidate.similarity)
    return Ranked(
        candidate.rank,
        candidate.subject,
        candidate.path,
        decision.similarity,
        decision.match,
        decision.probability,
    )


def flatten(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one flat row a candidate; an unknown face's first row says so and has no rank."""
    error = record.get("error")
    if error is not None:
        return [{"probe": record["probe"], "error": f"{error['code']}: {error['message']}"}]
    where = {key: record.get(key) for key in ("probe", "face", "threshold")}
    rows = [{**where, **candidate} for candidate in record["candidates"]]
    if not record["match"]:
        rows.insert(0, {**where, "rank": None, "subject": "unknown", "match": False})
    return rows
