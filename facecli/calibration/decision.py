"""The rule a decision follows: a threshold, the error rates behind it, and where both come from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from facecli.calibration.calibration import Calibration, OperatingPoint, check
from facecli.calibration.files import find_calibration, installed_path, load
from facecli.config import DEFAULT_FMR, DEFAULT_PRIOR
from facecli.errors import NoCalibration, UsageError
from facecli.stats.intervals import rule_of_three, trials_needed


@dataclass(frozen=True)
class Decision:
    """What a rule says of one comparison, and what that rests on.

    `similarity` is a cosine in -1..1 to six decimals, and `match` says that it reaches `threshold`. `fmr` and `fnmr`
    are the error rates there, None where nobody measured them; `probability` is that of a mated pair, None without a
    calibration.
    """

    similarity: float
    threshold: float
    match: bool
    fmr: float | None
    fnmr: float | None
    probability: float | None


@dataclass(frozen=True)
class Rule:
    """Match means `similarity >= threshold`.

    `point` holds the rates at the threshold and `calibration` the evidence; both are None when the threshold
    was set by hand for an embedder that nobody calibrated. `source` says where the calibration came from.
    """

    threshold: float
    point: OperatingPoint | None
    calibration: Calibration | None
    source: str
    prior: float = DEFAULT_PRIOR

    @property
    def fmr(self) -> float | None:
        """The false match rate at the threshold, to six digits; None where nobody measured it."""
        return None if self.point is None else float(f"{self.point.fmr:.6g}")

    @property
    def fnmr(self) -> float | None:
        """The false non-match rate at the threshold, likewise."""
        return None if self.point is None else float(f"{self.point.fnmr:.6g}")

    def judge(self, similarity: float, strictness: float = 0.0, *, rated: bool = True) -> Decision:
        """Return the decision on a similarity, whose threshold is higher by `strictness` for two faces of poor quality.

        The similarity counts to six decimals, as it is shown, so that what is shown and what is decided agree. Not
        `rated` are faces whose quality is below what the calibration's rates hold for: there are none for them.
        """
        similarity = round(float(similarity), 6)
        threshold = round(self.threshold + strictness, 6) if strictness else self.threshold
        match = similarity >= threshold
        if not rated:
            return Decision(similarity, threshold, match, None, None, None)
        probability = None
        if self.calibration is not None:
            probability = round(self.calibration.probability(similarity - strictness, self.prior), 6)
        return Decision(similarity, threshold, match, self.fmr, self.fnmr, probability)

    def rates(self, quality: float | None) -> bool:
        """Say whether the calibration's rates hold for a face of this quality; None is of nobody knows which."""
        return quality is None or self.calibration is None or quality >= self.calibration.min_quality

    def describe(self) -> str:
        """Return the rule in one sentence."""
        if self.point is None:
            return f"threshold {self.threshold:g}, set by hand: no calibration says how often it errs"
        fmr, fnmr, point = self.point.fmr_interval, self.point.fnmr_interval, self.point
        return (
            f"threshold {self.threshold:g}: FMR {_percent(point.fmr)} ({_percent(fmr[0])} to {_percent(fmr[1])}),"
            f" FNMR {_percent(point.fnmr)} ({_percent(fnmr[0])} to {_percent(fnmr[1])}), 95 % intervals;"
            f" {self.source}"
        )


def make_rule(
    embedder_id: str,
    *,
    user_dir: Path,
    threshold: float | None = None,
    fmr: float | None = None,
    calibration: Path | Calibration | None = None,
    beside: Path | None = None,
    prior: float = DEFAULT_PRIOR,
) -> Rule:
    """Return the rule for an embedder: the threshold as given, or the one for `fmr` from its calibration.

    `calibration`, or the file of one, is used in place of the installed or shipped one; `beside` is where a checkpoint
    would keep its own, which counts when neither is there. Raises `NoCalibration` when there is none and no
    `threshold`, `EmbedderMismatch` for another embedder's.
    """
    if threshold is not None and fmr is not None:
        raise UsageError("threshold and fmr each set the threshold", hint="give one of them")
    if threshold is not None and not -1 <= threshold <= 1:
        raise UsageError(
            f"a threshold of {threshold:g} is no similarity", hint="similarities lie between -1 and 1"
        )
    if not 0 < prior < 1:
        raise UsageError(f"a prior of {prior:g} is not between 0 and 1")
    in_force: Calibration | None
    if isinstance(calibration, Calibration):
        in_force, source = (
            calibration,
            f"calibration on {calibration.chosen_on.description or 'data of its own'}",
        )
    elif calibration is not None:
        in_force, source = load(calibration), f"calibration {calibration}"
    else:
        in_force = find_calibration(embedder_id, user_dir)
        installed = installed_path(embedder_id, user_dir)
        source = (
            f"calibration {installed}" if installed.exists() else "the calibration that came with facecli"
        )
        if in_force is None and beside is not None and beside.is_file():
            in_force, source = load(beside), f"calibration {beside}, made when the model was trained"
    if in_force is not None:
        check(in_force, embedder_id)
    if threshold is not None:
        point = None if in_force is None else in_force.at(threshold)
        return Rule(threshold, point, in_force, source if in_force is not None else "", prior)
    if in_force is None:
        raise NoCalibration(
            f"nobody calibrated the embedder '{embedder_id}', so no threshold is known",
            hint="calibrate it on pairs of your own, or give a threshold",
            advice="calibrate",
        )
    point = in_force.threshold_for(fmr if fmr is not None else DEFAULT_FMR)
    return Rule(point.threshold, point, in_force, source, prior)


def rule_for_fpir(rule: Rule, fpir: float, samples: int) -> Rule:
    """Return `rule` with the threshold at which a stranger matches any of `samples` with probability `fpir`.

    Samples are taken as independent (see `metrics.fmr_for_fpir`), which errs on the strict side: those of one
    subject match together or not at all. Raises `NoCalibration` when the calibration does not reach so far.
    """
    if not 0 < fpir < 1:
        raise UsageError(f"an FPIR of {fpir:g} is not between 0 and 1")
    if rule.calibration is None:
        raise NoCalibration("an FPIR is chosen by a calibration, and there is none")
    # Only this asks for it, and its import is felt at every start.
    from facecli.stats.metrics import fmr_for_fpir, fpir_for_fmr

    fmr = fmr_for_fpir(fpir, samples)
    have = rule.calibration.chosen.n_nonmated
    if have < trials_needed(fmr):
        least = fpir_for_fmr(rule_of_three(have), samples)
        raise NoCalibration(
            f"an FPIR of {fpir:g} over {samples:,} samples takes an FMR of {fmr:.2g}, and that"
            f" {trials_needed(fmr):,} non-mated comparisons: the calibration has {have:,}",
            hint=f"ask for an FPIR of {math.ceil(least * 1e4) / 1e4:g} or more, or calibrate on more pairs",
        )
    point = rule.calibration.threshold_for(fmr)
    return replace(rule, threshold=point.threshold, point=point)


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
