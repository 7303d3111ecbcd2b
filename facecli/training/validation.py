"""Verification of held-out subjects while a network is trained: the figures that a falling loss does not show.

All comparisons among the validation images count. Intervals (95 %) resample people; those of the EER and of TAR
hold the threshold where it was found, which costs a thousandth of choosing it anew in every replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Floats
from facecli.errors import BadInput
from facecli.stats.bootstrap import (
    IdentityBootstrap,
    MatedDesign,
    NonmatedDesign,
    percentile_interval,
    rate_interval,
)
from facecli.stats.comparisons import Comparisons
from facecli.stats.cross import cross_comparisons
from facecli.stats.intervals import trials_needed
from facecli.stats.retrieval import retrieval

FMRS = (1e-2, 1e-3, 1e-4)
REPLICATES = 500
ERRORS_TO_CHOOSE = 30
"""False matches that must be expected at an FMR before epochs are ranked by it (Doddington's rule of 30)."""

Templates = NDArray[np.float32]


@dataclass(frozen=True)
class Measure:
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verification:
    """How well templates tell held-out subjects apart.

    `tar` maps each FMR to the true accept rate 1 - FNMR there, None where the non-mated comparisons are too few
    to speak of that FMR. `rank1` and `map_at_r` search each image among all others (see `retrieval`).
    """

    people: int
    images: int
    n_mated: int
    n_nonmated: int
    eer: Measure
    tar: dict[float, Measure | None]
    rank1: Measure
    map_at_r: Measure

    @property
    def headline(self) -> str:
        """Return the figure that epochs are ranked by: TAR at the lowest FMR with enough errors, else the EER."""
        return _key(ranking_fmr(self.n_nonmated))

    def rank(self) -> tuple[float, float]:
        """Return what to compare: a better network's is greater."""
        fmr = ranking_fmr(self.n_nonmated)
        tar = self.tar[fmr] if fmr is not None else None
        return (tar.value if tar is not None else 0.0, -self.eer.value)

    def record(self) -> dict[str, Any]:
        """Return the JSON form: each figure, and its bounds under `NAME_interval`."""
        figures: dict[str, Measure | None] = {"eer": self.eer}
        figures |= {_key(fmr): measure for fmr, measure in self.tar.items()}
        figures |= {"rank1": self.rank1, "map_at_r": self.map_at_r}
        record: dict[str, Any] = {}
        for name, measure in figures.items():
            record[name] = None if measure is None else measure.value
            record[f"{name}_interval"] = None if measure is None else [measure.low, measure.high]
        return record


def verification(templates: Templates, subjects: Sequence[str], *, seed: int = 0) -> Verification:
    """Return the figures of `templates` float32 [N, D], unit rows, of `subjects` [N].

    A row of zeros is similar to nothing. Raises `BadInput` without mated or non-mated comparisons.
    """
    comparisons = cross_comparisons(templates, subjects)
    left, right = comparisons.known()
    curve = comparisons.curve()
    bootstrap = IdentityBootstrap(comparisons.people, replicates=REPLICATES, seed=seed)
    images = np.bincount(np.unique(np.asarray(subjects), return_inverse=True)[1])
    nonmated = NonmatedDesign.cross(bootstrap, images)
    mated = MatedDesign(bootstrap, left[comparisons.mated])
    equal = curve.eer()
    false, missed = _errors(comparisons, equal.threshold)
    spread = (nonmated.replicates(left[false], right[false]) + mated.replicates(left[missed])) / 2
    low, high = percentile_interval(spread)
    tar: dict[float, Measure | None] = {}
    for fmr in FMRS:
        if trials_needed(fmr) > curve.n_nonmated:
            tar[fmr] = None
            continue
        _, missed = _errors(comparisons, curve.threshold_for_fmr(fmr))
        n = int(np.count_nonzero(missed))
        bounds = rate_interval(mated.replicates(left[missed]), n, curve.n_mated)
        tar[fmr] = Measure(1 - n / curve.n_mated, 1 - bounds[1], 1 - bounds[0])
    searches = retrieval(templates, subjects)
    return Verification(
        people=comparisons.people,
        images=len(templates),
        n_mated=curve.n_mated,
        n_nonmated=curve.n_nonmated,
        eer=Measure(equal.rate, min(low, equal.rate), max(high, equal.rate)),
        tar=tar,
        rank1=_mean_measure(bootstrap, searches.precision_at_1, searches.subject),
        map_at_r=_mean_measure(bootstrap, searches.map_at_r, searches.subject),
    )


def tar_gain(
    first: Templates, second: Templates, subjects: Sequence[str], fmr: float, *, seed: int = 0
) -> Measure:
    """Return TAR of `second` less TAR of `first` at `fmr` on the same images, each at its own threshold.

    The bounds resample people, the same ones for both (paired bootstrap). Raises `BadInput` where the non-mated
    comparisons cannot support `fmr`.
    """
    both = [cross_comparisons(templates, subjects) for templates in (first, second)]
    n_nonmated = int(np.count_nonzero(~both[0].mated))
    if trials_needed(fmr) > n_nonmated:
        raise BadInput(f"{n_nonmated} non-mated comparisons cannot speak of an FMR of {fmr:g}")
    bootstrap = IdentityBootstrap(both[0].people, replicates=2 * REPLICATES, seed=seed)
    left, _ = both[0].known()
    design = MatedDesign(bootstrap, left[both[0].mated])
    missed = [_errors(c, c.curve().threshold_for_fmr(fmr))[1].astype(np.float64) for c in both]
    fewer = (missed[0] - missed[1])[both[0].mated]
    low, high = percentile_interval(design.replicates(left[both[0].mated], fewer))
    return Measure(float(fewer.mean()), low, high)


def ranking_fmr(n_nonmated: int) -> float | None:
    """Return the FMR whose TAR ranks epochs, None where only the EER can."""
    enough = [fmr for fmr in (1e-2, 1e-3) if n_nonmated * fmr >= ERRORS_TO_CHOOSE]
    return min(enough) if enough else None


def _key(fmr: float | None) -> str:
    return "eer" if fmr is None else f"tar_at_fmr_{fmr:.0e}".replace("e-0", "e-")


def _errors(comparisons: Comparisons, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool [P] masks of the false matches and the misses."""
    match = comparisons.similarity.astype(np.float64) >= threshold
    return match & ~comparisons.mated, ~match & comparisons.mated


def _mean_measure(bootstrap: IdentityBootstrap, values: Floats, person: NDArray[np.int64]) -> Measure:
    """Return the mean of the queries' values; a person is drawn with all their queries."""
    total = bootstrap.person_sums(person)
    sums = bootstrap.person_sums(person, values)
    mean = float(values.mean())
    drawn = np.divide(sums, total, out=np.full(len(sums), mean), where=total > 0)
    low, high = percentile_interval(drawn)
    return Measure(mean, min(low, mean), max(high, mean))
