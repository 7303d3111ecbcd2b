"""Who is this: every probe face ranked against the people of a gallery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from facecli.calibration.decision import Rule
from facecli.gallery.searchable import Searchable
from facecli.recognition.false_alarms import FalseAlarms
from facecli.templates.reading import FailedProbe, Probe

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


def identify(
    gallery: Searchable,
    rule: Rule,
    probes: Iterable[Probe | FailedProbe],
    *,
    top: int,
    alarms: FalseAlarms | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one record a probe, in order: the `top` most similar subjects, and who it is, None for nobody.

    `expected_false_alarms` is how many samples of the gallery a stranger matches on average at the threshold:
    FMR x samples. `alarms` goes into each record as `fpir`.
    """
    samples = gallery.n_samples
    strangers = None if rule.point is None else rule.point.fmr * samples
    source = iter(probes)
    while batch := list(islice(source, _PROBES_AT_ONCE)):
        faces = [probe for probe in batch if isinstance(probe, Probe)]
        found = iter(gallery.search(np.stack([probe.embedding for probe in faces]), top) if faces else [])
        for probe in batch:
            if isinstance(probe, FailedProbe):
                yield {"probe": probe.path, "error": probe.error}
                continue
            candidates = [
                {"rank": c.rank, "subject": c.subject, "sample": c.path, **_decided(rule, c.similarity)}
                for c in next(found)
            ]
            best = candidates[0] if candidates else None
            known = best is not None and best["match"]
            yield {
                "probe": probe.path,
                **probe.place,
                "subject": best["subject"] if best is not None and known else None,
                "match": known,
                "similarity": None if best is None else best["similarity"],
                "threshold": rule.threshold,
                **rule.rates(),
                "expected_false_alarms": None if strangers is None else round(strangers, 6),
                "fpir": None if alarms is None else alarms.record(),
                "candidates": candidates,
                "gallery": {"subjects": gallery.n_subjects, "samples": samples},
                "embedder_id": gallery.embedder_id,
            }


def _decided(rule: Rule, similarity: float) -> dict[str, Any]:
    judged = rule.judge(similarity)
    return {key: judged[key] for key in ("similarity", "match", "probability")}


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
