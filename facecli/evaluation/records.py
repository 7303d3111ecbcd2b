"""An evaluation as records, one a figure, and as the tables of a terminal. The signature is always the last.

Every record has a `kind`: figure, cmc, group, pair, person, difference, failure, warning, signature; in a saved
result also curve and errors (see `compare`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from facecli.errors import printable
from facecli.evaluation.compare import error_records, finite
from facecli.evaluation.evaluation import Evaluation
from facecli.evaluation.figures import IDENTIFICATION, VERIFICATION, Figure
from facecli.evaluation.groups import GroupRates

Record = dict[str, Any]

COLUMNS = ["kind", "task", "name", "at", "group", "subject", "left", "right", "value", "low", "high"]
COLUMNS += ["binomial_low", "binomial_high", "errors", "trials", "threshold", "without_failures", "ratio"]
COLUMNS += ["other", "difference", "better", "only_this", "only_other", "p_value"]
COLUMNS += ["false_matches", "n_nonmated", "misses", "n_mated", "people", "samples"]
COLUMNS += ["embedder_id", "data_digest", "seed", "message"]
"""The columns of csv and tsv: all that any record has, but for lists."""

TABLES = {
    "figure": ["task", "figure", "at", "value", "95 %", "errors", "of", "threshold", "without failures"],
    "difference": ["task", "figure", "at", "this", "other", "difference", "95 %", "better", "McNemar p"],
    "group": ["group", "people", "figure", "value", "95 %", "errors", "of", "ratio"],
    "pair": ["error", "similarity", "left", "right"],
    "person": ["subject", "false matches", "non-mated", "misses", "mated"],
    "failure": ["file", "why"],
    "signature": ["key", "value"],
}
TITLES = {
    "figure": "Figures",
    "difference": "This system and the other",
    "group": "Groups",
    "pair": "Worst pairs",
    "person": "People with most errors",
    "failure": "Failures, counted in",
    "signature": "",
}
CURVE_POINTS = 200
SHOWN = 5
"""Rows of the worst pairs of a kind, people and failures that a terminal gets; the other formats have them all."""


def records(evaluation: Evaluation, *, saved: bool = False) -> Iterator[Record]:
    """Yield the records of an evaluation; with `saved` those too that let the result be compared and drawn."""
    for figure in evaluation.figures:
        yield {"kind": "figure", **figure_record(figure)}
    search = evaluation.identification
    if search is not None and search.cmc is not None:
        yield {"kind": "cmc", "task": IDENTIFICATION, "values": [round(v, 6) for v in search.cmc.tolist()]}
    for row in evaluation.groups:
        yield from _group_records(row)
    for pair in evaluation.pairs:
        yield {
            "kind": "pair",
            "name": pair.kind,
            "left": printable(pair.left),
            "right": printable(pair.right),
            "left_subject": pair.left_subject,
            "right_subject": pair.right_subject,
            "value": round(pair.similarity, 6),
            "error": pair.error,
        }
    for person in evaluation.people:
        yield {"kind": "person", **asdict(person)}
    for d in evaluation.differences:
        low, high = d.interval if d.interval is not None else (None, None)
        yield {
            "kind": "difference",
            "task": d.task,
            "name": d.name,
            "at": d.at,
            "value": d.this,
            "other": d.other,
            "difference": d.difference,
            "low": low,
            "high": high,
            "better": d.better,
            "only_this": d.only_this,
            "only_other": d.only_other,
            "p_value": d.p_value,
            "other_id": evaluation.other_id,
        }
    for failure in evaluation.data.failures:
        yield {
            "kind": "failure",
            "left": failure.path,
            "error": {"code": failure.code, "message": failure.message},
        }
    for wrong in evaluation.data.errors:
        yield {"kind": "failure", "left": wrong.path, "error": wrong.record()}
    for warning in evaluation.warnings:
        yield {"kind": "warning", "message": warning}
    if saved:
        yield from _curve_records(evaluation)
        yield from error_records(evaluation.headlines)
    yield {"kind": "signature", **asdict(evaluation.signature)}


def flat(record: Record) -> list[Record]:
    """Return the row of csv that a record is; lists have none."""
    if record["kind"] in ("cmc", "curve", "errors"):
        return []
    row = dict(record)
    if record["kind"] == "failure":
        row["message"] = f"{record['error']['code']}: {record['error']['message']}"
    if record["kind"] == "pair":
        row["at"] = "error" if record["error"] else ""
    if record["kind"] == "person":
        row["value"] = None
    if record["kind"] == "signature":
        row["message"] = record["protocol"]
    return [row]


def tables(evaluation: Evaluation, *, most: int = SHOWN) -> Iterator[tuple[str, list[str], list[Record]]]:
    """Yield (title, columns, rows) of each table, `most` rows of the long ones; a title says what is left out."""
    by_kind: dict[str, list[Record]] = {}
    for record in records(evaluation):
        by_kind.setdefault(record["kind"], []).append(record)
    for kind, columns in TABLES.items():
        rows = by_kind.get(kind, [])
        if kind == "pair":
            rows = [r for name in ("false match", "false non-match") for r in _first(rows, name, most)]
        if not rows:
            continue
        title = TITLES[kind]
        if kind in ("person", "failure") and len(rows) > most:
            title += f" ({most} of {len(rows):,})"
            rows = rows[:most]
        if kind == "group":
            title = f"Groups by {evaluation.group_by}"
        elif kind == "difference":
            title = f"This system and {evaluation.other_id}"
        shown = [row for record in rows for row in _shown(kind, record)]
        yield title, columns, shown


def figure_name(name: str) -> str:
    """Return the name of a figure as people write it.

    >>> figure_name("fnmr"), figure_name("accuracy")
    ('FNMR', 'accuracy')
    """
    return name if name in ("accuracy", "rank") else name.upper()


def percent(rate: float | None) -> str:
    """Return a rate as people read it.

    >>> percent(0.0432), percent(0.000123), percent(0.0), percent(None)
    ('4.32 %', '0.0123 %', '0 %', '')
    """
    return "" if rate is None else f"{100 * rate:.3g} %" if rate < 0.995 else f"{100 * rate:.4g} %"


def bounds(low: float | None, high: float | None) -> str:
    """Return an interval as people read it.

    >>> bounds(0.0, 0.066)
    '0 to 6.6 %'
    """
    return "" if low is None or high is None else f"{percent(low)[:-2]} to {percent(high)}"


def shown_value(name: str, value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """Return (value, interval) of a figure as people read them: rates in percent, the area as it is."""
    if name != "auc":
        return percent(value), bounds(low, high)
    interval = "" if low is None or high is None else f"{low:.5f} to {high:.5f}"
    return "" if value is None else f"{value:.5f}", interval


def place(at: str) -> str:
    """Return what a figure is at, as people write it.

    >>> place("fmr 0.001"), place("threshold")
    ('FMR 0.001', 'threshold')
    """
    return at.replace("fmr", "FMR").replace("fpir", "FPIR")


def figure_record(figure: Figure) -> Record:
    """Return the flat record of a figure."""
    low, high = figure.interval if figure.interval is not None else (None, None)
    binomial_low, binomial_high = figure.binomial if figure.binomial is not None else (None, None)
    return {
        "task": figure.task,
        "name": figure.name,
        "at": figure.at,
        "value": figure.value,
        "low": low,
        "high": high,
        "binomial_low": binomial_low,
        "binomial_high": binomial_high,
        "errors": figure.errors,
        "trials": figure.trials,
        "threshold": finite(figure.threshold),
        "without_failures": figure.without_failures,
        "standard_error": figure.standard_error,
    }


def _group_records(row: GroupRates) -> Iterator[Record]:
    for figure, ratio in ((row.fmr, row.fmr_ratio), (row.fnmr, row.fnmr_ratio)):
        if figure is not None:
            yield {
                "kind": "group",
                "group": row.group,
                "people": row.people,
                **figure_record(figure),
                "ratio": ratio,
            }


def _curve_records(evaluation: Evaluation) -> Iterator[Record]:
    curves = []
    if evaluation.verification is not None:
        curves.append((VERIFICATION, evaluation.verification.curve))
    if evaluation.identification is not None and evaluation.identification.curve is not None:
        curves.append((IDENTIFICATION, evaluation.identification.curve))
    for task, curve in curves:
        if curve.thresholds.size < 2:
            continue
        # The first threshold is -inf, where everything matches.
        picked = np.unique(np.linspace(1, curve.thresholds.size - 1, CURVE_POINTS).astype(int))
        yield {
            "kind": "curve",
            "task": task,
            "thresholds": curve.thresholds[picked].tolist(),
            "fmr" if task == VERIFICATION else "fpir": curve.fmr[picked].tolist(),
            "fnmr" if task == VERIFICATION else "fnir": curve.fnmr[picked].tolist(),
        }


def _first(rows: list[Record], name: str, most: int) -> list[Record]:
    return [row for row in rows if row["name"] == name][:most]


def _shown(kind: str, r: Record) -> list[Record]:
    if kind == "figure":
        value, interval = shown_value(r["name"], r["value"], r["low"], r["high"])
        clean, _ = shown_value(r["name"], r["without_failures"], None, None)
        return [
            {
                "task": r["task"],
                "figure": figure_name(r["name"]),
                "at": place(r["at"]),
                "value": value,
                "95 %": interval,
                "errors": r["errors"],
                "of": r["trials"],
                "threshold": r["threshold"],
                "without failures": "" if r["without_failures"] == r["value"] else clean,
            }
        ]
    if kind == "group":
        return [
            {
                "group": r["group"],
                "people": r["people"],
                "figure": figure_name(r["name"]),
                "value": percent(r["value"]),
                "95 %": bounds(r["low"], r["high"]),
                "errors": r["errors"],
                "of": r["trials"],
                "ratio": None if r["ratio"] is None else round(r["ratio"], 2),
            }
        ]
    if kind == "difference":
        return [
            {
                "task": r["task"],
                "figure": figure_name(r["name"]),
                "at": place(r["at"]),
                "this": percent(r["value"]),
                "other": percent(r["other"]),
                "difference": f"{100 * r['difference']:+.2g} points",
                "95 %": "" if r["low"] is None else f"{100 * r['low']:+.2g} to {100 * r['high']:+.2g}",
                "better": "" if r["better"] is None else percent(r["better"]),
                "McNemar p": "" if r["p_value"] is None else f"{r['p_value']:.2g}",
            }
        ]
    if kind == "pair":
        return [
            {
                "error": r["name"] if r["error"] else f"({r['name']})",
                "similarity": r["value"],
                "left": r["left"],
                "right": r["right"],
            }
        ]
    if kind == "person":
        return [
            {
                "subject": r["subject"],
                "false matches": r["false_matches"],
                "non-mated": r["n_nonmated"],
                "misses": r["misses"],
                "mated": r["n_mated"],
            }
        ]
    if kind == "failure":
        return [{"file": r["left"], "why": f"{r['error']['code']}: {r['error']['message']}"}]
    return [{"key": key.replace("_", " "), "value": value} for key, value in r.items() if key != "kind"]
