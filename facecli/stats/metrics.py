"""Error rates of verification (1:1) and identification (1:N): pure functions of similarities.

Match means `similarity >= threshold`; a failure is a similarity of -inf, which stays in the denominators and
never matches (see `curve`). Inputs are lists or arrays of any shape; empty input or NaN raises `BadInput`.
Definitions: ISO/IEC 19795-1:2021 for FMR, FNMR, FPIR, FNIR; NIST FRTE 1:N for rank and threshold together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facecli.errors import BadInput, UsageError
from facecli.stats.curve import EqualError, ScoreCurve


def matches(similarities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Return where a similarity matches, bool of the same shape: the one place that decides it over arrays.

    >>> matches(np.array([0.4, 0.3, -np.inf]), -np.inf).tolist()
    [True, True, False]
    """
    # In float64: a float32 comparison would round the threshold.
    return (similarities.astype(np.float64) >= threshold) & (similarities > -np.inf)


def fmr(nonmated: ArrayLike, threshold: float) -> float:
    """Return the false match rate: the share of non-mated comparisons that match.

    >>> fmr([0.1, 0.4, 0.4, 0.7], 0.4)
    0.75
    """
    scores = _scores(nonmated, "non-mated")
    return float(np.count_nonzero(matches(scores, threshold)) / scores.size)


def fnmr(mated: ArrayLike, threshold: float) -> float:
    """Return the false non-match rate: the share of mated comparisons that do not match.

    >>> fnmr([0.9, 0.4, float("-inf"), 0.3], 0.4)
    0.5
    """
    scores = _scores(mated, "mated")
    return float(np.count_nonzero(~matches(scores, threshold)) / scores.size)


def threshold_for_fmr(nonmated: ArrayLike, target: float) -> float:
    """Return the smallest threshold whose FMR is at most `target` (0 .. 1).

    It is the score that has to be refused, moved up to the next float64; tied scores are refused together.
    -inf when everything may match.

    >>> t = threshold_for_fmr([0.1, 0.2, 0.3, 0.4], 0.25)
    >>> 0.3 < t < 0.300001, fmr([0.1, 0.2, 0.3, 0.4], t)
    (True, 0.25)
    """
    if not 0 <= target <= 1:
        raise UsageError(f"an FMR of {target:g} is not between 0 and 1")
    return ScoreCurve.from_scores([0.0], _scores(nonmated, "non-mated")).threshold_for_fmr(target)


def eer(mated: ArrayLike, nonmated: ArrayLike) -> EqualError:
    """Return the equal error rate and a threshold for it; see `ScoreCurve.eer` for the definition.

    >>> eer([0.5, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.6]).rate
    0.25
    """
    return ScoreCurve.from_scores(mated, nonmated).eer()


def auc(mated: ArrayLike, nonmated: ArrayLike) -> float:
    """Return P(mated > non-mated) + P(equal) / 2 (Mann-Whitney), the area under the ROC.

    >>> auc([0.5, 0.9], [0.1, 0.5])
    0.875
    """
    return ScoreCurve.from_scores(mated, nonmated).auc()


def best_accuracy(mated: ArrayLike, nonmated: ArrayLike, prior: float | None = None) -> tuple[float, float]:
    """Return (accuracy, threshold) where most decisions are right; `prior` weighs the mated ones.

    The figure is optimistic for the data it was chosen on: see `fold_accuracy`.

    >>> accuracy, threshold = best_accuracy([0.5, 0.9], [0.1, 0.6])
    >>> accuracy, 0.6 < threshold <= 0.9
    (0.75, True)
    """
    return ScoreCurve.from_scores(mated, nonmated).best_accuracy(prior)


@dataclass(frozen=True)
class FoldRates:
    """A rate per fold, its mean and the standard error of the mean (None with one fold)."""

    rates: tuple[float, ...]
    mean: float
    standard_error: float | None


def fold_accuracy(similarities: ArrayLike, mated: ArrayLike, fold: ArrayLike) -> FoldRates:
    """Return the accuracy of each fold at the threshold that is best on all the others (the LFW protocol).

    `similarities` [P], `mated` bool [P], `fold` int [P]. Huang et al., "Labeled Faces in the Wild", UMass
    07-49, section 4: mean and standard error over the ten folds.
    """
    scores, is_mated, folds = _scores(similarities, "listed"), np.asarray(mated, dtype=bool), np.asarray(fold)
    rates = []
    for k in np.unique(folds):
        test = folds == k
        _, threshold = best_accuracy(scores[~test & is_mated], scores[~test & ~is_mated])
        rates.append(float(np.mean(matches(scores[test], threshold) == is_mated[test])))
    error = float(np.std(rates, ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else None
    return FoldRates(tuple(rates), float(np.mean(rates)), error)


@dataclass(frozen=True, eq=False)
class Searches:
    """What is needed of each probe's search of a gallery, [P] arrays.

    `mate` float64: best similarity among the probe's own subject's samples; NaN where the subject is not
    enrolled, -inf where the probe failed or all of these samples did. `rank` float64: 1 + the number of other
    subjects at least as similar as the mate (ties count against us), inf where the mate is -inf, NaN without a
    mate. `other` float64: best similarity among all other subjects, -inf where there is none or the probe failed.
    """

    mate: NDArray[np.float64]
    rank: NDArray[np.float64]
    other: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Searches]) -> Searches:
        """Return the searches of all `parts`, in order."""
        return cls(
            np.concatenate([p.mate for p in parts]),
            np.concatenate([p.rank for p in parts]),
            np.concatenate([p.other for p in parts]),
        )


def searches(
    similarities: NDArray[np.floating],
    probe_subjects: Sequence[str],
    gallery_subjects: Sequence[str],
    exclude: NDArray[np.integer] | None = None,
) -> Searches:
    """Return the outcome of searching each probe, for blocks of probes of any size.

    `similarities` [P, G], a row of -inf for a failed probe, a column for a failed sample; a subject scores as its
    most similar sample. `exclude` int [P] is the gallery column that holds the probe itself, -1 for none: with it
    a database is searched leaving one sample out, and a subject with no other sample counts as not enrolled.
    """
    scores = np.asarray(similarities, dtype=np.float64)
    names, codes = np.unique(np.asarray(gallery_subjects), return_inverse=True)
    if scores.shape != (len(probe_subjects), codes.size) or codes.size == 0:
        sizes_text = f"{len(probe_subjects)} probes x {codes.size} samples"
        raise BadInput(f"similarities of shape {scores.shape} do not fit {sizes_text}")
    if np.isnan(scores).any():
        raise BadInput("a similarity is not a number")
    sizes = np.bincount(codes)
    rows = np.arange(scores.shape[0])
    where = np.minimum(np.searchsorted(names, np.asarray(probe_subjects)), names.size - 1)
    enrolled = names[where] == np.asarray(probe_subjects)
    if exclude is not None:
        own = np.flatnonzero(exclude >= 0)
        scores = scores.copy()
        scores[own, exclude[own]] = -np.inf
        mine = codes[exclude[own]] == where[own]
        enrolled[own] &= ~mine | (sizes[where[own]] > 1)
    # Samples of one subject side by side, then the best of each run.
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    best = np.maximum.reduceat(scores[:, order], starts, axis=1)
    mate = np.where(enrolled, best[rows, where], np.nan)
    best[rows[enrolled], where[enrolled]] = -np.inf
    with np.errstate(invalid="ignore"):
        at_least = np.count_nonzero((best >= mate[:, None]) & (best > -np.inf), axis=1)
    rank = np.where(mate == -np.inf, np.inf, 1.0 + at_least)
    return Searches(mate, np.where(enrolled, rank, np.nan), best.max(axis=1))


def cmc(outcomes: Searches, ranks: int) -> NDArray[np.float64]:
    """Return the cumulative match characteristic, float64 [ranks]: at k - 1, the share of mated searches whose mate
    is among the first k subjects.

    Failures are misses. It ends at 1 at the number of subjects unless probes failed.

    >>> s = searches(np.array([[0.9, 0.1], [0.8, 0.3]]), ["a", "b"], ["a", "b"])
    >>> cmc(s, 2).tolist()
    [0.5, 1.0]
    """
    mine = outcomes.rank[~np.isnan(outcomes.mate)]
    if mine.size == 0:
        raise BadInput("there are no searches by people who are enrolled")
    return np.searchsorted(np.sort(mine), np.arange(1, ranks + 1), "right") / mine.size


def fpir_for_fmr(rate: float, subjects: int) -> float:
    """Return the FPIR expected in a gallery of `subjects`: 1 - (1 - FMR)^N, if independent.

    ISO/IEC 19795-1:2021. An approximation: real errors gather on few people, so the measured FPIR is usually
    lower.

    >>> round(fpir_for_fmr(1e-3, 100), 3), round(fpir_for_fmr(1e-4, 10_000), 2)
    (0.095, 0.63)
    """
    if rate >= 1:
        return 1.0 if subjects else 0.0
    return -math.expm1(subjects * math.log1p(-rate))


def fmr_for_fpir(rate: float, subjects: int) -> float:
    """Return the FMR that `fpir_for_fmr` turns into the FPIR `rate`.

    >>> round(fpir_for_fmr(fmr_for_fpir(0.01, 500), 500), 12)
    0.01
    """
    if not 0 <= rate < 1 or subjects < 1:
        raise UsageError(f"an FPIR of {rate:g} over {subjects} subjects has no FMR")
    return -math.expm1(math.log1p(-rate) / subjects)


def _scores(values: ArrayLike, kind: str) -> NDArray[np.floating]:
    scores = np.asarray(values).ravel()
    # float32 stays: it sorts in half the time.
    if scores.dtype != np.float32:
        scores = scores.astype(np.float64)
    if scores.size == 0:
        raise BadInput(f"there are no {kind} comparisons", hint="both mated and non-mated pairs are needed")
    if np.isnan(scores).any():
        raise BadInput(f"a {kind} similarity is not a number", hint="write -inf for a failure")
    return scores
