"""A calibration: what a similarity of one embedder means, with the evidence for it. Read and asked here.

It holds the score curve of the data that thresholds are chosen on and the curve that rates are reported from,
so that any FMR the data can support may be asked later, and a map from similarity to probability.
`calibrate` makes calibrations, `calibration_file` keeps them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facecli.config import DEFAULT_PRIOR
from facecli.errors import EmbedderMismatch, NoCalibration, UsageError
from facecli.stats.curve import ScoreCurve
from facecli.stats.intervals import Interval, clopper_pearson, smallest_supported, trials_needed
from facecli.stats.probability import ReliabilityBin, ScoreMap, probability

OTHER_PEOPLE = "other people"
"""Rates come from people that the thresholds were not chosen on."""
CROSS_FITTED = "cross-fitted"
"""Rates come from the same data; each comparison was judged by a threshold that saw neither of its people."""
IN_SAMPLE = "in-sample"
"""Rates come from the very comparisons the thresholds were chosen on, and flatter them."""

DECIMALS = 6
"""Of every threshold that is kept: a number that can be typed. Float32 products repeat to about 1e-6."""


@dataclass(frozen=True)
class Provenance:
    """The data behind a curve.

    `digest` is that of `data_digest`. `image_marks` and `subject_marks` are the marks (see `marks`) of the
    images and people, sorted, so that a later evaluation can tell whether it meets them again.
    """

    description: str
    n_people: int
    n_images: int
    n_mated: int
    n_nonmated: int
    n_failed: int
    """Comparisons with a sample that could not be embedded; they are among the mated and non-mated."""
    digest: str
    image_marks: tuple[str, ...] = ()
    subject_marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the error rates found at it.

    `fmr_interval` and `fnmr_interval` (95 %) resample people and are nowhere inside the exact binomial
    intervals, which take comparisons as independent and are given beside them. `chosen_fmr` and `chosen_fnmr`
    are the rates on the data the threshold was chosen on. `people` is 0 when nobody knows who is who.
    """

    name: str
    """`fmr` (for `target_fmr`), `eer`, `accuracy` or `threshold` (set by hand)."""
    threshold: float
    target_fmr: float | None
    fmr: float
    fnmr: float
    fmr_interval: Interval
    fnmr_interval: Interval
    fmr_binomial: Interval
    fnmr_binomial: Interval
    false_matches: int
    misses: int
    n_mated: int
    n_nonmated: int
    people: int
    chosen_fmr: float
    chosen_fnmr: float
    basis: str


@dataclass(frozen=True)
class Quality:
    """How good the map is: Cllr and min Cllr in bits, on the data that rates are reported from.

    Unless these are other people, `cllr` is that of a map on its own data. `held_out_cllr` is the cost of each
    method on people it was not fitted on; empty when that could not be found out. `reliability` is at even prior, of
    maps on people that they were not fitted on wherever that could be found out.
    """

    cllr: float
    min_cllr: float
    auc: float
    held_out_cllr: dict[str, float]
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Thresholds and probabilities for one embedder; see the module.

    `chosen` and `reported` are thinned curves over the same thresholds, of `DECIMALS` decimals.
    `points` are operating points in steps of FMR, from which the intervals in between are taken. `reported_on`
    is None unless `basis` is `OTHER_PEOPLE`.
    """

    embedder_id: str
    basis: str
    chosen: ScoreCurve
    reported: ScoreCurve
    points: tuple[OperatingPoint, ...]
    score_map: ScoreMap
    quality: Quality
    chosen_on: Provenance
    reported_on: Provenance | None
    seed: int
    facecli_version: str
    command: str
    notice: str
    min_quality: float = 0.0
    """The lowest quality of a face that the rates hold for."""

    def threshold_for(self, fmr: float) -> OperatingPoint:
        """Return the operating point of the smallest kept threshold whose FMR is at most `fmr`.

        Chosen on `chosen`; its rates are those of `reported`. Raises `NoCalibration` when fewer than 3 / fmr
        non-mated comparisons stand behind it (rule of three), `UsageError` outside 0 < fmr < 1.
        """
        if not 0 < fmr < 1:
            raise UsageError(f"an FMR of {fmr:g} is not between 0 and 1")
        needed, have = trials_needed(fmr), self.chosen.n_nonmated
        if have < needed:
            raise NoCalibration(
                f"an FMR of {fmr:g} needs at least {needed:,} non-mated comparisons, the calibration has {have:,}",
                hint=f"ask for an FMR of {smallest_supported(have):g} or more, or calibrate on more pairs",
            )
        threshold = self.chosen.threshold_for_fmr(fmr)
        false_matches, misses = self.reported.at(threshold)
        return self._point("fmr", threshold, fmr, false_matches, misses, self.reported, self.basis)

    def records(self, targets: Sequence[float] = (), *, prior: float = DEFAULT_PRIOR) -> list[dict[str, Any]]:
        """Return what `calibrate` prints: a record an operating point, the EER, best accuracy and the FMR `targets`.

        Without targets, the powers of ten are there. `probability` is that of a mated pair at the threshold, if it was
        `prior` before looking.
        """
        return [
            {
                **asdict(point),
                "probability": round(self.probability(point.threshold, prior), 6),
                "prior": prior,
                "embedder_id": self.embedder_id,
            }
            for point in self.points
            if point.target_fmr is None or _asked(point.target_fmr, targets)
        ]

    def at(self, threshold: float) -> OperatingPoint:
        """Return the rates at a threshold that was set by hand.

        It was not chosen on the data, so no comparison is set aside: with `CROSS_FITTED` the rates are those
        of all of them. Between kept thresholds both error counts are upper bounds, off by one step of the curve.
        """
        curve = self.reported if self.basis == OTHER_PEOPLE else self.chosen
        basis = OTHER_PEOPLE if self.basis == OTHER_PEOPLE else IN_SAMPLE
        false_matches, misses = curve.at(threshold)
        return self._point("threshold", threshold, None, false_matches, misses, curve, basis)

    def probability(self, similarity: float, prior: float = DEFAULT_PRIOR) -> float:
        """Return the probability that the pair is mated, if `prior` (0 .. 1) was it before looking."""
        return float(probability(self.score_map.llr(similarity), prior))

    def _point(
        self,
        name: str,
        threshold: float,
        target: float | None,
        false_matches: int,
        misses: int,
        curve: ScoreCurve,
        basis: str,
    ) -> OperatingPoint:
        chosen_false, chosen_missed = self.chosen.at(threshold)
        return operating_point(
            name,
            threshold,
            target,
            (false_matches, misses),
            (curve.n_nonmated, curve.n_mated),
            (chosen_false / self.chosen.n_nonmated, chosen_missed / self.chosen.n_mated),
            self._spread(threshold),
            self.points[0].people if self.points else 0,
            basis,
        )

    def _spread(self, threshold: float) -> tuple[Interval, Interval]:
        """Return how far the bounds of FMR and FNMR lie from the rate, as factors, at the points around."""
        # Resampling needs the comparisons themselves; between two points the wider one is taken.
        around = sorted(self.points, key=lambda p: p.threshold)
        k = int(np.searchsorted([p.threshold for p in around], threshold, "left"))
        exact = k < len(around) and around[k].threshold == threshold
        near = around[k : k + 1] if exact else around[max(k - 1, 0) : k + 1]
        fmr = [(p.fmr_interval[0] / p.fmr, p.fmr_interval[1] / p.fmr) for p in near if p.fmr > 0]
        fnmr = [(p.fnmr_interval[0] / p.fnmr, p.fnmr_interval[1] / p.fnmr) for p in near if p.fnmr > 0]
        return _widest(fmr), _widest(fnmr)


def operating_point(
    name: str,
    threshold: float,
    target_fmr: float | None,
    errors: tuple[int, int],
    trials: tuple[int, int],
    chosen: tuple[float, float],
    spread: tuple[Interval, Interval],
    people: int,
    basis: str,
) -> OperatingPoint:
    """Return the point with its intervals: pairs of numbers are (non-mated, mated).

    `errors` (false matches, misses) in `trials`; `spread` holds the people-resampled bounds as factors of the
    rates, which the exact binomial bounds widen where they lie outside.
    """
    rates = [e / n for e, n in zip(errors, trials, strict=True)]
    exact = [clopper_pearson(e, n) for e, n in zip(errors, trials, strict=True)]
    wide = [
        (max(0.0, min(rate * low, e[0])), min(1.0, max(rate * high, e[1])))
        for rate, (low, high), e in zip(rates, spread, exact, strict=True)
    ]
    return OperatingPoint(
        name=name,
        threshold=threshold,
        target_fmr=target_fmr,
        fmr=rates[0],
        fnmr=rates[1],
        fmr_interval=wide[0],
        fnmr_interval=wide[1],
        fmr_binomial=exact[0],
        fnmr_binomial=exact[1],
        false_matches=errors[0],
        misses=errors[1],
        n_mated=trials[1],
        n_nonmated=trials[0],
        people=people,
        chosen_fmr=chosen[0],
        chosen_fnmr=chosen[1],
        basis=basis,
    )


def check(calibration: Calibration, embedder_id: str) -> None:
    """Raise `EmbedderMismatch` unless the calibration was made with this embedder."""
    if calibration.embedder_id != embedder_id:
        raise EmbedderMismatch(
            f"the calibration was made with the embedder '{calibration.embedder_id}', this is '{embedder_id}'",
            hint="similarities of different embedders mean different things: calibrate this one, "
            "or use the model and settings it was made with",
        )


def data_digest(lines: Iterable[str]) -> str:
    """Return the SHA-256, in hex, of the sorted lines: one an image, its digest and its label."""
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def marks(values: Iterable[str]) -> tuple[str, ...]:
    """Return sorted short digests (40 bits) of image digests or names, to recognise them and not to read them.

    Among 10,000 and 10,000 others the chance that two are confused is 1e-4.
    """
    digests = {hashlib.sha256(v.encode("utf-8", "surrogateescape")).hexdigest()[:10] for v in values}
    return tuple(sorted(digests))


def _widest(factors: list[Interval]) -> Interval:
    if not factors:
        return 1.0, 1.0
    return min(low for low, _ in factors), max(high for _, high in factors)


def _asked(rate: float, targets: Sequence[float]) -> bool:
    if targets:
        return rate in targets
    power = math.log10(rate)
    return abs(power - round(power)) < 1e-9
