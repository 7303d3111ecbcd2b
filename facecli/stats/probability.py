"""From a similarity to a log-likelihood ratio and a probability, and how good that map is.

LLR(s) = ln p(s | mated) / p(s | non-mated), in nats. With a prior for "mated" the probability is
1 / (1 + exp(-(LLR + ln(prior / (1 - prior))))). A map never claims more than its data can support: |LLR| is
at most ln(n + 1) for the n comparisons of the kind that would contradict it (after the empirical bounds of
Vergeer et al., Science and Justice 56 (2016) 482).

Everything is computed from `Scores`: distinct similarities with their counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facecli.arrays import Floats
from facecli.config import DEFAULT_PRIOR
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.stats.comparisons import Comparisons


QUANTILES = 501
"""Points of the grid, of each kind of comparison, on which the two methods are compared."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Distinct finite similarities [K] ascending with the number of mated and non-mated comparisons, [K]."""

    similarity: Floats
    mated: Floats
    nonmated: Floats

    @classmethod
    def of(cls, mated: ArrayLike, nonmated: ArrayLike) -> Scores:
        """Return the counts of two lists of similarities; failures (-inf) say nothing and are left out."""
        lists = [np.asarray(x, dtype=np.float64) for x in (mated, nonmated)]
        lists = [x[np.isfinite(x)] for x in lists]
        similarity, where = np.unique(np.concatenate(lists), return_inverse=True)
        counts = [
            np.bincount(part, minlength=similarity.size).astype(np.float64)
            for part in np.split(where, [lists[0].size])
        ]
        return cls(similarity, counts[0], counts[1])


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A monotone, piecewise linear or straight map from similarity to LLR.

    `logistic`: LLR = `values[0]` + `values[1]` * similarity. `isotonic`: linear between the points
    (`scores`, `values`), both [K] ascending, constant outside. Either is cut off at `low` and `high`.
    """

    method: str
    values: tuple[float, ...]
    scores: tuple[float, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def llr(self, similarity: ArrayLike) -> Floats:
        """Return the log-likelihood ratio, in nats, of each similarity; -inf (a failure) gives `low`."""
        s = np.asarray(similarity, dtype=np.float64)
        if self.method == "logistic":
            raw = self.values[0] + self.values[1] * s if self.values[1] > 0 else np.zeros_like(s)
        else:
            raw = np.interp(s, self.scores, self.values)
        return np.clip(raw, self.low, self.high)


def probability(llr: ArrayLike, prior: float = DEFAULT_PRIOR) -> Floats:
    """Return the probability of "mated" for a log-likelihood ratio at a prior between 0 and 1.

    >>> probability([0.0, math.log(99)], prior=0.5).round(2).tolist()
    [0.5, 0.99]
    """
    if not 0 < prior < 1:
        raise UsageError(f"a prior of {prior:g} is not between 0 and 1")
    odds = np.asarray(llr, dtype=np.float64) + math.log(prior / (1 - prior))
    return np.exp(-np.logaddexp(0, -odds))


def cllr(scores: Scores, score_map: ScoreMap) -> float:
    """Return the cost of the log-likelihood ratios, in bits: 0 is perfect, 1 is knowing nothing.

    Bruemmer and du Preez, Computer Speech and Language 20 (2006) 230, equation 30: a proper score, mated and
    non-mated comparisons weigh the same.
    """
    return _cost(score_map.llr(scores.similarity), scores)


def min_cllr(scores: Scores) -> float:
    """Return the Cllr of the best monotone map of these very scores: what the ranking alone allows.

    >>> min_cllr(Scores.of([0.8, 0.9], [0.1, 0.2]))
    0.0
    """
    share = _pool(scores)
    with np.errstate(divide="ignore"):
        llr = np.log(share) - np.log1p(-share)
    return _cost(llr, scores)


def fit_logistic(scores: Scores) -> ScoreMap:
    """Fit LLR = a + b s by logistic regression at even prior, Newton's method in float64.

    Targets are moved off 0 and 1 by one comparison of each kind (Platt, "Probabilistic outputs for support
    vector machines", 1999), so that separable data has a finite answer. Scores that rank backwards get b = 0.
    """
    n_mated, n_nonmated = float(scores.mated.sum()), float(scores.nonmated.sum())
    centre = float(np.mean(scores.similarity))
    spread = max(float(np.std(scores.similarity)), 1e-12)
    x = (scores.similarity - centre) / spread
    weight = 0.5 * scores.mated / n_mated + 0.5 * scores.nonmated / n_nonmated
    towards_mated = 0.5 * scores.mated / n_mated * (n_mated + 1) / (
        n_mated + 2
    ) + 0.5 * scores.nonmated / n_nonmated / (n_nonmated + 2)

    def loss(a: float, b: float) -> float:
        z = a + b * x
        return float(np.sum(weight * np.logaddexp(0, z)) - np.sum(towards_mated * z))

    a, b = 0.0, 0.0
    best = loss(a, b)
    for _ in range(100):
        p = np.exp(-np.logaddexp(0, -(a + b * x)))
        residual, curvature = weight * p - towards_mated, weight * p * (1 - p)
        ga, gb = float(residual.sum()), float(residual @ x)
        haa, hab, hbb = float(curvature.sum()), float(curvature @ x), float(curvature @ (x * x))
        # A trace of ridge keeps the step finite where all scores are equal.
        determinant = (haa + 1e-12) * (hbb + 1e-12) - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        step = 1.0
        while step > 1e-10 and loss(a - step * da, b - step * db) > best:
            step /= 2
        a, b = a - step * da, b - step * db
        following = loss(a, b)
        if best - following <= 1e-15:
            break
        best = following
    slope = max(b / spread, 0.0)
    intercept = a - slope * centre if slope > 0 else 0.0
    return ScoreMap("logistic", (intercept, slope), (), *_bounds(n_mated, n_nonmated))


def fit_isotonic(scores: Scores) -> ScoreMap:
    """Fit the best non-decreasing LLR by pooling adjacent violators, with straight lines between pools.

    Ayer et al., Annals of Mathematical Statistics 26 (1955) 641; as calibration of scores: Zadrozny and
    Elkan, KDD 2002. Pools of one kind only are cut off at what the data support.
    """
    low, high = _bounds(float(scores.mated.sum()), float(scores.nonmated.sum()))
    share = _pool(scores)
    with np.errstate(divide="ignore"):
        llr = np.clip(np.log(share) - np.log1p(-share), low, high)
    # The first and the last score of each pool describe it.
    edge = np.ones(llr.size, dtype=bool)
    edge[1:-1] = (llr[1:-1] != llr[:-2]) | (llr[1:-1] != llr[2:])
    return ScoreMap("isotonic", tuple(llr[edge].tolist()), tuple(scores.similarity[edge].tolist()), low, high)


@dataclass(frozen=True, eq=False)
class Judgement:
    """LLRs [K] with how many mated and non-mated comparisons got each of them, [K]."""

    llr: Floats
    mated: Floats
    nonmated: Floats

    @classmethod
    def of(cls, scores: Scores, score_map: ScoreMap) -> Judgement:
        """Return what a map says of scores."""
        return cls(score_map.llr(scores.similarity), scores.mated, scores.nonmated)

    @classmethod
    def joined(cls, parts: Sequence[Judgement]) -> Judgement:
        """Return what several maps say, one after the other."""
        nothing: Floats = np.empty(0)
        lists = (
            [part.llr for part in parts],
            [part.mated for part in parts],
            [part.nonmated for part in parts],
        )
        return cls(*(np.concatenate([nothing, *arrays]) for arrays in lists))


@dataclass(frozen=True, eq=False)
class Fitted:
    """The better of the two maps, fitted on everything, and how the methods do on people they were not fitted on.

    `cllr` is the held-out cost of each method, `held_out` what maps of the chosen method say of the comparisons that
    they were not fitted on. Empty and None where that could not be found out.
    """

    score_map: ScoreMap
    cllr: dict[str, float]
    held_out: Judgement | None


def fit(comparisons: Comparisons, *, folds: int, seed: int) -> Fitted:
    """Return the map of the comparisons.

    The methods are judged on people they were not fitted on: each comparison by a map that saw neither of its
    two people. With `folds` below 3 (too few people, or unknown) the logistic map is taken and no cost known.
    """
    mated, failed = comparisons.mated, comparisons.similarity == -np.inf
    scores = Scores.of(comparisons.similarity[mated], comparisons.similarity[~mated])
    if folds < 3:
        return Fitted(fit_logistic(scores), {}, None)
    cell = comparisons.folds(folds, seed)
    counts, grid = _count_cells(comparisons, cell, folds, ~failed)
    judged: dict[str, list[Judgement]] = {"logistic": [], "isotonic": []}
    low, high = np.divmod(np.arange(folds * folds), folds)
    for a in range(folds):
        for b in range(a, folds):
            test = counts[:, a * folds + b]
            train = counts[:, (low != a) & (high != a) & (low != b) & (high != b)].sum(axis=1)
            if test.sum() == 0 or (train.sum(axis=1) == 0).any():
                continue
            seen = train.any(axis=0)
            known = Scores(grid[seen], train[0, seen], train[1, seen])
            for method, fitter in (("logistic", fit_logistic), ("isotonic", fit_isotonic)):
                judged[method].append(Judgement(fitter(known).llr(grid), test[0], test[1]))
    held_out = {method: Judgement.joined(parts) for method, parts in judged.items()}
    n = counts.sum(axis=(1, 2))
    if not all(said.mated.any() and said.nonmated.any() for said in held_out.values()):
        return Fitted(fit_logistic(scores), {}, None)
    costs = {
        method: float(
            said.mated @ np.logaddexp(0, -said.llr) / n[0] + said.nonmated @ np.logaddexp(0, said.llr) / n[1]
        )
        / (2 * math.log(2))
        for method, said in held_out.items()
    }
    # A tie goes to the simpler map.
    better = "isotonic" if costs["isotonic"] < costs["logistic"] - 1e-6 else "logistic"
    fitter = {"logistic": fit_logistic, "isotonic": fit_isotonic}[better]
    return Fitted(fitter(scores), costs, held_out[better])


@dataclass(frozen=True)
class ReliabilityBin:
    """Comparisons whose probability lay in [`low`, `high`): what was said, and what was true.

    `observed` is the share of mated ones, each kind weighted to the prior; `predicted` the mean probability
    with the same weights.
    """

    low: float
    high: float
    predicted: float
    observed: float
    n_mated: int
    n_nonmated: int


def reliability(said: Judgement, prior: float = 0.5, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Return the reliability table in `bins` equal bins of probability; empty bins are left out."""
    p = probability(said.llr, prior)
    where = np.minimum((p * bins).astype(np.int64), bins - 1)
    w_mated = prior * said.mated / said.mated.sum()
    w_nonmated = (1 - prior) * said.nonmated / said.nonmated.sum()
    table = []
    for k in np.unique(where[(said.mated > 0) | (said.nonmated > 0)]):
        mine = where == k
        total = float(np.sum((w_mated + w_nonmated)[mine]))
        table.append(
            ReliabilityBin(
                low=float(k / bins),
                high=float((k + 1) / bins),
                predicted=float(np.sum(((w_mated + w_nonmated) * p)[mine])) / total,
                observed=float(np.sum(w_mated[mine])) / total,
                n_mated=int(said.mated[mine].sum()),
                n_nonmated=int(said.nonmated[mine].sum()),
            )
        )
    return tuple(table)


def _bounds(n_mated: float, n_nonmated: float) -> tuple[float, float]:
    return -math.log(n_mated + 1), math.log(n_nonmated + 1)


def _cost(llr: Floats, scores: Scores) -> float:
    with np.errstate(invalid="ignore"):
        mated = np.where(scores.mated > 0, scores.mated * np.logaddexp(0, -llr), 0.0)
        nonmated = np.where(scores.nonmated > 0, scores.nonmated * np.logaddexp(0, llr), 0.0)
    mean = mated.sum() / scores.mated.sum() + nonmated.sum() / scores.nonmated.sum()
    return float(mean / (2 * math.log(2)))


def _pool(scores: Scores) -> Floats:
    """Return the pooled share of mated weight at each score, both kinds weighing the same in total."""
    # Neighbours of one and the same kind always end in one pool: merged first, the loop is short.
    pure = np.where(scores.nonmated == 0, 1, np.where(scores.mated == 0, -1, 0))
    new = np.append(True, (pure[1:] != pure[:-1]) | (pure[1:] == 0))
    starts = np.flatnonzero(new)
    w1 = np.add.reduceat(scores.mated / scores.mated.sum(), starts).tolist()
    w0 = np.add.reduceat(scores.nonmated / scores.nonmated.sum(), starts).tolist()
    sizes = np.diff(np.append(starts, pure.size)).tolist()
    pools: list[tuple[float, float, int]] = []
    for pool in zip(w1, w0, sizes, strict=True):
        # Compared as a cross product: no division, so pure pools stay exactly 0 or 1.
        while pools and pools[-1][0] * (pool[0] + pool[1]) >= pool[0] * (pools[-1][0] + pools[-1][1]):
            last = pools.pop()
            pool = (last[0] + pool[0], last[1] + pool[1], last[2] + pool[2])
        pools.append(pool)
    return np.repeat([a / (a + b) for a, b, _ in pools], [n for _, _, n in pools])


def _count_cells(
    comparisons: Comparisons, cell: NDArray[np.int64], folds: int, succeeded: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return counts [mated / non-mated, cell of people, grid] and the grid of similarities."""
    s, mated = comparisons.similarity[succeeded].astype(np.float64), comparisons.mated[succeeded]
    # Quantiles, so that a scale with a long tail is cut as finely where the scores are.
    levels = np.linspace(0, 1, QUANTILES)
    grid = np.unique(np.concatenate([np.quantile(s[mated], levels), np.quantile(s[~mated], levels)]))
    column = np.searchsorted((grid[1:] + grid[:-1]) / 2, s)
    flat = ((~mated).astype(np.int64) * folds * folds + cell[succeeded]) * grid.size + column
    counts = np.bincount(flat, minlength=2 * folds * folds * grid.size).astype(np.float64)
    return counts.reshape(2, folds * folds, grid.size), grid
