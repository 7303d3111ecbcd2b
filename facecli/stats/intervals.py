"""Intervals and tests for counts: exact binomial bounds, the rule of three, McNemar. Stdlib only."""

from __future__ import annotations

import math

import numpy as np

from facecli.errors import UsageError

LEVEL = 0.95

Interval = tuple[float, float]
"""Lower and upper bound of a rate."""


def clopper_pearson(errors: int, trials: int, level: float = LEVEL) -> Interval:
    """Return the exact two-sided binomial interval of `errors` in `trials` independent comparisons.

    Clopper and Pearson, Biometrika 26 (1934) 404: each tail holds at most (1 - level) / 2. With no error the
    lower bound is 0, with nothing but errors the upper bound is 1. Comparisons that share people are not
    independent; see `bootstrap` for those.

    >>> [f"{bound:.2g}" for bound in clopper_pearson(3, 3000)]
    ['0.00021', '0.0029']
    """
    if not 0 <= errors <= trials or trials < 1:
        raise UsageError(f"{errors} errors in {trials} comparisons have no interval")
    tail = (1 - level) / 2
    low = 0.0 if errors == 0 else beta_quantile(tail, errors, trials - errors + 1)
    high = 1.0 if errors == trials else beta_quantile(1 - tail, errors + 1, trials - errors)
    return low, high


def rule_of_three(trials: int) -> float:
    """Return the rate that `trials` comparisons without an error rule out at 95 %: 3 / n.

    Jovanovic and Levy, The American Statistician 51 (1997) 137.

    >>> rule_of_three(3000)
    0.001
    """
    return min(1.0, 3 / trials)


def smallest_supported(trials: int) -> float:
    """Return the smallest rate of two digits that `trials` comparisons support: 3 / trials, rounded up.

    >>> smallest_supported(576)
    0.0053
    """
    rate = rule_of_three(trials)
    digits = 1 - math.floor(math.log10(rate))
    return math.ceil(rate * 10**digits - 1e-9) / 10**digits


def trials_needed(rate: float) -> int:
    """Return how many non-mated comparisons it takes before an FMR of `rate` can be spoken of: 3 / rate.

    >>> trials_needed(1e-3), trials_needed(1e-4)
    (3000, 30000)
    """
    # 3 / 1e-4 is 30000.000000000004 or not, depending on the rate; a millionth of a pair is nobody.
    return math.ceil(3 / rate - 1e-6)


def mcnemar(only_first_wrong: int, only_second_wrong: int) -> float:
    """Return the exact two-sided p-value that two systems err equally often on the same pairs.

    The arguments count the pairs on which they disagree. McNemar, Psychometrika 12 (1947) 153, in its exact
    binomial form; pairs are taken as independent.

    >>> round(mcnemar(0, 5), 12), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    discordant = only_first_wrong + only_second_wrong
    fewer = min(only_first_wrong, only_second_wrong)
    if discordant == 0:
        return 1.0
    # P(X <= k) for a fair coin is I_1/2(n - k, k + 1).
    return min(1.0, 2 * beta_cdf(0.5, discordant - fewer, fewer + 1))


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for a, b > 0.

    Continued fraction of DLMF 8.17.22 by Lentz's method, on the side where it converges quickly.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _continued_fraction(x, a, b) / a


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the x with I_x(a, b) = p, by Newton's method kept inside a shrinking bracket."""
    low, high = 0.0, 1.0
    x = a / (a + b)
    log_norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - p
        if error < 0:
            low = x
        else:
            high = x
        log_density = log_norm + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)
        step = error * math.exp(-log_density) if log_density > -600 else math.inf
        guess = x - step
        # Small quantiles span orders of magnitude: halve in the logarithm.
        following = guess if low < guess < high else math.sqrt(max(low, 1e-300) * high)
        if abs(following - x) <= 1e-13 * x or low == high:
            return following
        x = following
    return x


def _continued_fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def student_t(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t.

    From the beta distribution: t^2 / (t^2 + n) is Beta(1/2, n/2).

    >>> round(student_t(9), 4)
    2.2622
    """

    x = beta_quantile(0.95, 0.5, freedom / 2)
    return float(np.sqrt(freedom * x / (1 - x)))
