"""Labelled comparisons with where they come from and what is doubtful about them, for calibration and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
    embed_pairs,
    subjects_where_known,
    templates_of_pairs,
    wrong_input,
)
from facecli.trials.score_table import ScoreTable
from facecli.trials.scored import ListedScores, Scored, cross_of, listed_scores

SHOWN = 5
"""Remarks of one kind that are written out."""
NO_SAMPLES = Samples((), (), (), np.empty((0, 0), np.float32))


@dataclass(frozen=True, eq=False)
class LabelledComparisons:
    """Comparisons with their labels, and what a person should know of them before they are believed.

    `samples` are what was compared, none where another tool made the scores; they lie in `root`, None where there
    are no photos. `pairs` lists the comparisons, None where each sample is compared with every other. `errors` are
    rows that were left out; `remarks` are doubts in whole sentences; `description` says what the data are.
    """

    scored: Scored
    samples: Samples = NO_SAMPLES
    pairs: PairSet | None = None
    root: Path | None = None
    errors: tuple[BadInput, ...] = ()
    remarks: tuple[str, ...] = ()
    description: str = ""

    @property
    def comparisons(self) -> Comparisons:
        """The comparisons in memory."""
        return self.scored.comparisons

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Samples that could not be embedded, whose comparisons count as failed."""
        return self.samples.failures

    @property
    def wrong_input(self) -> bool:
        """Whether something asked for was not there, rather than without a usable face."""
        return wrong_input(self.errors, self.failures)

    @cached_property
    def provenance(self) -> Provenance:
        """Where the comparisons come from; an image that was not read leaves no mark."""
        samples = self.samples
        read_here = [k for k, content in enumerate(samples.digests) if content]
        of_images_read = describe(
            self.comparisons,
            self.description,
            image_digests=[samples.digests[k] for k in read_here],
            subjects=[samples.subjects[k] for k in read_here],
        )
        # A mark of "nobody knows" would be found again everywhere.
        subject_marks = of_images_read.subject_marks if samples.people else ()
        return replace(of_images_read, n_images=len(samples), subject_marks=subject_marks)


def of_pairs(
    embedder: PhotoEmbedder,
    pairs: PairSet,
    *,
    every: bool = False,
    templates: Path | None = None,
    description: str = "",
    progress: Progress | None = None,
) -> LabelledComparisons:
    """Return the comparisons that `pairs` lists or, with `every`, all those of its images with one another.

    With `templates`, a file of `facecli embed`, no photo is read. Raises `BadInput` for what is wrong with the list
    (see `check_pairs`), and what `templates_of_pairs` raises.
    """
    if templates is None:
        samples = embed_pairs(embedder, pairs, progress=progress)
    else:
        samples = templates_of_pairs(pairs, templates, embedder_id=embedder.id, dim=embedder.dim)
    return of_samples(
        samples, None if every else pairs, root=pairs.root, errors=pairs.errors, description=description
    )


def of_database(
    samples: Samples,
    root: Path | None,
    *,
    nonmated: int | None = None,
    seed: int = 0,
    description: str = "",
) -> LabelledComparisons:
    """Return all comparisons of the samples of a database or, of the non-mated ones, `nonmated` at random."""
    pairs = None
    if nonmated is not None:
        people = list(zip(samples.subjects, samples.paths, strict=True))
        pairs = from_people(people, root=root if root is not None else Path(), nonmated=nonmated, seed=seed)
    return of_samples(samples, pairs, root=root, description=description)


def of_scores(table: ScoreTable, description: str = "") -> LabelledComparisons:
    """Return comparisons that another tool made, whose samples are the lines of its table."""
    rows = np.arange(len(table.comparisons))
    labels = tuple(f"line {line}" for line in table.lines)
    scored = ListedScores(table.comparisons, rows, rows, labels, table.people)
    return LabelledComparisons(scored, errors=table.errors, description=description)


def of_samples(
    samples: Samples,
    pairs: PairSet | None = None,
    *,
    root: Path | None = None,
    errors: tuple[BadInput, ...] = (),
    description: str = "",
) -> LabelledComparisons:
    """Return the comparisons of samples that `pairs` lists, without it of each with every other."""
    repeated = [] if pairs is None else pairs.duplicates()
    remarks = identical(samples) + _some(
        [f"line {line} lists the pair of line {first} again" for line, first in repeated], "both are counted"
    )
    return LabelledComparisons(
        scored=_scored(samples, pairs),
        samples=samples,
        pairs=pairs,
        root=root,
        errors=errors,
        remarks=tuple(remarks),
        description=description,
    )


def check_pairs(pairs: PairSet, targets: Sequence[float], source: str, *, every: bool) -> None:
    """Raise what is wrong with a list before its images are embedded; see `check_targets`."""
    subjects = subjects_where_known(pairs)
    names = tuple(images(pairs))
    blank = Samples(
        paths=names,
        subjects=tuple(subjects[name] for name in names),
        digests=("",) * len(names),
        templates=np.zeros((len(names), 1), np.float32),
    )
    check_targets(_scored(blank, None if every else pairs), targets, source)


def check_targets(scored: Scored, targets: Sequence[float], source: str) -> None:
    """Raise unless both kinds of comparisons are there, and enough for each FMR of `targets`.

    `BadInput` for a kind that is missing, `NoCalibration` with the number of non-mated comparisons that the
    strictest target takes (rule of three). `source` is what errors name.
    """
    n_mated, n_nonmated = scored.n_mated, scored.n_nonmated
    for n, kind, other in ((n_mated, "mated", "non-mated"), (n_nonmated, "non-mated", "mated")):
        if n == 0:
            raise BadInput(
                f"has {n_mated + n_nonmated:,} {other} comparisons and no {kind} one",
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


def overlap(chosen_on: Provenance, reported_on: Provenance) -> str:
    """Return what to say of images, by content, and people, by name, in both sets of data; "" without any."""
    images = len(set(chosen_on.image_marks) & set(reported_on.image_marks))
    people = len(set(chosen_on.subject_marks) & set(reported_on.subject_marks))
    if not images and not people:
        return ""
    return (
        f"{images:,} images and {people:,} people are both in the data that thresholds were chosen on and in"
        " those that rates are reported on, which flatters the rates."
    )


def _scored(samples: Samples, pairs: PairSet | None) -> Scored:
    return cross_of(samples) if pairs is None else listed_scores(samples, pairs)


def _some(sentences: list[str], moral: str) -> list[str]:
    """Return the first few sentences, the last with the moral and how many more there are."""
    shown = sentences[:SHOWN]
    if shown:
        more = f" ({len(sentences) - SHOWN:,} more like this)" if len(sentences) > SHOWN else ""
        shown[-1] += f"{more}: {moral}"
    return shown
