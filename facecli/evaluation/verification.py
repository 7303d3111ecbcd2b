"""Evaluates verification (1:1): FMR and FNMR at the threshold in force and at fixed FMR, EER, AUC, accuracy.

Failures stay in the denominators (see `curve`); each figure is also given without them, at the same threshold.
Everything is worked out from the score curve and from the errors at a few thresholds, so that a hundred million
comparisons need no more than two passes and little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facecli.config import DEFAULT_REPLICATES
from facecli.evaluation.figures import (
    VERIFICATION,
    Figure,
    Headline,
    PairResampling,
    Resampling,
    gain_of,
    interval_of,
)
from facecli.hooks import Progress
from facecli.stats.bootstrap import IdentityBootstrap, people_interval
from facecli.stats.curve import ScoreCurve
from facecli.stats.intervals import student_t, trials_needed
from facecli.stats.metrics import FoldRates, fold_accuracy
from facecli.trials.scored import IN_MEMORY, ListedScores, Scored, curve_of
from facecli.trials.tails import Tails, tails

TARGETS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False match rates at which FNMR is given, as far as the data support them (rule of three)."""

AT_THRESHOLD = "threshold"
AT_BEST = "best threshold"
"""Chosen on the very comparisons it is reported for, so it flatters: what published accuracies often are."""
WORST = 12
"""Pairs of each kind that are shown."""


@dataclass(frozen=True, eq=False)
class Verification:
    """The outcome: `headlines` have errors behind them, `others` are figures without.

    `threshold` is the one in force, None without one; `shared` the one that groups and people are judged at: the
    same, else that of the FMR nearest to 1e-3. `unsupported` are FMR targets that the data say nothing about.
    """

    scored: Scored
    curve: ScoreCurve
    headlines: tuple[Headline, ...]
    others: tuple[Figure, ...]
    tails: Tails
    threshold: float | None
    shared: float
    unsupported: tuple[float, ...]
    folds: FoldRates | None = None

    @property
    def figures(self) -> list[Figure]:
        """All figures, in the order in which they are shown."""
        return [h.figure for h in self.headlines] + list(self.others)

    @property
    def failed(self) -> tuple[int, int]:
        """How many (mated, non-mated) comparisons failed."""
        return int(self.curve.misses[0]), self.curve.n_nonmated - int(self.curve.false_matches[0])


def evaluate(
    scored: Scored,
    *,
    threshold: float | None = None,
    targets: Sequence[float] = TARGETS,
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
    fold: NDArray[np.integer] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Return the figures of verification on `scored`.

    `threshold` is the one in force. With `fold` int [P], of listed comparisons, accuracy follows the LFW protocol
    (see `metrics.fold_accuracy`). Raises `BadInput` without mated or non-mated comparisons.
    """
    curve = curve_of(scored, progress)
    clean = _without_failures(curve)
    supported = [t for t in targets if trials_needed(t) <= scored.n_nonmated]
    chosen = {t: curve.threshold_for_fmr(t) for t in supported}
    eer = curve.eer()
    shared = threshold
    if shared is None:
        nearest = min(supported, key=lambda t: abs(np.log10(t) + 3), default=None)
        shared = eer.threshold if nearest is None else chosen[nearest]
    _, best = curve.best_accuracy()
    asked = [eer.threshold, shared, best, *chosen.values()]
    errors = tails(scored, *_reach(curve, asked), progress)
    resampling = resampling_of(scored, seed, replicates)

    headlines = []
    if threshold is not None:
        headlines.append(_rate("fmr", AT_THRESHOLD, threshold, curve, clean, errors))
        headlines.append(_rate("fnmr", AT_THRESHOLD, threshold, curve, clean, errors))
    for target in supported:
        at_target = _rate("fnmr", f"fmr {target:g}", chosen[target], curve, clean, errors)
        # The threshold was chosen on these very people, and rests on few false matches.
        false = errors.false(chosen[target])
        headlines.append(replace(at_target, false=false, gain=gain_of(curve, target)))
    headlines.append(_eer(curve, clean, errors))
    if isinstance(scored, ListedScores):
        # Over all pairs of all people nearly every comparison is non-mated, and accuracy says nothing.
        if threshold is not None:
            headlines.append(_accuracy(AT_THRESHOLD, threshold, curve, clean, errors))
        headlines.append(_accuracy(AT_BEST, best, curve, clean, errors))
    others = [_auc(scored, curve, clean, resampling)]
    folds = None
    if fold is not None and isinstance(scored, ListedScores):
        pairs = scored.comparisons
        folds = fold_accuracy(pairs.similarity, pairs.mated, fold)
        others += [_of_folds(folds, len(pairs)), *_tars(headlines, resampling)]
    return Verification(
        scored=scored,
        curve=curve,
        headlines=tuple(with_interval(h, resampling) for h in headlines),
        others=tuple(others),
        tails=errors,
        threshold=threshold,
        shared=shared,
        unsupported=tuple(t for t in targets if t not in supported),
        folds=folds,
    )


def resampling_of(scored: Scored, seed: int, replicates: int) -> Resampling | None:
    """Return what resamples the people of `scored`; None where they are unknown or only one."""
    if len(scored.people) < 2:
        return None
    return PairResampling(scored, IdentityBootstrap(len(scored.people), replicates=replicates, seed=seed))


def with_interval(headline: Headline, resampling: Resampling | None) -> Headline:
    """Return the headline with its intervals."""
    people, binomial = interval_of(headline, resampling)
    figure = replace(
        headline.figure,
        interval=people if people is not None else binomial,
        binomial=binomial if headline.pure else None,
    )
    return replace(headline, figure=figure)


def _reach(curve: ScoreCurve, thresholds: Sequence[float]) -> tuple[float, float]:
    """Return the thresholds between which errors are wanted, wide enough to show the worst pairs of each kind."""
    finite = curve.thresholds[1:] if curve.thresholds.size > 1 else curve.thresholds
    shown = np.flatnonzero(curve.false_matches >= min(WORST, curve.n_nonmated))
    highest = float(curve.thresholds[shown[-1]]) if shown.size else float(finite[0])
    missed = np.flatnonzero(curve.misses >= min(WORST + int(curve.misses[0]), curve.n_mated))
    return min(highest, *thresholds), max(float(curve.thresholds[missed[0]]), *thresholds)


def _without_failures(curve: ScoreCurve) -> ScoreCurve | None:
    """Return the curve of the comparisons that did not fail; None where all of one kind did."""
    mated, nonmated = int(curve.misses[0]), curve.n_nonmated - int(curve.false_matches[0])
    if mated == curve.n_mated or nonmated == curve.n_nonmated:
        return None
    return ScoreCurve(
        curve.thresholds,
        curve.false_matches,
        curve.misses - mated,
        curve.n_mated - mated,
        curve.n_nonmated - nonmated,
        curve.complete,
    )


def _rate(
    name: str, at: str, threshold: float, curve: ScoreCurve, clean: ScoreCurve | None, tails: Tails
) -> Headline:
    false, missed = tails.false(threshold), tails.missed(threshold)
    kind = 0 if name == "fmr" else 1
    errors = (false.size, missed.size)[kind]
    trials = (curve.n_nonmated, curve.n_mated)[kind]
    cleaned = None
    if clean is not None:
        cleaned = clean.at(threshold)[kind] / (clean.n_nonmated, clean.n_mated)[kind]
    figure = Figure(
        task=VERIFICATION,
        name=name,
        at=at,
        value=errors / trials,
        errors=int(errors),
        trials=trials,
        threshold=threshold,
        without_failures=cleaned,
    )
    nothing = np.empty(0, np.int64)
    return Headline(
        figure,
        false if kind == 0 else nothing,
        missed if kind == 1 else nothing,
        (1.0, 0.0) if kind == 0 else (0.0, 1.0),
    )


def _eer(curve: ScoreCurve, clean: ScoreCurve | None, tails: Tails) -> Headline:
    """Return the EER; its interval moves the crossing by the slopes of both rates around it.

    Let a and b be how fast FMR falls and FNMR rises there. When they change by f and m, the lines cross at
    EER + (b f + a m) / (a + b).
    """
    eer = curve.eer()
    fmr, fnmr = curve.fmr, curve.fnmr
    low = int(np.argmax(fmr <= 2 * eer.rate)) if eer.rate > 0 else 0
    above = np.flatnonzero(fnmr >= 2 * eer.rate)
    high = int(above[0]) if eer.rate > 0 and above.size else curve.thresholds.size - 1
    low = min(max(low, 1), max(high - 1, 0))
    falls, rises = float(fmr[low] - fmr[high]), float(fnmr[high] - fnmr[low])
    total = falls + rises
    weights = (rises / total, falls / total) if total > 0 else (0.5, 0.5)
    figure = Figure(
        task=VERIFICATION,
        name="eer",
        at="",
        value=eer.rate,
        errors=round(eer.rate * curve.n_mated),
        trials=curve.n_mated,
        threshold=eer.threshold,
        without_failures=None if clean is None else clean.eer().rate,
    )
    return Headline(figure, tails.false(eer.threshold), tails.missed(eer.threshold), weights)


def _accuracy(
    at: str, threshold: float, curve: ScoreCurve, clean: ScoreCurve | None, tails: Tails
) -> Headline:
    false, missed = tails.false(threshold), tails.missed(threshold)
    total = curve.n_mated + curve.n_nonmated
    errors = int(false.size + missed.size)
    figure = Figure(
        task=VERIFICATION,
        name="accuracy",
        at=at,
        value=1 - errors / total,
        errors=errors,
        trials=total,
        threshold=threshold,
        without_failures=None
        if clean is None
        else 1 - sum(clean.at(threshold)) / (clean.n_mated + clean.n_nonmated),
    )
    return Headline(figure, false, missed, (curve.n_nonmated / total, curve.n_mated / total), sign=-1)


def _auc(
    scored: Scored, curve: ScoreCurve, clean: ScoreCurve | None, resampling: Resampling | None
) -> Figure:
    """Return the area under the ROC; its interval weighs, for each comparison, those of the other kind beyond it.

    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: the area is the mean of these placements over
    either kind, and their deviations add up. None for more comparisons than fit in memory.
    """
    value = curve.auc()
    figure = Figure(VERIFICATION, "auc", "", value, without_failures=None if clean is None else clean.auc())
    if resampling is None or scored.n_mated + scored.n_nonmated > IN_MEMORY:
        return figure
    blocks = [(b.similarity, b.mated, b.position(np.arange(b.mated.size))) for b in scored.blocks()]
    similarity, mated, position = (np.concatenate(part) for part in zip(*blocks, strict=True))
    step = np.searchsorted(curve.thresholds, similarity.astype(np.float64), "right")
    step[similarity == -np.inf] = 0
    tied = np.bincount(step[mated], minlength=curve.thresholds.size)
    mated_below = np.concatenate([[0], np.cumsum(tied)])
    tied_nonmated = np.bincount(step[~mated], minlength=curve.thresholds.size)
    nonmated_below = np.concatenate([[0], np.cumsum(tied_nonmated)])
    at = step[~mated]
    lost_by_nonmated = (mated_below[at] + tied[at] / 2) / curve.n_mated
    at = step[mated]
    lost_by_mated = 1 - (nonmated_below[at] + tied_nonmated[at] / 2) / curve.n_nonmated
    drawn = resampling.fmr(position[~mated], lost_by_nonmated) - lost_by_nonmated.mean()
    drawn = drawn + resampling.fnmr(position[mated], lost_by_mated) - lost_by_mated.mean()
    area = 1 - value
    # The area on the other side is a rate of errors: its upper bound is lifted like theirs.
    lost_low, lost_high = people_interval(area + drawn, area)
    low, high = 1 - lost_high, 1 - lost_low
    if low == high:
        # All mated pairs above all others: people drawn again cannot but agree, which proves nothing.
        return figure
    return replace(figure, interval=(max(0.0, low), min(1.0, high)))


def _of_folds(folds: FoldRates, pairs: int) -> Figure:
    """Return the mean accuracy of the folds; its interval is two standard errors of the mean, as Student's t has it."""
    figure = Figure(
        VERIFICATION,
        "accuracy",
        f"{len(folds.rates)} folds",
        folds.mean,
        trials=pairs,
        errors=round((1 - folds.mean) * pairs),
        standard_error=folds.standard_error,
    )
    if folds.standard_error is None:
        return figure
    half = student_t(len(folds.rates) - 1) * folds.standard_error
    return replace(figure, interval=(max(0.0, folds.mean - half), min(1.0, folds.mean + half)))


def _tars(headlines: Sequence[Headline], resampling: Resampling | None) -> list[Figure]:
    """Return the true accept rates, 1 - FNMR, that LFW's users quote, at the fixed FMRs."""
    figures = []
    for headline in headlines:
        if headline.figure.name == "fnmr" and headline.figure.at.startswith("fmr "):
            figure = replace(
                headline.figure,
                name="tar",
                value=1 - headline.figure.value,
                without_failures=None
                if headline.figure.without_failures is None
                else 1 - headline.figure.without_failures,
            )
            figures.append(with_interval(replace(headline, figure=figure, sign=-1), resampling).figure)
    return figures
