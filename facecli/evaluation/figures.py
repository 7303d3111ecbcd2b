"""Figures with their intervals, and the errors behind them, which are all that intervals and comparisons need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Floats
from facecli.stats.bootstrap import IdentityBootstrap, MatedDesign, percentile_interval, rate_interval
from facecli.stats.curve import ScoreCurve
from facecli.stats.intervals import Interval, clopper_pearson
from facecli.trials.scored import Ints, Positions, Scored

Counts = NDArray[np.integer]

VERIFICATION, IDENTIFICATION = "1:1", "1:N"

FEW_PEOPLE = 30
"""Below this the spread between people is itself hardly known: in simulations, intervals get too narrow."""


@dataclass(frozen=True)
class Figure:
    """A number about a system and how far it can be trusted (95 %).

    `interval` resamples people and is nowhere inside `binomial`, the exact interval that takes comparisons as
    independent; it is the latter where people are unknown, and None where none can be given.
    `without_failures` is the figure over the comparisons in which both samples have a template.
    """

    task: str
    name: str
    """`fmr`, `fnmr`, `eer`, `auc`, `accuracy`, `tar`, `rank`, `fpir` or `fnir`."""
    at: str
    """What it is at: `threshold` (the one in force), `fmr 0.001`, `fpir 0.01`, `rank 1` ..."""
    value: float
    interval: Interval | None = None
    binomial: Interval | None = None
    errors: int | None = None
    trials: int | None = None
    threshold: float | None = None
    without_failures: float | None = None
    standard_error: float | None = None
    """Of a mean over folds."""


@dataclass(frozen=True, eq=False)
class Headline:
    """A figure with its errors: what it takes to draw other people for it.

    `false` and `missed` are the positions of the errors, sorted, at the figure's threshold. The error rate moves by
    `weights` . (FMR, FNMR) and, where the threshold was chosen at a rate of false matches, by `gain` times the
    logarithm of how FMR moves: other people would have had another threshold.
    """

    figure: Figure
    false: Positions
    missed: Positions
    weights: tuple[float, float]
    sign: int = 1
    """-1 where the figure is one minus an error rate."""
    gain: float = 0.0

    @property
    def pure(self) -> bool:
        """Whether it is a rate of one kind of error, so that it has a binomial interval."""
        return self.weights in ((1.0, 0.0), (0.0, 1.0))

    @property
    def wrong(self) -> Positions:
        """The positions of the errors that count in the figure."""
        # A position is mated or not, so the two lists share none.
        kinds = [errors for errors, w in zip((self.false, self.missed), self.weights, strict=True) if w]
        return np.concatenate(kinds) if kinds else self.missed[:0]


def gain_of(curve: ScoreCurve, target: float) -> float:
    """Return how much FNMR rises when the threshold moves down to an FMR lower by a factor e, around `target`."""
    strict, loose = (curve.at(curve.threshold_for_fmr(f * target))[1] for f in (0.5, min(2.0, 1 / target)))
    return (strict - loose) / curve.n_mated / math.log(min(2.0, 1 / target) / 0.5)


class Resampling(Protocol):
    """Turns errors at positions, counted `counts` times each (once), into replicates of their rates."""

    n_nonmated: int
    n_mated: int

    def fmr(self, positions: Positions, counts: Counts | None = None) -> Floats: ...

    def fnmr(self, positions: Positions, counts: Counts | None = None) -> Floats: ...


class PairResampling:
    """People resampled for comparisons of pairs; see `bootstrap`."""

    def __init__(self, scored: Scored, bootstrap: IdentityBootstrap) -> None:
        self._scored = scored
        self.n_mated, self.n_nonmated = scored.n_mated, scored.n_nonmated
        self._design = scored.design(bootstrap)
        self._mated = MatedDesign(bootstrap, scored.mated_persons())

    def fmr(self, positions: Positions, counts: Counts | None = None) -> Floats:
        """Return [R] replicates of FMR."""
        left, right = self._scored.persons(positions)
        return self._design.replicates(left, right, counts)

    def fnmr(self, positions: Positions, counts: Counts | None = None) -> Floats:
        """Return [R] replicates of FNMR."""
        return self._mated.replicates(self._scored.persons(positions)[0], counts)


class ProbeResampling:
    """People resampled for searches: a person comes with all their probes, the gallery stays.

    `nonmated` and `mated` int are the people of the searches of each kind; positions index them.
    """

    def __init__(self, nonmated: Ints, mated: Ints, bootstrap: IdentityBootstrap) -> None:
        self.n_nonmated, self.n_mated = nonmated.size, mated.size
        self._persons = (nonmated, mated)
        self._designs = tuple(MatedDesign(bootstrap, p) if p.size else None for p in self._persons)

    def fmr(self, positions: Positions, counts: Counts | None = None) -> Floats:
        """Return [R] replicates of FPIR."""
        return self._replicates(0, positions, counts)

    def fnmr(self, positions: Positions, counts: Counts | None = None) -> Floats:
        """Return [R] replicates of FNIR."""
        return self._replicates(1, positions, counts)

    def _replicates(self, kind: int, positions: Positions, counts: Counts | None) -> Floats:
        design = self._designs[kind]
        if design is None:
            return np.zeros(1)
        return design.replicates(self._persons[kind][positions], counts)


def interval_of(headline: Headline, resampling: Resampling | None) -> tuple[Interval | None, Interval]:
    """Return (the interval of people, None where they are unknown, and the exact binomial one) of a headline."""
    pure, figure = headline.pure, headline.figure
    if figure.errors is None or figure.trials is None:
        raise ValueError("a headline counts its errors")
    rate = figure.value if headline.sign > 0 else 1 - figure.value
    low, high = clopper_pearson(figure.errors, figure.trials)
    people = None
    if resampling is not None:
        drawn = replicates_of(headline, resampling)
        if pure:
            people = rate_interval(drawn, figure.errors, figure.trials)
        else:
            # A mixture of rates has no binomial interval of its own; that of as many errors bounds it.
            by_people = percentile_interval(drawn)
            people = max(0.0, min(by_people[0], low)), min(1.0, max(by_people[1], high))
    if not pure:
        low, high = min(low, rate), max(high, rate)
    return turned(people, headline.sign), turned((low, high), headline.sign) or (low, high)


def replicates_of(headline: Headline, resampling: Resampling) -> Floats:
    """Return [R] replicates of the error rate of a headline."""
    figure = headline.figure
    rate = figure.value if headline.sign > 0 else 1 - figure.value
    return rate + _moved(headline, resampling)


def difference_replicates(one: Headline, other: Headline, resampling: Resampling) -> Floats:
    """Return [R] replicates of the error rate of `one` less that of `other`, the same people drawn for both."""
    value = one.sign * (one.figure.value - other.figure.value)
    if one.pure and one.weights == other.weights and not one.gain and not other.gain:
        kind = 0 if one.weights[0] else 1
        positions, counts = signed(one.wrong, other.wrong)
        drawn = (resampling.fmr, resampling.fnmr)[kind](positions, counts)
        return value + drawn - int(np.sum(counts)) / (resampling.n_nonmated, resampling.n_mated)[kind]
    # They move each in its own way, by the same draws.
    return value + _moved(one, resampling) - _moved(other, resampling)


def signed(one: Positions, other: Positions) -> tuple[Positions, NDArray[np.int64]]:
    """Return the positions in one of two lists only, with +1 for the first and -1 for the second."""
    first, second = np.setdiff1d(one, other), np.setdiff1d(other, one)
    counts = np.concatenate([np.ones(first.size, np.int64), -np.ones(second.size, np.int64)])
    return np.concatenate([first, second]), counts


def turned(interval: Interval | None, sign: int) -> Interval | None:
    """Return the interval of one minus a rate where `sign` is -1."""
    if interval is None or sign > 0:
        return interval
    return 1 - interval[1], 1 - interval[0]


def _moved(headline: Headline, resampling: Resampling) -> Floats:
    """Return [R] how far the error rate of a headline moves when other people are drawn."""
    drawn: Floats = np.zeros(1)
    f, m = headline.weights
    if f or headline.gain:
        rate = headline.false.size / resampling.n_nonmated
        fmr = resampling.fmr(headline.false)
        drawn = drawn + f * (fmr - rate)
        if headline.gain and rate:
            # None at all is as good as half an error.
            least = 0.5 / resampling.n_nonmated
            drawn = drawn + headline.gain * np.log(np.maximum(fmr, least) / rate)
    if m:
        drawn = drawn + m * (resampling.fnmr(headline.missed) - headline.missed.size / resampling.n_mated)
    return drawn
