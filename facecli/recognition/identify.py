"""Who is this: every probe face ranked against the people of a gallery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from facecli.calibration.decision import Decision, Rule
from facecli.errors import LowQuality
from facecli.gallery.searchable import Candidate, Searchable
from facecli.recognition.false_alarms import FalseAlarms
from facecli.recognition.posterior import agreeing, posterior
from facecli.templates.template import FacePlace, FailedProbe, Probe

COLUMNS = [
    "probe",
    "face",
    "quality",
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
_SPARE = 10
"""People beyond those listed who are looked at: what is stricter for some may put others before them, and whoever is
nearly as similar as the best takes a share of the probability."""


@dataclass(frozen=True)
class Ranked:
    """A person that a face was compared with, by the most similar `sample`, relative to the database.

    `rank` counts from 1. `probability` is that the face is this person's, among all who are enrolled and nobody; None
    without a calibration, and where it says the opposite of `match`. The rest is as in `Decision`.
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

    `subject` is the person's name, None for nobody; `candidates` are the most similar people, best first; `similarity`
    and `threshold` are the best one's, None and the rule's where there are none. A threshold is stricter for two faces
    of poor quality. `place` says which face it is. `fmr` and `fnmr` are the error rates of one comparison, None where
    nobody measured them; `expected_false_alarms` is how many of the `n_samples` of the `n_subjects` enrolled a stranger
    matches on average: FMR x samples. `fpir` is what was asked for and measured on the gallery itself, if it was.
    `nobody` is the probability that it is nobody enrolled, None where it has none or says the opposite of the decision.
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
    nobody: float | None
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
            "nobody": self.nobody,
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
    min_quality: float = 0.0,
) -> Iterator[Identified | Unidentified]:
    """Yield who each probe is, in order, with the `top` most similar subjects, or why nobody can say.

    A face whose quality is below `min_quality` is not decided on.
    """
    source = iter(probes)
    while batch := list(islice(source, _PROBES_AT_ONCE)):
        faces = [probe for probe in batch if isinstance(probe, Probe)]
        wanted = np.stack([probe.embedding for probe in faces]) if faces else None
        ranked = iter([] if wanted is None else gallery.search(wanted, top + _SPARE))
        for probe in batch:
            if isinstance(probe, FailedProbe):
                yield Unidentified(probe.path, probe.error)
                continue
            similar = next(ranked)
            quality = probe.place.quality
            if quality is not None and quality < min_quality:
                error = LowQuality(
                    f"a quality of {quality:g} of 100 is too low for a decision", path=probe.path
                )
                yield Unidentified(probe.path, error.record())
            else:
                yield _identified(gallery, rule, probe, similar, top, alarms)


def _identified(
    gallery: Searchable,
    rule: Rule,
    probe: Probe,
    similar: list[Candidate],
    top: int,
    alarms: FalseAlarms | None,
) -> Identified:
    rated = rule.rates(probe.place.quality)
    stricter = [(candidate, min(probe.strictness, candidate.strictness)) for candidate in similar]
    stricter.sort(key=lambda pair: pair[1] - pair[0].similarity)
    judged = [
        (candidate, rule.judge(candidate.similarity, extra, rated=rated))
        for candidate, extra in stricter[:top]
    ]
    *probabilities, nobody = _probabilities(gallery, rule, stricter) if rated else [None] * (len(similar) + 1)
    candidates = tuple(
        _ranked(rank, *pair, probability)
        for rank, (pair, probability) in enumerate(zip(judged, probabilities, strict=False), start=1)
    )
    best = judged[0][1] if judged else None
    matched = best is not None and best.match
    return Identified(
        probe=probe.path,
        place=probe.place,
        subject=candidates[0].subject if matched else None,
        similarity=None if best is None else best.similarity,
        threshold=rule.threshold if best is None else best.threshold,
        fmr=rule.fmr if rated else None,
        fnmr=rule.fnmr if rated else None,
        expected_false_alarms=(
            round(rule.point.fmr * gallery.n_samples, 6) if rated and rule.point is not None else None
        ),
        fpir=alarms,
        candidates=candidates,
        nobody=None if nobody is None else agreeing(nobody, not matched),
        n_subjects=gallery.n_subjects,
        n_samples=gallery.n_samples,
        embedder_id=gallery.embedder_id,
    )


def _probabilities(
    gallery: Searchable, rule: Rule, stricter: list[tuple[Candidate, float]]
) -> list[float] | list[None]:
    """Return the probability of each candidate and, last, of nobody; None without a calibration or people."""
    if rule.calibration is None or not stricter:
        return [None] * (len(stricter) + 1)
    similarity = np.array([candidate.similarity for candidate, _ in stricter])
    llr = rule.calibration.score_map.llr(similarity - [extra for _, extra in stricter])
    # Whoever was not looked at is no more similar than all who were.
    most = float(rule.calibration.score_map.llr(similarity.min()))
    others = max(0, gallery.n_subjects - len(stricter))
    return posterior(llr, others, most, rule.prior).tolist()


def _ranked(rank: int, candidate: Candidate, decision: Decision, probability: float | None) -> Ranked:
    return Ranked(
        rank,
        candidate.subject,
        candidate.path,
        decision.similarity,
        decision.match,
        None if probability is None else agreeing(probability, decision.match),
    )


def flatten(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one flat row a candidate; an unknown face's first row says so and has no rank."""
    error = record.get("error")
    if error is not None:
        return [{"probe": record["probe"], "error": f"{error['code']}: {error['message']}"}]
    where = {key: record.get(key) for key in ("probe", "face", "quality", "threshold")}
    rows = [{**where, **candidate} for candidate in record["candidates"]]
    if not record["match"]:
        nobody = record.get("nobody")
        rows.insert(0, {**where, "rank": None, "subject": "unknown", "match": False, "probability": nobody})
    return rows
