"""How often a stranger would be taken for somebody in this database, counted on the database itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.calibration.decision import Rule, rule_for_fpir
from facecli.errors import BadInput, DatabaseError, printable
from facecli.gallery.searchable import Owned, Searchable
from facecli.stats.bootstrap import IdentityBootstrap, MatedDesign, rate_interval
from facecli.stats.intervals import Interval, trials_needed
from facecli.stats.metrics import fmr_for_fpir

SEARCH_BYTES = 128 << 20
"""Memory for the similarities that are held at once."""

CHECKED = 5000
"""Samples that `false_alarms` searches at most, unless the FPIR takes more."""


@dataclass(frozen=True)
class FalseAlarms:
    """How often a stranger matches anybody enrolled: the FPIR wanted, and the one found in the gallery itself.

    `errors` of `probes` samples match a sample of another subject; the rate is their share, its 95 % interval
    resamples subjects and is nowhere inside the exact binomial one.
    """

    target: float
    threshold: float
    errors: int
    probes: int
    interval: Interval
    subjects: int
    samples: int
    closest: tuple[str, str, float]
    """The two most similar samples of different subjects, and their similarity."""

    @property
    def fpir(self) -> float:
        """Share of the probes that matched another subject."""
        return self.errors / self.probes

    @property
    def above_target(self) -> bool:
        """Whether the gallery contradicts the target: the whole interval lies above it."""
        return self.interval[0] > self.target

    def record(self) -> dict[str, Any]:
        """Return what records of `find` carry."""
        return {
            "target": self.target,
            "measured": round(self.fpir, 6),
            "interval": [round(bound, 6) for bound in self.interval],
            "false_alarms": self.errors,
            "probes": self.probes,
        }

    def describe(self) -> str:
        """Return the check in one sentence."""
        low, high = self.interval
        return (
            f"threshold {self.threshold:g} for an FPIR of {self.target:g} over {self.subjects:,} people"
            f" ({self.samples:,} samples); checked by leaving each person out: {self.errors:,} of {self.probes:,}"
            f" samples match somebody else, {100 * self.fpir:.3g} % ({100 * low:.3g} to {100 * high:.3g} %)"
        )

    def suspect(self) -> str:
        """Return what to look at where the gallery contradicts the target."""
        one, other, similarity = self.closest
        return (
            f"more false alarms than asked for: is somebody enrolled under two names?"
            f" The closest are {one} and {other} ({similarity:.4f})"
        )


def rule_for_gallery(
    rule: Rule, fpir: float, gallery: Searchable, *, seed: int = 0
) -> tuple[Rule, FalseAlarms]:
    """Return the rule whose threshold gives `fpir` over the gallery, and how it fares there.

    See `rule_for_fpir` for the threshold and `false_alarms` for the check. Raises `BadInput` where fewer than
    3 / `fpir` samples are there (rule of three): no check on them could tell whether it holds.
    """
    needed, have = trials_needed(fpir), gallery.n_samples
    if have < needed:
        fmr = fmr_for_fpir(fpir, max(1, have))
        raise BadInput(
            f"an FPIR of {fpir:g} needs at least {needed:,} samples to be checked on, {have:,} are enrolled",
            path=gallery.root,
            hint=f"set the threshold by an FMR: {fmr:.2g} comes to that FPIR if comparisons are independent",
            advice="use_fmr_unchecked",
            values={"fmr": f"{fmr:.2g}"},
        )
    strict = rule_for_fpir(rule, fpir, gallery.n_samples)
    return strict, false_alarms(gallery, strict.threshold, fpir, seed=seed)


def false_alarms(gallery: Searchable, threshold: float, target: float, *, seed: int = 0) -> FalseAlarms:
    """Search each sample among all other subjects, so that it is a stranger's; see `FalseAlarms`.

    Of a large gallery `CHECKED` samples are drawn at random, or 3 / `target` if that is more.
    Raises `BadInput` with fewer than two subjects.
    """
    if gallery.n_subjects < 2:
        raise BadInput(
            "leaving each person out needs two people or more",
            path=gallery.root,
            hint="set the threshold by an FMR instead",
            advice="use_fmr",
        )
    owned = gallery.owned()
    person = owned.people
    probes = np.arange(len(person))
    enough = max(CHECKED, trials_needed(target))
    if len(probes) > enough:
        probes = np.sort(np.random.default_rng(seed).choice(probes, enough, replace=False))
    best, nearest = _nearest_strangers(owned, probes, gallery.root)
    # Six decimals, as `Rule.judge` counts them.
    wrong = np.round(best, 6) >= threshold
    errors = int(np.count_nonzero(wrong))
    # Only who was searched can be resampled: of a hundred thousand people the draws alone would fill a gigabyte.
    searched, who = np.unique(person[probes], return_inverse=True)
    design = MatedDesign(IdentityBootstrap(searched.size, seed=seed), who)
    top = int(np.argmax(best))
    pair = [owned.path_of(int(at)) for at in (probes[top], nearest[top])]
    return FalseAlarms(
        target=target,
        threshold=threshold,
        errors=errors,
        probes=len(probes),
        interval=rate_interval(design.replicates(who[wrong]), errors, len(probes)),
        subjects=gallery.n_subjects,
        samples=gallery.n_samples,
        closest=(pair[0], pair[1], float(best[top])),
    )


def _nearest_strangers(
    owned: Owned, probes: NDArray[np.int64], root: Path
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how similar each of `probes` is to the most similar row of another person, and which one that is.

    What both faces' quality asks for is taken off. Probes and results are positions in `owned.rows`. The templates are
    read block by block. Raises `DatabaseError`, which names `root`, for a similarity that no templates have.
    """
    templates, rows, person, strictness = owned.templates, owned.rows, owned.people, owned.strictness
    best = np.full(len(probes), -np.inf)
    nearest = np.zeros(len(probes), dtype=np.int64)
    wanted = np.ascontiguousarray(templates[rows[probes]])
    step = max(1, SEARCH_BYTES // (4 * (len(probes) + templates.shape[1])))
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = wanted @ templates[rows[here]].T
        _check(scores, root)
        if strictness is not None and strictness[here].any():
            scores -= np.minimum(strictness[probes][:, None], strictness[here])
        scores[person[probes][:, None] == person[here]] = -np.inf
        at = scores.argmax(axis=1)
        highest = scores[np.arange(len(probes)), at]
        higher = highest > best
        best[higher], nearest[higher] = highest[higher], start + at[higher]
    return best, nearest


def _check(scores: NDArray[np.float32], root: Path) -> None:
    furthest = float(np.abs(scores).max(initial=0))
    # Not a number compares as false, too.
    if not furthest <= 1.001:
        raise DatabaseError(
            f"two of its templates have a similarity of {furthest:.6g}, which templates cannot have",
            path=root,
            hint="a repair forgets what is damaged, and a refresh makes it anew",
            advice="repair_templates",
            values={"root": printable(root)},
        )
