"""Two systems on the same data: which errs less, by how much, how sure.

The same people are drawn for both, so what is hard for both cancels out; McNemar's test looks at the comparisons
on which only one of them errs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from facecli.errors import BadInput
from facecli.evaluation.figures import (
    IDENTIFICATION,
    VERIFICATION,
    Figure,
    Headline,
    Resampling,
    difference_replicates,
    signed,
)
from facecli.files import json_text
from facecli.files.tables import read_bytes
from facecli.stats.bootstrap import percentile_interval, share_below
from facecli.stats.intervals import Interval, mcnemar, rule_of_three

ENDINGS = (".jsonl", ".ndjson")
"""Of saved results."""

SAVE_ONE = "give the saved records of a whole evaluation"


@dataclass(frozen=True, eq=False)
class System:
    """What a comparison needs of a system: its headlines, and the digest of the data they were found on."""

    embedder_id: str
    data_digest: str
    headlines: tuple[Headline, ...]


@dataclass(frozen=True)
class Difference:
    """A figure of this system, of the other, and this less other with its interval (None where people are unknown).

    `better` is the share of replicates in which this system errs less: 0.5 is a toss-up. `only_this` and
    `only_other` count the comparisons that only one of them gets wrong; `p_value` is McNemar's for them.
    """

    task: str
    name: str
    at: str
    this: float
    other: float
    difference: float
    interval: Interval | None
    better: float | None
    only_this: int
    only_other: int
    p_value: float | None


def compare(this: System, other: System, resampling: dict[str, Resampling | None]) -> tuple[Difference, ...]:
    """Return the difference of each headline that both systems have; `resampling` is by task.

    Raises `BadInput` when the data are not the same, or nothing can be compared.
    """
    if this.data_digest != other.data_digest:
        raise BadInput(
            "the other result is of other data, so the two cannot be compared pair by pair",
            path=other.embedder_id,
            hint="evaluate both on the same pairs or people, in the same order",
        )
    theirs = {_key(h): h for h in other.headlines}
    differences = [
        _difference(mine, theirs[_key(mine)], resampling.get(mine.figure.task))
        for mine in this.headlines
        if _key(mine) in theirs
    ]
    if not differences:
        raise BadInput("the two results have no figure in common", path=other.embedder_id)
    return tuple(differences)


def error_records(headlines: Iterable[Headline]) -> list[dict[str, Any]]:
    """Return the records that let a saved result be compared: which comparisons each figure has wrong."""
    return [
        {
            "kind": "errors",
            "task": h.figure.task,
            "name": h.figure.name,
            "at": h.figure.at,
            "value": h.figure.value,
            "errors": h.figure.errors,
            "trials": h.figure.trials,
            "threshold": finite(h.figure.threshold),
            "weights": list(h.weights),
            "sign": h.sign,
            "gain": h.gain,
            "false": h.false.tolist(),
            "missed": h.missed.tolist(),
        }
        for h in headlines
    ]


def read_result(path: str | Path) -> System:
    """Return the system of a result that `facecli eval -o result.jsonl` saved.

    Raises `NoSuchFile`, and `BadInput` for a file that is not one or is cut off.
    """
    headlines = []
    signature: dict[str, Any] | None = None
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        record = json_text.parse(line, path, line=number, hint=SAVE_ONE, advice="save_result")
        try:
            kind = record["kind"]
            if kind == "errors":
                headlines.append(_headline(record))
            elif kind == "signature":
                signature = {key: str(record[key]) for key in ("embedder_id", "data_digest")}
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise BadInput(
                f"line {number}: is no record of a result ({error})",
                path=path,
                hint=SAVE_ONE,
                advice="save_result",
            ) from error
    if signature is None or not headlines:
        raise BadInput(
            "is not a whole result: it has no signature, or not the errors behind its figures",
            path=path,
            hint=SAVE_ONE,
            advice="save_result",
        )
    return System(signature["embedder_id"], signature["data_digest"], tuple(headlines))


def finite(value: float | None) -> float | None:
    """Return `value`, or None for an infinite threshold, which JSON cannot write."""
    return value if value is not None and np.isfinite(value) else None


def _key(headline: Headline) -> tuple[str, str, str]:
    return headline.figure.task, headline.figure.name, headline.figure.at


def _difference(mine: Headline, theirs: Headline, resampling: Resampling | None) -> Difference:
    _, counts = signed(mine.wrong, theirs.wrong)
    only_this, only_other = int(np.count_nonzero(counts > 0)), int(np.count_nonzero(counts < 0))
    interval = better = None
    if resampling is not None:
        drawn = difference_replicates(mine, theirs, resampling)
        low, high = percentile_interval(mine.sign * drawn)
        if counts.size == 0 and mine.figure.trials:
            # No disagreement says nothing to a bootstrap; so many comparisons rule out this much.
            bound = rule_of_three(mine.figure.trials)
            low, high = min(low, -bound), max(high, bound)
        interval, better = (low, high), share_below(drawn)
    pure = mine.weights == theirs.weights
    return Difference(
        task=mine.figure.task,
        name=mine.figure.name,
        at=mine.figure.at,
        this=mine.figure.value,
        other=theirs.figure.value,
        difference=mine.figure.value - theirs.figure.value,
        interval=interval,
        better=better,
        only_this=only_this,
        only_other=only_other,
        # At the EER the two kinds of error weigh differently for each system, which a count cannot express.
        p_value=mcnemar(only_this, only_other) if pure else None,
    )


def _headline(record: dict[str, Any]) -> Headline:
    if record["task"] not in (VERIFICATION, IDENTIFICATION):
        raise ValueError(f"task {record['task']!r}")
    shown = {f.name for f in fields(Figure)}
    figure = Figure(**{key: value for key, value in record.items() if key in shown})
    weights: Sequence[float] = record["weights"]
    return Headline(
        figure=figure,
        false=np.array(record["false"], dtype=np.int64),
        missed=np.array(record["missed"], dtype=np.int64),
        weights=(float(weights[0]), float(weights[1])),
        sign=int(record["sign"]),
        gain=float(record["gain"]),
    )
