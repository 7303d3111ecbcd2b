"""Intervals that resample people, not pairs: two comparisons that share a person are not independent.

Each replicate draws the S people S times with replacement; person i is drawn w_i times. A mated comparison
of i counts w_i times (a person comes with all their own pairs), a non-mated one of i and j counts w_i w_j
times: the vertex bootstrap of Snijders and Borgatti, Connections 22 (1999) 161; Owen, Annals of Applied
Statistics 1 (2007) 386 calls the two-way form the pigeonhole bootstrap.

Products of weights triple the variance that single comparisons contribute of their own (Owen, section 4),
which matters where people take part once or twice, as in lists of pairs. FMR replicates are therefore drawn
in towards the estimate until their variance is the dyadic cluster-robust one of Aronow, Samii and Assenova,
Political Analysis 23 (2015) 564: the sum over all couples of comparisons that share a person.

Everything works from error counts by couple of people, which are few.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Floats
from facecli.config import DEFAULT_REPLICATES
from facecli.errors import UsageError
from facecli.stats.intervals import LEVEL, Interval, clopper_pearson

Ints = NDArray[np.integer]


MOST_DRAWS = 200_000_000
"""Of people, over all replicates: each is a weight in float32."""


ROUNDING = 1e-9
"""Share of a rate below which a replicate of it is 0: what is left of a rate that was taken off and added again."""


class IdentityBootstrap:
    """The draws: `weights` float32 [R, S].

    The same seed draws the same people, so two systems on the same pairs compare replicate by replicate.
    """

    def __init__(self, people: int, *, replicates: int = DEFAULT_REPLICATES, seed: int = 0) -> None:
        """Draw. Raises `UsageError` for more than `MOST_DRAWS`."""
        if replicates * people > MOST_DRAWS:
            raise UsageError(
                f"{replicates} replicates of {people} people are more than memory should hold",
                hint=f"{DEFAULT_REPLICATES} are enough",
            )
        rng = np.random.default_rng(seed)
        self.people = people
        self.weights = np.empty((replicates, people), np.float32)
        for row in self.weights:
            row[:] = np.bincount(rng.integers(0, people, size=people), minlength=people)

    def person_sums(self, person: Ints, counts: NDArray | None = None) -> Floats:
        """Return [R] the sum of `counts` (1 each) weighted by w of `person`."""
        return (self.weights @ np.bincount(person, counts, self.people)).astype(np.float64)

    def pair_sums(self, left: Ints, right: Ints, counts: NDArray | None = None) -> Floats:
        """Return [R] the sum of `counts` (1 each) weighted by w of `left` times w of `right`."""
        s = self.people
        keys, totals = merge_pairs(left, right, counts, s)
        i, j = np.divmod(keys, s)
        if keys.size > s * s // 64:
            # A matrix product touches every couple once a replicate, but forty times as fast.
            matrix = np.zeros((s, s), dtype=np.float32)
            matrix[i, j] = totals
            return np.einsum("rs,rs->r", self.weights @ matrix, self.weights, dtype=np.float64)
        sums = np.empty(len(self.weights))
        step = max(1, 2_000_000 // max(1, keys.size))
        for r in range(0, len(sums), step):
            block = self.weights[r : r + step]
            sums[r : r + step] = (block[:, i] * block[:, j]) @ totals
        return sums


class NonmatedDesign:
    """The denominators of FMR: who was compared with whom, and how often."""

    def __init__(self, bootstrap: IdentityBootstrap) -> None:
        self.bootstrap = bootstrap
        self._totals: Floats
        self._by_person: Floats
        self._squares = 0.0
        self._images: Floats | None = None
        self._keys = np.empty(0, dtype=np.int64)
        self._trials: Floats = np.empty(0)

    @classmethod
    def listed(cls, bootstrap: IdentityBootstrap, left: Ints, right: Ints) -> NonmatedDesign:
        """Return the design of comparisons given one by one: people `left` [P] and `right` [P]."""
        self = cls(bootstrap)
        self._keys, self._trials = merge_pairs(left, right, None, bootstrap.people)
        self._totals = bootstrap.pair_sums(left, right)
        self._by_person = _by_person(self._keys, self._trials, bootstrap.people)
        self._squares = float(np.sum(self._trials**2))
        return self

    @classmethod
    def cross(cls, bootstrap: IdentityBootstrap, images: Ints) -> NonmatedDesign:
        """Return the design of all comparisons between different people: person i has `images[i]` images.

        Nothing is listed, so that it costs the same for a thousand pairs and for a thousand million.
        """
        self = cls(bootstrap)
        n: Floats = np.asarray(images, dtype=np.float64)
        self._images = n
        w = bootstrap.weights
        self._totals = ((w @ n) ** 2 - (w * w) @ (n * n)) / 2
        self._by_person = n * (n.sum() - n)
        self._squares = float((np.sum(n**2) ** 2 - np.sum(n**4)) / 2)
        return self

    def replicates(self, left: Ints, right: Ints, counts: NDArray | None = None) -> Floats:
        """Return [R] replicates of the rate of `counts` errors (1 each) between people `left` and `right`.

        Counts may be negative: a difference of errors gives the difference of rates of two systems.
        """
        s = self.bootstrap.people
        keys, errors = merge_pairs(left, right, counts, s)
        total = float(self._by_person.sum() / 2)
        rate = float(errors.sum() / total)
        sums = self.bootstrap.pair_sums(left, right, counts)
        drawn = np.divide(sums, self._totals, out=np.full(len(sums), rate), where=self._totals > 0)
        spread = float(np.var(drawn))
        if spread == 0:
            return drawn
        # Residual of a couple: x - rate t. Over all couples that share a person, each couple once.
        residual = _by_person(keys, errors, s) - rate * self._by_person
        cross_term = float(np.sum(errors * self._trials_of(keys)))
        own = float(np.sum(errors**2)) - 2 * rate * cross_term + rate**2 * self._squares
        variance = max(float(np.sum(residual**2)) - own, 0.0) / total**2
        return rate + (drawn - rate) * min(1.0, math.sqrt(variance / spread))

    def _trials_of(self, keys: Ints) -> Floats:
        if self._images is not None:
            i, j = np.divmod(keys, self.bootstrap.people)
            return self._images[i] * self._images[j]
        return self._trials[np.searchsorted(self._keys, keys)]


class MatedDesign:
    """The denominators of FNMR: the mated comparisons of each person."""

    def __init__(self, bootstrap: IdentityBootstrap, person: Ints) -> None:
        self.bootstrap = bootstrap
        self._totals = bootstrap.person_sums(person)
        self._n = len(person)

    def replicates(self, person: Ints, counts: NDArray | None = None) -> Floats:
        """Return [R] replicates of the rate of `counts` errors (1 each) by `person`."""
        sums = self.bootstrap.person_sums(person, counts)
        rate = (len(person) if counts is None else float(np.sum(counts))) / self._n
        return np.divide(sums, self._totals, out=np.full(len(sums), rate), where=self._totals > 0)


def percentile_interval(replicates: Floats, level: float = LEVEL) -> Interval:
    """Return the central `level` of the replicates."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def people_interval(replicates: Floats, rate: float, level: float = LEVEL) -> Interval:
    """Return the interval of a rate of errors from its replicates.

    Errors gather on few people, so a sample without the worst of them is common and replicates of it end too
    low. The upper bound is therefore at least as far above the rate, by ratio, as the lower one is below;
    `benchmarks/coverage.py` shows the effect.
    """
    low, high = percentile_interval(replicates, level)
    if low <= ROUNDING * rate:
        # Replicates without an error, though a sum of rates may have left 1e-17 of them: no ratio to go by.
        return 0.0, high
    return low, max(high, rate * rate / low)


def rate_interval(replicates: Floats, errors: int, trials: int, level: float = LEVEL) -> Interval:
    """Return the interval to quote for a rate: people resampled, and nowhere inside the exact binomial one.

    Resampling knows nothing of errors that did not happen: without any it would give [0, 0]. The wider of the
    two is taken on each side.
    """
    low, high = people_interval(replicates, errors / trials, level)
    exact_low, exact_high = clopper_pearson(errors, trials, level)
    return max(0.0, min(low, exact_low)), min(1.0, max(high, exact_high))


def share_below(replicates: Floats, value: float = 0.0) -> float:
    """Return the share of replicates below `value`, half of those equal to it.

    Of replicates of a difference "first minus second" of error rates it says how sure it is that the first
    system errs less: 0.5 is a toss-up.

    >>> share_below(np.array([-2.0, -1.0, 0.0, 1.0]))
    0.625
    """
    below = np.count_nonzero(replicates < value) + np.count_nonzero(replicates == value) / 2
    return float(below / replicates.size)


def merge_pairs(
    left: Ints, right: Ints, counts: NDArray | None, people: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return the distinct couples as keys `low * people + high`, int64 ascending, and their summed counts."""
    low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right)
    keys, where = np.unique(low * people + high, return_inverse=True)
    return keys, np.bincount(where, counts, keys.size).astype(np.float64)


def _by_person(keys: Ints, counts: Floats, people: int) -> Floats:
    i, j = np.divmod(keys, people)
    return (np.bincount(i, counts, people) + np.bincount(j, counts, people)).astype(np.float64)
