"""The score curve: how many comparisons fall on the wrong side of each threshold, exactly.

Conventions, here and in all that builds on it: a higher similarity is more alike; match means
`similarity >= threshold`. A failure (no face, unreadable) has the similarity -inf: it stays in the
denominators and never matches, so it is a miss when mated and no false match when non-mated (NIST FRTE).

Thresholds are float64, and so is the comparison: NumPy compares a float32 array with a Python number in float32,
which rounds the threshold and may let a tie through.

FMR(t) = false matches / non-mated comparisons, FNMR(t) = misses / mated comparisons (ISO/IEC 19795-1:2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facecli.arrays import Floats
from facecli.errors import BadInput

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class EqualError:
    """`rate` where FMR = FNMR, and the smallest threshold known to have FMR <= FNMR."""

    rate: float
    threshold: float


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """False matches and misses as step functions of the threshold.

    `thresholds` float64 [K] ascending; `false_matches[k]` non-mated comparisons match at `thresholds[k]` and
    `misses[k]` mated ones do not (int64 [K]). A complete curve has a threshold just above every distinct
    score, before them -inf, and is exact everywhere. A thinned one (`complete` False) is exact at its
    thresholds; between two of them it answers with upper bounds.
    """

    thresholds: Floats
    false_matches: Counts
    misses: Counts
    n_mated: int
    n_nonmated: int
    complete: bool = True

    @classmethod
    def from_scores(cls, mated: ArrayLike, nonmated: ArrayLike) -> ScoreCurve:
        """Return the complete curve of two lists of similarities, ties counted exactly.

        Raises `BadInput` when either list is empty or holds NaN or +inf.
        """
        mated, nonmated = _sorted(mated, "mated"), _sorted(nonmated, "non-mated")
        scores = np.unique(np.concatenate([mated, nonmated]))
        scores = scores[np.isfinite(scores)]
        thresholds = np.concatenate([[-np.inf], np.nextafter(scores.astype(np.float64), np.inf)])
        n_failed = int(np.searchsorted(nonmated, -np.inf, "right"))
        m_failed = int(np.searchsorted(mated, -np.inf, "right"))
        below = np.searchsorted(nonmated, scores, "right")
        false_matches = np.concatenate([[nonmated.size - n_failed], nonmated.size - below])
        misses = np.concatenate([[m_failed], np.searchsorted(mated, scores, "right")])
        return cls(
            thresholds,
            false_matches.astype(np.int64),
            misses.astype(np.int64),
            mated.size,
            nonmated.size,
        )

    @property
    def fmr(self) -> Floats:
        """False match rate at each threshold, float64 [K], never rising."""
        return self.false_matches / self.n_nonmated

    @property
    def fnmr(self) -> Floats:
        """False non-match rate at each threshold, float64 [K], never falling."""
        return self.misses / self.n_mated

    def at(self, threshold: float) -> tuple[int, int]:
        """Return (false matches, misses) at `threshold`; upper bounds between a thinned curve's points."""
        # The step that covers the threshold: the last point at or below it.
        low = int(np.searchsorted(self.thresholds, threshold, "right")) - 1
        false_matches = int(self.false_matches[low]) if low >= 0 else self.n_nonmated
        if self.complete:
            return false_matches, int(self.misses[max(low, 0)])
        high = int(np.searchsorted(self.thresholds, threshold, "left"))
        return false_matches, int(self.misses[high]) if high < self.misses.size else self.n_mated

    def threshold_for_fmr(self, target: float) -> float:
        """Return the smallest threshold of the curve whose FMR is at most `target`.

        Comparisons tied at one score are accepted together or not at all, so the FMR reached may be well
        below the target. Raises `BadInput` when a thinned curve ends above the target.
        """
        allowed = self.fmr <= target
        k = int(np.argmax(allowed))
        if not allowed[k]:
            raise BadInput(f"the score curve has no threshold with FMR {target:g} or less")
        return float(self.thresholds[k])

    def eer(self) -> EqualError:
        """Return the equal error rate: where the DET, its points joined by straight lines, meets FMR = FNMR.

        The same straight lines give the trapezoidal AUC and scikit-learn's `roc_curve` interpolated. Where
        failures keep the curve from crossing, the rate is the FNMR at the lowest threshold.
        """
        return EqualError(eer_rate(self.fmr, self.fnmr), self._crossing())

    def _crossing(self) -> float:
        return float(self.thresholds[int(np.argmax(self.fmr <= self.fnmr))])

    def auc(self) -> float:
        """Return P(mated > non-mated) + P(equal) / 2, the Mann-Whitney statistic; exact if complete."""
        steps_nonmated = np.append(-np.diff(self.false_matches), self.false_matches[-1])
        steps_mated = np.append(np.diff(self.misses), self.n_mated - self.misses[-1])
        above = self.n_mated - self.misses - steps_mated
        twice = int(np.sum(steps_nonmated * (2 * above + steps_mated)))
        failed = self.n_nonmated - int(self.false_matches[0])
        twice += failed * (2 * (self.n_mated - int(self.misses[0])) + int(self.misses[0]))
        return twice / (2 * self.n_mated * self.n_nonmated)

    def best_accuracy(self, prior: float | None = None) -> tuple[float, float]:
        """Return (accuracy, threshold) where the share of right decisions is largest.

        `prior` is the weight of the mated comparisons, None their share in the data. Of equal points the one
        with the fewest false matches is returned.
        """
        weight = prior if prior is not None else self.n_mated / (self.n_mated + self.n_nonmated)
        accuracy = 1 - weight * self.fnmr - (1 - weight) * self.fmr
        # A tolerance, because equal points differ in the last bit of the sum.
        k = int(np.flatnonzero(accuracy >= accuracy.max() - 1e-12)[-1])
        return float(accuracy[k]), float(self.thresholds[k])

    def thinned(
        self, *, decimals: int = 6, dense: int = 500, ratio: float = 1.005, keep: Iterable[float] = ()
    ) -> ScoreCurve:
        """Return a curve of a few thousand points for keeping, its thresholds numbers of `decimals` decimals.

        Every count of errors up to `dense` that can be reached is kept, larger counts in steps of `ratio`; so
        are the thresholds `keep`. Thresholds are rounded up, towards fewer false matches, and the counts are
        those of the rounded threshold.
        """
        wanted = [np.asarray(list(keep), dtype=np.float64)]
        # False matches fall along the curve, misses rise.
        first = np.searchsorted(-self.false_matches, -_ladder(self.n_nonmated, dense, ratio), "left")
        last = np.searchsorted(self.misses, _ladder(self.n_mated, dense, ratio), "right") - 1
        picked = np.unique(np.concatenate([first[first < self.misses.size], last[last >= 0]]))
        finite = self.thresholds[picked]
        wanted.append(finite[np.isfinite(finite)])
        thresholds = np.unique(round_up(np.concatenate(wanted), decimals))
        return self.listed(thresholds)

    def listed(self, thresholds: Floats) -> ScoreCurve:
        """Return the points of this curve at `thresholds` (float64, ascending) as a thinned curve."""
        counts = np.array([self.at(float(t)) for t in thresholds], dtype=np.int64).reshape(-1, 2)
        return ScoreCurve(
            thresholds, counts[:, 0], counts[:, 1], self.n_mated, self.n_nonmated, complete=False
        )


class ScoreHistogram:
    """Counts of cosine similarities in cells of 1e-7, for more comparisons than fit in memory. Mutable.

    A score is counted in the cell at or below it, so that at every threshold of seven decimals the counts are
    exact for the scores themselves; scores that share a cell are tied, which is finer than float32 products
    repeat. Memory is constant: 340 MB.
    """

    CELLS = 10_000_000
    """Cells a unit of similarity."""
    LIMIT = 1.01
    """Unit templates reach 1 + 1e-6 at most."""

    def __init__(self) -> None:
        self._offset = math.ceil(self.LIMIT * self.CELLS)
        self._counts = np.zeros((2, 2 * self._offset + 1), dtype=np.int64)
        self._failed = [0, 0]

    def add(self, similarities: NDArray[np.floating], mated: NDArray[np.bool_]) -> None:
        """Count a block: `similarities` [B] in [-1.01, 1.01] or -inf, `mated` bool [B].

        Raises `BadInput` for other similarities.
        """
        for kind in (0, 1):
            chosen = mated if kind else ~mated
            scores = similarities if chosen.all() else similarities[chosen]
            finite = scores > -np.inf
            if not finite.all():
                if np.isnan(scores).any():
                    raise BadInput("a similarity is not a number")
                self._failed[kind] += int(scores.size - np.count_nonzero(finite))
                scores = scores[finite]
            if scores.size == 0:
                continue
            if float(scores.max()) > self.LIMIT or float(scores.min()) < -self.LIMIT:
                raise BadInput("a similarity lies outside -1 .. 1", hint="templates must have unit length")
            # float32 x 1e7 is exact in float64, so the floor is that of the score itself.
            cells = np.floor(scores.astype(np.float64) * self.CELLS).astype(np.int64) + self._offset
            np.add.at(self._counts[kind], cells, 1)

    def curve(self) -> ScoreCurve:
        """Return the curve of all that was added, exact at every threshold of seven decimals.

        Raises `BadInput` when nothing mated or nothing non-mated was added.
        """
        cells = np.flatnonzero(self._counts.any(axis=0))
        nonmated, mated = np.cumsum(self._counts[0, cells]), np.cumsum(self._counts[1, cells])
        totals = [int(c[-1]) if c.size else 0 for c in (nonmated, mated)]
        n_nonmated, n_mated = totals[0] + self._failed[0], totals[1] + self._failed[1]
        _require(n_mated, "mated")
        _require(n_nonmated, "non-mated")
        thresholds = (cells - self._offset + 1) / self.CELLS
        return ScoreCurve(
            np.concatenate([[-np.inf], thresholds]),
            np.concatenate([[totals[0]], totals[0] - nonmated]),
            np.concatenate([[self._failed[1]], self._failed[1] + mated]),
            n_mated,
            n_nonmated,
        )


def eer_rate(fmr: Floats, fnmr: Floats) -> float:
    """Return where two rates along rising thresholds, joined by straight lines, are equal.

    >>> eer_rate(np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.25, 0.75]))
    0.375
    """
    gap = fmr - fnmr
    k = int(np.argmax(gap <= 0))
    if k == 0 or gap[k] == 0:
        return float(fnmr[k])
    share = gap[k - 1] / (gap[k - 1] - gap[k])
    return float(fmr[k - 1] + share * (fmr[k] - fmr[k - 1]))


def round_up(values: Floats, decimals: int) -> Floats:
    """Return `values` rounded up to numbers of `decimals` decimals, each the float64 nearest to the decimal.

    >>> round_up(np.array([0.1234561, 0.5]), 6).tolist()
    [0.123457, 0.5]
    """
    scale = 10.0**decimals
    whole = np.ceil(values * scale)
    # The product rounds, so the decimal may be one step off either way.
    whole = np.where((whole - 1) / scale >= values, whole - 1, whole)
    return np.where(whole / scale < values, whole + 1, whole) / scale


def _ladder(n: int, dense: int, ratio: float) -> Counts:
    if n <= dense:
        return np.arange(n + 1)
    steps = math.ceil(math.log(n / dense) / math.log(ratio))
    powers = np.array([10**k for k in range(10)])
    # Whole fractions of n, so that a round target such as 1e-3 is reached and not only approached.
    fractions = np.floor(np.outer([1, 2, 5], n / powers)).ravel()
    rungs = np.concatenate([np.arange(dense + 1), dense * ratio ** np.arange(steps + 1), fractions])
    return np.unique(np.clip(rungs.astype(np.int64), 0, n))


def _require(count: int, kind: str) -> None:
    if count == 0:
        raise BadInput(f"there are no {kind} comparisons", hint="both mated and non-mated pairs are needed")


def _sorted(scores: ArrayLike, kind: str) -> NDArray[np.floating]:
    array = np.asarray(scores)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    array = np.sort(array, axis=None)
    _require(array.size, kind)
    # NaN sorts last.
    if not array[-1] < np.inf:
        raise BadInput(f"a {kind} similarity is not a finite number", hint="write -inf for a failure")
    return array
