"""The evidence for a calibration: comparisons with where they come from, and what is doubtful about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecli.calibration.calibration import Provenance
from facecli.calibration.fit import describe
from facecli.errors import BadInput, NoCalibration, printable
from facecli.hooks import Progress
from facecli.stats.comparisons import Comparisons
from facecli.stats.intervals import smallest_supported, trials_needed
from facecli.templates.template import Failure
from facecli.trials.pairs import PairSet, from_people, images
from facecli.trials.samples import (
    PhotoEmbedder,
    Samples,
    cross,
    embed_pairs,
    listed,
    provenance,
    subjects_where_known,
    wrong_input,
)
from facecli.trials.score_table import ScoreTable

SHOWN = 5
"""Remarks of one kind that are written out."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Comparisons, and what a person should know of them before they are believed.

    `errors` are rows that were left out; `failures` samples that could not be embedded, whose comparisons
    count as failed; `remarks` are doubts in whole sentences.
    """

    comparisons: Comparisons
    provenance: Provenance
    errors: tuple[BadInput, ...] = ()
    failures: tuple[Failure, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def wrong_input(self) -> bool:
        """Whether something asked for was not there, rather than without a usable face."""
        return wrong_input(self.errors, self.failures)


def from_pairs(
    embedder: PhotoEmbedder,
    pairs: PairSet,
    *,
    every: bool,
    description: str,
    progress: Progress | None = None,
) -> Evidence:
    """Return the comparisons that `pairs` lists or, with `every`, all those of its images with one another."""
    samples = embed_pairs(embedder, pairs, progress=progress)
    found = cross(samples) if every else listed(samples, pairs)
    remarks = identical(samples)
    if not every:
        remarks += _some(
            [f"line {line} lists the pair of line {first} again" for line, first in pairs.duplicates()],
            "both are counted",
        )
    return Evidence(
        comparisons=found,
        provenance=provenance(samples, found, description),
        errors=pairs.errors,
        failures=samples.failures,
        remarks=tuple(remarks),
    )


def from_database(
    samples: Samples, root: Path, *, nonmated: int | None, seed: int, description: str
) -> Evidence:
    """Return all comparisons of the photos of a database or, of the non-mated ones, `nonmated` at random."""
    if nonmated is None:
        found = cross(samples)
    else:
        people = list(zip(samples.subjects, samples.paths, strict=True))
        found = listed(samples, from_people(people, root=root, nonmated=nonmated, seed=seed))
    return Evidence(
        comparisons=found,
        provenance=provenance(samples, found, description),
        failures=samples.failures,
        remarks=tuple(identical(samples)),
    )


def from_scores(table: ScoreTable, description: str) -> Evidence:
    """Return comparisons that another tool made."""
    return Evidence(table.comparisons, describe(table.comparisons, description), table.errors)


def rehearsal(pairs: PairSet, *, every: bool) -> Comparisons:
    """Return the comparisons of `from_pairs` without their similarities, which are all 0.

    What is wrong with the list comes out before its images are embedded.
    """
    subjects = subjects_where_known(pairs)
    names = tuple(images(pairs))
    blank = Samples(
        paths=names,
        subjects=tuple(subjects[name] for name in names),
        digests=("",) * len(names),
        templates=np.zeros((len(names), 1), np.float32),
    )
    return cross(blank) if every else listed(blank, pairs)


def check_targets(comparisons: Comparisons, targets: Sequence[float], source: str) -> None:
    """Raise unless both kinds of comparisons are there, and enough for each FMR of `targets`.

    `BadInput` for a kind that is missing, `NoCalibration` with the number of non-mated comparisons that the
    strictest target takes (rule of three).
    """
    n_mated = int(np.count_nonzero(comparisons.mated))
    n_nonmated = len(comparisons) - n_mated
    for n, kind, other in ((n_mated, "mated", "non-mated"), (n_nonmated, "non-mated", "mated")):
        if n == 0:
            raise BadInput(
                f"has {len(comparisons):,} {other} comparisons and no {kind} one",
                path=source,
                hint="a threshold takes both: the same person twice, and different people",
            )
    lacking = sorted(target for target in targets if trials_needed(target) > n_nonmated)
    if lacking:
        names = ", ".join(f"{target:g}" for target in lacking)
        raise NoCalibration(
            f"FMR {names} cannot be calibrated: {n_nonmated:,} non-mated comparisons are there,"
            f" {trials_needed(lacking[0]):,} are needed (3 / FMR)",
            path=source,
            hint=f"these data support FMR {smallest_supported(n_nonmated):g} or more; nothing was changed",
        )


def identical(samples: Samples) -> list[str]:
    """Return what to say of images that are the same file, which makes a label wrong or a rate too good."""
    twins = samples.identical()
    subject = dict(zip(samples.paths, samples.subjects, strict=True))
    strange = [(a, b) for a, b in twins if subject[a] != subject[b]]
    alike = [(a, b) for a, b in twins if subject[a] == subject[b]]
    return _some(
        [
            f"{printable(a)} and {printable(b)} are the same file under two names of people"
            for a, b in strange
        ],
        "one label must be wrong",
    ) + _some(
        [f"{printable(a)} is the same file as {printable(b)}" for a, b in alike],
        "comparing a file with itself flatters the rates",
    )


def _some(sentences: list[str], moral: str) -> list[str]:
    """Return the first few sentences, the last with the moral and how many more there are."""
    shown = sentences[:SHOWN]
    if shown:
        more = f" ({len(sentences) - SHOWN:,} more like this)" if len(sentences) > SHOWN else ""
        shown[-1] += f"{more}: {moral}"
    return shown
