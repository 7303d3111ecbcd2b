"""What `calibrate` says about a calibration: records of its operating points, and the rest in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facecli.calibration.calibration import IN_SAMPLE, Calibration, Provenance
from facecli.config import DEFAULT_FMR
from facecli.stats.intervals import smallest_supported, trials_needed

COLUMNS = [
    "name",
    "target_fmr",
    "threshold",
    "fmr",
    "fmr_low",
    "fmr_high",
    "chosen_fmr",
    "fnmr",
    "fnmr_low",
    "fnmr_high",
    "chosen_fnmr",
    "probability",
    "n_nonmated",
    "n_mated",
    "people",
    "basis",
]

TABLE = ["name", "target_fmr", "threshold", "fmr", "fmr_95_%", "chosen_fmr"]
TABLE += ["fnmr", "fnmr_95_%", "chosen_fnmr", "probability"]
"""The columns for a terminal; counts and basis are the same in every row and said once beside it."""


def flatten(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the flat row of a record: bounds in columns of their own, for a terminal in one."""
    row = dict(record)
    for rate in ("fmr", "fnmr"):
        low, high = row[f"{rate}_low"], row[f"{rate}_high"] = record[f"{rate}_interval"]
        row[f"{rate}_95_%"] = f"{low:.2g} to {high:.2g}"
    return [row]


def explanation(made: Calibration) -> list[str]:
    """Return where the numbers come from and how good the map to probabilities is, in a few sentences."""
    quality, method = made.quality, made.score_map.method
    lines = [f"thresholds chosen on {_data(made.chosen_on)}"]
    if made.reported_on is not None:
        lines.append(f"rates reported on {_data(made.reported_on)}")
    else:
        lines.append(f"rates are {made.basis}")
    held_out = ", ".join(f"{name} {cost:.4f}" for name, cost in quality.held_out_cllr.items())
    lines.append(
        f"probability: {method} map, Cllr {quality.cllr:.4f} bits (min {quality.min_cllr:.4f}),"
        f" AUC {quality.auc:.5f}{f'; held-out Cllr: {held_out}' if held_out else ''}"
    )
    apart = made.reported_on is not None or quality.held_out_cllr
    where = "people it was not fitted on" if apart else "its own data, which flatters it"
    lines.append(f"reliability on {where}, at even prior (said, observed, mated + non-mated comparisons):")
    lines += [
        f"  {b.low:.1f} to {b.high:.1f}  {b.predicted:8.4f} {b.observed:8.4f}  {b.n_mated:,} + {b.n_nonmated:,}"
        for b in quality.reliability
    ]
    return lines


WRONG_WAY_ROUND = (
    "different people score higher than the same one, so the scores tell nobody apart: are they distances?"
    " A similarity is higher for what is more alike, so give them with the sign turned"
)


def doubts(made: Calibration) -> list[str]:
    """Return what a user of the calibration must know, each in a sentence."""
    found = []
    if made.basis == IN_SAMPLE:
        why = (
            "nobody knows who is who (add the columns left_subject and right_subject)"
            if made.chosen_on.n_people == 0
            else f"there are {made.chosen_on.n_people} people, and cross-fitting takes nine"
        )
        found.append(f"the rates are those of the very comparisons the thresholds were chosen on: {why}")
    if made.quality.auc < 0.5:
        found.append(WRONG_WAY_ROUND)
    have = made.chosen.n_nonmated
    if trials_needed(DEFAULT_FMR) > have:
        found.append(
            f"{have:,} non-mated comparisons cannot support the default FMR of {DEFAULT_FMR:g}"
            f" ({trials_needed(DEFAULT_FMR):,} can): with this calibration verify and find need an FMR"
            f" of {smallest_supported(have):g} or more"
        )
    return found


def in_words(calibration: Calibration) -> str:
    """Return a calibration in a phrase: its data, and its threshold at the default FMR where it has one."""
    where = calibration.chosen_on.description
    if trials_needed(DEFAULT_FMR) > calibration.chosen.n_nonmated:
        return where
    return f"{where}: threshold {calibration.threshold_for(DEFAULT_FMR).threshold:g} for FMR {DEFAULT_FMR:g}"


def replaced(before: Calibration | None, was_there: bool, path: Path) -> str:
    """Return where a calibration was installed and what it takes the place of."""
    if before is not None:
        what = f"{'the one installed before' if was_there else 'the one that came with facecli'} ({in_words(before)})"
    else:
        what = "one that could not be read" if was_there else "none"
    return f"installed as {path}, in place of {what}"


def _data(p: Provenance) -> str:
    failed = f", {p.n_failed:,} of them failed" if p.n_failed else ""
    people = f"{p.n_people:,} people" if p.n_people else "nobody knows how many people"
    images = f", {p.n_images:,} images" if p.n_images else ""
    return f"{p.description}: {p.n_mated:,} mated and {p.n_nonmated:,} non-mated comparisons{failed}; {people}{images}"
