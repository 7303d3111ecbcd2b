"""Makes a calibration from comparisons: thresholds, honest rates, intervals, the map to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli import __version__
from facecli.arrays import Floats
from facecli.calibration.calibration import (
    CROSS_FITTED,
    DECIMALS,
    IN_SAMPLE,
    OTHER_PEOPLE,
    Calibration,
    OperatingPoint,
    Provenance,
    Quality,
    data_digest,
    marks,
    operating_point,
)
from facecli.config import DEFAULT_REPLICATES
from facecli.errors import BadInput
from facecli.hooks import Progress
from facecli.stats.bootstrap import IdentityBootstrap, MatedDesign, NonmatedDesign, people_interval
from facecli.stats.comparisons import Comparisons, disjoint_splits
from facecli.stats.curve import ScoreCurve
from facecli.stats.intervals import Interval, trials_needed
from facecli.stats.probability import Fitted, Judgement, Scores, cllr, fit, min_cllr, reliability

FOLDS = 10
"""Groups of people for cross-fitting, fewer when there are fewer than thirty people."""


Mask = NDArray[np.bool_]


def calibrate(
    chosen: Comparisons,
    chosen_on: Provenance,
    *,
    embedder_id: str,
    reported: Comparisons | None = None,
    reported_on: Provenance | None = None,
    targets: Sequence[float] = (),
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
    command: str = "",
    notice: str = "",
    min_quality: float = 0.0,
    progress: Progress | None = None,
) -> Calibration:
    """Return the calibration of `embedder_id` on the comparisons `chosen`.

    Rates are reported from `reported`, comparisons of other people; without them by cross-fitting over groups
    of people, and where people are unknown or fewer than nine from `chosen` itself: `basis` says which.
    Operating points are made at FMR 1, 2 and 5 times powers of ten as far down as the data support, at the
    supported ones of `targets`, at the EER and where accuracy is best with as many mated as non-mated pairs.
    The same input and seed give the same calibration.

    Raises `BadInput` when mated or non-mated comparisons are missing or have all failed.
    """
    for data in (chosen, reported):
        if data is not None:
            _check_some_succeeded(data)
    curve = chosen.curve()
    eer, (_, accurate) = curve.eer().threshold, curve.best_accuracy(prior=0.5)
    thin = curve.thinned(decimals=DECIMALS, keep=[t for t in (eer, accurate) if np.isfinite(t)])
    folds = min(FOLDS, chosen.people // 3) if chosen.people >= 9 else 0
    fitted = fit(chosen, folds=folds, seed=seed)
    judged = _judged(chosen, curve, reported, folds, seed)
    spreads = _Spreads(judged.comparisons, seed, replicates) if judged.comparisons.people else None
    wanted = [("eer", None, eer), ("accuracy", None, accurate), *_at_targets(thin, targets)]
    points = []
    for done, (name, target, threshold) in enumerate(wanted, start=1):
        points.append(_point(name, target, _thinned(threshold, thin), thin, judged, spreads))
        if progress is not None:
            progress(done, len(wanted))
    return Calibration(
        embedder_id=embedder_id,
        basis=judged.basis,
        chosen=thin,
        reported=judged.along(thin),
        points=tuple(points),
        score_map=fitted.score_map,
        quality=_quality(judged, fitted),
        chosen_on=chosen_on,
        reported_on=reported_on if reported is not None else None,
        seed=seed,
        facecli_version=__version__,
        command=command,
        notice=notice,
        min_quality=min_quality,
    )


def describe(
    comparisons: Comparisons,
    description: str,
    *,
    image_digests: Sequence[str] = (),
    subjects: Sequence[str] = (),
) -> Provenance:
    """Return the provenance of comparisons of images given by their digests and, image by image, subjects.

    Without images, as for scores made elsewhere, the digest is that of the scores and labels.
    """
    if image_digests:
        lines = [f"{d} {s}" for d, s in zip(image_digests, subjects, strict=True)]
    else:
        values, mated = comparisons.similarity.tolist(), comparisons.mated.tolist()
        lines = [f"{v!r} {int(m)}" for v, m in zip(values, mated, strict=True)]
    n_mated = int(np.count_nonzero(comparisons.mated))
    return Provenance(
        description=description,
        n_people=comparisons.people,
        n_images=len(set(image_digests)),
        n_mated=n_mated,
        n_nonmated=len(comparisons) - n_mated,
        n_failed=int(np.count_nonzero(comparisons.similarity == -np.inf)),
        digest=data_digest(lines),
        image_marks=marks(image_digests),
        subject_marks=marks(subjects),
    )


def _check_some_succeeded(data: Comparisons) -> None:
    for kind, name in ((data.mated, "mated"), (~data.mated, "non-mated")):
        if kind.any() and not (data.similarity[kind] > -np.inf).any():
            raise BadInput(
                f"all {int(kind.sum()):,} {name} comparisons failed", hint="look at the failures first"
            )


@dataclass(frozen=True, eq=False)
class _Judged:
    """The comparisons that rates are reported from, and how thresholds are held against them.

    `curve` is theirs. `levels` is None where a threshold is held against each comparison as it is, else what
    `_held_out_fmr` returns.
    """

    comparisons: Comparisons
    curve: ScoreCurve
    basis: str
    levels: Floats | None = None

    def matched(self, threshold: float, thin: ScoreCurve) -> Mask:
        """Return [P] which comparisons match at a threshold of `thin`."""
        if self.levels is None:
            return self.comparisons.similarity.astype(np.float64) >= threshold
        return self.levels <= thin.fmr[np.searchsorted(thin.thresholds, threshold)]

    def along(self, thin: ScoreCurve) -> ScoreCurve:
        """Return the errors at all thresholds of `thin`."""
        if self.levels is None:
            return self.curve.listed(thin.thresholds)
        return _cross_fitted(thin, self.comparisons, self.levels)


def _judged(
    chosen: Comparisons, curve: ScoreCurve, reported: Comparisons | None, folds: int, seed: int
) -> _Judged:
    """Return what rates are reported from: other people, else held-out people, else the same comparisons."""
    if reported is not None:
        return _Judged(reported, reported.curve(), OTHER_PEOPLE)
    levels = _held_out_fmr(chosen, folds, seed) if folds else None
    return _Judged(chosen, curve, IN_SAMPLE if levels is None else CROSS_FITTED, levels)


class _Spreads:
    """Draws people once, and turns errors into the bounds of their rates as factors of the rates."""

    def __init__(self, judged: Comparisons, seed: int, replicates: int) -> None:
        left, right = judged.known()
        self._left, self._right, self._judged = left, right, judged
        bootstrap = IdentityBootstrap(judged.people, replicates=replicates, seed=seed)
        self._nonmated = NonmatedDesign.listed(bootstrap, left[~judged.mated], right[~judged.mated])
        self._mated = MatedDesign(bootstrap, left[judged.mated])

    def at(self, false: Mask, missed: Mask) -> tuple[Interval, Interval]:
        fmr = self._nonmated.replicates(self._left[false], self._right[false])
        fnmr = self._mated.replicates(self._left[missed])
        n_mated = int(np.count_nonzero(self._judged.mated))
        return (
            _factors(fmr, int(np.count_nonzero(false)) / (len(self._judged) - n_mated)),
            _factors(fnmr, int(np.count_nonzero(missed)) / n_mated),
        )


def _at_targets(thin: ScoreCurve, targets: Sequence[float]) -> list[tuple[str, float | None, float]]:
    """Return (name, target, threshold) at the FMRs 1, 2 and 5 times powers of ten, and `targets`, if supported."""
    ladder = (float(f"{digit}e-{power}") for power in range(1, 12) for digit in (1, 2, 5))
    rates = sorted({*targets, *(rate for rate in ladder if rate <= 0.1)}, reverse=True)
    supported = [rate for rate in rates if trials_needed(rate) <= thin.n_nonmated]
    return [("fmr", rate, thin.threshold_for_fmr(rate)) for rate in supported]


def _point(
    name: str,
    target: float | None,
    threshold: float,
    thin: ScoreCurve,
    judged: _Judged,
    spreads: _Spreads | None,
) -> OperatingPoint:
    matched, mated = judged.matched(threshold, thin), judged.comparisons.mated
    false, missed = matched & ~mated, ~matched & mated
    n_mated = int(np.count_nonzero(mated))
    chosen_false, chosen_missed = thin.at(threshold)
    return operating_point(
        name,
        threshold,
        target,
        (int(np.count_nonzero(false)), int(np.count_nonzero(missed))),
        (mated.size - n_mated, n_mated),
        (chosen_false / thin.n_nonmated, chosen_missed / thin.n_mated),
        spreads.at(false, missed) if spreads is not None else ((1.0, 1.0), (1.0, 1.0)),
        judged.comparisons.people,
        judged.basis,
    )


def _quality(judged: _Judged, fitted: Fitted) -> Quality:
    similarity, mated = judged.comparisons.similarity, judged.comparisons.mated
    scores = Scores.of(similarity[mated], similarity[~mated])
    said = Judgement.of(scores, fitted.score_map)
    if judged.basis != OTHER_PEOPLE and fitted.held_out is not None:
        # A map says of its own data what it read there.
        said = fitted.held_out
    return Quality(
        cllr=cllr(scores, fitted.score_map),
        min_cllr=min_cllr(scores),
        auc=judged.curve.auc(),
        held_out_cllr=fitted.cllr,
        reliability=reliability(said),
    )


def _held_out_fmr(comparisons: Comparisons, folds: int, seed: int) -> Floats | None:
    """Return [P] the lowest FMR target at which each comparison matches, by thresholds of other people.

    A threshold chosen for target f on some training data accepts a score exactly when the training FMR at the
    score is at most f, so one number a comparison answers for every target. inf for a failure. None when some
    training part has no non-mated comparison.
    """
    order = np.argsort(comparisons.similarity, kind="stable")
    similarity, mated = comparisons.similarity[order], comparisons.mated[order]
    cell = comparisons.folds(folds, seed)[order]
    levels = np.empty(len(comparisons))
    for train, test in disjoint_splits(cell, folds):
        nonmated = similarity[train & ~mated]
        if nonmated.size == 0:
            return None
        levels[test] = (nonmated.size - np.searchsorted(nonmated, similarity[test], "left")) / nonmated.size
    levels[similarity == -np.inf] = np.inf
    unsorted = np.empty_like(levels)
    unsorted[order] = levels
    return unsorted


def _cross_fitted(thin: ScoreCurve, comparisons: Comparisons, levels: Floats) -> ScoreCurve:
    """Return the held-out errors at the targets that the thresholds of `thin` reach, as a curve along them."""
    mated, nonmated = np.sort(levels[comparisons.mated]), np.sort(levels[~comparisons.mated])
    return ScoreCurve(
        thin.thresholds,
        np.searchsorted(nonmated, thin.fmr, "right").astype(np.int64),
        (mated.size - np.searchsorted(mated, thin.fmr, "right")).astype(np.int64),
        thin.n_mated,
        thin.n_nonmated,
        complete=False,
    )


def _thinned(threshold: float, thin: ScoreCurve) -> float:
    """Return the threshold of `thin` at or above `threshold`, else its highest."""
    k = int(np.searchsorted(thin.thresholds, threshold, "left"))
    return float(thin.thresholds[min(k, thin.thresholds.size - 1)])


def _factors(replicates: Floats, rate: float) -> Interval:
    if rate == 0:
        return 1.0, 1.0
    low, high = people_interval(replicates, rate)
    return low / rate, high / rate
