"""Scores that another system made: a csv of pairs with a similarity each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecli.errors import BadInput
from facecli.files.tables import SUBJECTS, at_line, mated_label, parse_table, read_bytes
from facecli.stats.comparisons import Comparisons

LARGEST = 1e100
"""Similarities beyond this are nobody's, and their squares are no numbers."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores read from a csv: the comparisons, the line of each, and the rows left out.

    `people` are the names behind the comparisons' numbers, () where nobody knows who is who.
    """

    comparisons: Comparisons
    lines: tuple[int, ...]
    errors: tuple[BadInput, ...]
    people: tuple[str, ...] = ()


def read_scores(path: str | Path) -> ScoreTable:
    """Read scores made by any tool: a csv of `similarity,mated` or `similarity,left_subject,right_subject`.

    With the subjects, intervals can resample people. Raises `NoSuchFile` and `BadInput`.
    """
    return parse_scores(read_bytes(path), source=str(path))


def parse_scores(data: bytes, *, source: str) -> ScoreTable:
    """Return the scores of a csv; see `read_scores`. Higher is more alike; -inf stands for a failure."""
    table = parse_table(data, source=source, required=("similarity",), known=("mated", *SUBJECTS))
    if "mated" not in table.columns and SUBJECTS[0] not in table.columns:
        raise at_line(source, 1, "no column 'mated', nor 'left_subject' and 'right_subject'")
    values: list[float] = []
    labels: list[bool] = []
    lines: list[int] = []
    names: list[tuple[str, str]] = []
    for line, row in table.rows:
        try:
            value, label = _similarity(row["similarity"], source, line), mated_label(row, source, line)
        except BadInput as error:
            table.errors.append((line, error))
            continue
        values.append(value)
        labels.append(label)
        lines.append(line)
        if SUBJECTS[0] in row:
            names.append((row["left_subject"].strip(), row["right_subject"].strip()))
    if not values:
        raise table.nothing()
    similarity = np.array(values, dtype=np.float64)
    people: tuple[str, ...] = ()
    if names:
        comparisons = Comparisons.of(similarity, [a for a, _ in names], [b for _, b in names])
        people = tuple(sorted({name for pair in names for name in pair}))
    else:
        comparisons = Comparisons(similarity, np.array(labels, dtype=bool))
    return ScoreTable(comparisons, tuple(lines), table.in_order(), people)


def _similarity(cell: str, source: str, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not (abs(value) <= LARGEST or value == -np.inf):
        raise at_line(source, line, f"'{cell}' is not a similarity", hint="-inf stands for a failure")
    return value
