"""Oracle of the intervals: the whole curve drawn anew from resampled people, a replicate at a time.

The library never draws a curve: it moves a figure by the replicates of its errors, which costs a hundredth of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facecli.stats.bootstrap import Floats, IdentityBootstrap, percentile_interval
from facecli.stats.comparisons import Comparisons
from facecli.stats.curve import eer_rate
from facecli.stats.intervals import LEVEL, Interval


def curve_replicates(
    comparisons: Comparisons, bootstrap: IdentityBootstrap
) -> Iterator[tuple[Floats, Floats]]:
    """Yield (fmr [K], fnmr [K]) along rising thresholds for each replicate: for figures that are not rates.

    `eer_rate` and `fnmr_at` take them; the thresholds are those of the comparisons' curve, so a figure at a
    fixed FMR chooses its threshold anew in every replicate. Unlike FMR replicates these are not drawn in, so
    their intervals are wide rather than narrow. A replicate without both kinds of comparison is left out.
    """
    left, right = comparisons.known()
    thresholds = comparisons.curve().thresholds
    step = np.searchsorted(thresholds, comparisons.similarity.astype(np.float64), "right")
    # A score lies on the step that starts at or below it; one that failed matches at no step.
    step[comparisons.similarity == -np.inf] = 0
    mated, nonmated = comparisons.mated, ~comparisons.mated
    size = thresholds.size
    for weights in bootstrap.weights:
        w_mated = weights[left[mated]]
        w_nonmated = weights[left[nonmated]] * weights[right[nonmated]]
        missed = np.cumsum(np.bincount(step[mated], w_mated, size))
        below = np.cumsum(np.bincount(step[nonmated], w_nonmated, size))
        if missed[-1] > 0 and below[-1] > 0:
            yield 1 - below / below[-1], missed / missed[-1]


def fnmr_at(fmr: Floats, fnmr: Floats, target: float) -> float:
    """Return the FNMR at the smallest threshold with an FMR of at most `target`, from rates along it."""
    # A tolerance for the rounding of weighted sums, far below one comparison.
    return float(fnmr[int(np.argmax(fmr <= target + 1e-12))])


def eer_interval(comparisons: Comparisons, bootstrap: IdentityBootstrap, level: float = LEVEL) -> Interval:
    """Return the interval of the equal error rate, people resampled."""
    rates = [eer_rate(fmr, fnmr) for fmr, fnmr in curve_replicates(comparisons, bootstrap)]
    return percentile_interval(np.array(rates), level)
