"""Evaluates identification (1:N): CMC, rank k, FNIR at fixed FPIR, from searches of a gallery.

A database is searched with each of its own samples, that sample left out (for FNIR and rank), and once more with
the whole subject left out (for FPIR). Probes of their own are searched as they are: those of people who are
enrolled count for FNIR and rank, the others for FPIR.

FNIR is FNIR(N, R = N, T): the mate has to reach the threshold, at whatever rank (ISO/IEC 19795-1:2021, NIST FRTE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facecli.config import DEFAULT_REPLICATES
from facecli.errors import BadInput
from facecli.evaluation.figures import IDENTIFICATION, Figure, Headline, ProbeResampling
from facecli.evaluation.verification import AT_THRESHOLD, with_interval
from facecli.hooks import Progress
from facecli.stats.bootstrap import IdentityBootstrap
from facecli.stats.curve import ScoreCurve
from facecli.stats.intervals import trials_needed
from facecli.stats.metrics import Searches, cmc, matches, searches
from facecli.trials.samples import Samples
from facecli.trials.scored import Ints

FPIRS = (0.1, 0.01)
"""False positive identification rates at which FNIR is given, as far as the data support them."""
RANKS = (1, 5, 10)
CMC_RANKS = 50
"""Ranks of the CMC that are kept."""
BLOCK_SCORES = 4_000_000
"""Similarities that are worked on at once."""


@dataclass(frozen=True, eq=False)
class Identification:
    """The outcome.

    `searches` holds all of them; `mated` and `nonmated` int are the probes (rows of `probes`) of the searches of each
    kind, in the order of the headlines' positions. `cmc` is float64 [R], None without mated searches; `curve` has
    FPIR as its FMR and FNIR as its FNMR, None where one kind is missing.
    """

    probes: Samples
    gallery_subjects: int
    gallery_samples: int
    searches: Searches
    mated: Ints
    nonmated: Ints
    people: tuple[str, ...]
    person: Ints
    cmc: NDArray[np.float64] | None
    curve: ScoreCurve | None
    headlines: tuple[Headline, ...]
    unsupported: tuple[float, ...]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in the order in which they are shown."""
        return [h.figure for h in self.headlines]


def evaluate_database(
    samples: Samples,
    *,
    threshold: float | None = None,
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
    progress: Progress | None = None,
) -> Identification:
    """Search a database with each of its own samples, leaving it out. See `evaluate_probes`."""
    searched = _searched(samples, samples, True, progress)
    # With the subject left out, every sample is also a stranger.
    nonmated = np.arange(len(samples))
    return _outcome(samples, samples, searched, nonmated, threshold, seed, replicates)


def evaluate_probes(
    gallery: Samples,
    probes: Samples,
    *,
    threshold: float | None = None,
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
    progress: Progress | None = None,
) -> Identification:
    """Search `gallery` with each of `probes`; subjects of the same name are the same person.

    A failed probe is a miss, and no false positive; so is a subject all of whose gallery samples failed. Intervals
    resample the people of the probes; the gallery stays. Raises `BadInput` where a subject is not known.
    """
    searched = _searched(gallery, probes, False, progress)
    return _outcome(
        gallery, probes, searched, np.flatnonzero(np.isnan(searched.mate)), threshold, seed, replicates
    )


def _searched(gallery: Samples, probes: Samples, leave_out: bool, progress: Progress | None) -> Searches:
    for samples in (gallery, probes):
        if "" in samples.subjects:
            raise BadInput(
                "nobody knows who is shown",
                path=samples.paths[samples.subjects.index("")],
                hint="put photos into a folder for each person",
            )
    rows = np.ascontiguousarray(gallery.templates, dtype=np.float32)
    step = max(1, BLOCK_SCORES // max(1, len(rows)))
    parts = []
    for start in range(0, len(probes), step):
        stop = min(start + step, len(probes))
        with np.errstate(invalid="ignore"):
            block = probes.templates[start:stop].astype(np.float32) @ rows.T
        if gallery.strictness is not None and probes.strictness is not None:
            block -= np.minimum(probes.strictness[start:stop, None], gallery.strictness)
        block[np.isnan(block)] = -np.inf
        own = np.arange(start, stop) if leave_out else None
        parts.append(searches(block, probes.subjects[start:stop], gallery.subjects, own))
        if progress is not None:
            progress(stop, len(probes))
    return Searches.joined(parts)


def _outcome(
    gallery: Samples,
    probes: Samples,
    searched: Searches,
    nonmated: Ints,
    threshold: float | None,
    seed: int,
    replicates: int,
) -> Identification:
    mated = np.flatnonzero(~np.isnan(searched.mate))
    people, person = np.unique(np.array(probes.subjects), return_inverse=True)
    n_subjects = len(set(gallery.subjects))
    failed: NDArray[np.bool_] = np.asarray(np.isnan(probes.templates).any(axis=1), dtype=bool)
    mates, strangers = searched.mate[mated], searched.other[nonmated]
    curve = ScoreCurve.from_scores(mates, strangers) if mated.size and nonmated.size else None
    supported = [] if curve is None else [rate for rate in FPIRS if trials_needed(rate) <= nonmated.size]
    headlines: list[Headline] = []
    if mated.size:
        ranks = [k for k in RANKS if k == 1 or k < n_subjects]
        headlines += [_rank(searched.rank[mated], failed[mated], k) for k in ranks]
    if threshold is not None and nonmated.size:
        headlines.append(_fpir(strangers, threshold, failed[nonmated]))
    if threshold is not None and mated.size:
        headlines.append(_fnir(mates, AT_THRESHOLD, threshold, failed[mated]))
    if curve is not None:
        chosen = [(f"fpir {rate:g}", curve.threshold_for_fmr(rate)) for rate in supported]
        headlines += [_fnir(mates, at, chosen_threshold, failed[mated]) for at, chosen_threshold in chosen]
    resampling = search_resampling(person[nonmated], person[mated], len(people), seed, replicates)
    return Identification(
        probes=probes,
        gallery_subjects=n_subjects,
        gallery_samples=len(gallery),
        searches=searched,
        mated=mated,
        nonmated=nonmated,
        people=tuple(people.tolist()),
        person=person,
        cmc=cmc(searched, min(CMC_RANKS, n_subjects)) if mated.size else None,
        curve=curve,
        headlines=tuple(with_interval(headline, resampling) for headline in headlines),
        unsupported=() if curve is None else tuple(rate for rate in FPIRS if rate not in supported),
    )


def search_resampling(
    nonmated: Ints, mated: Ints, people: int, seed: int, replicates: int
) -> ProbeResampling | None:
    """Return what resamples the people of the probes; None for one person."""
    if people < 2:
        return None
    return ProbeResampling(nonmated, mated, IdentityBootstrap(people, replicates=replicates, seed=seed))


def _rank(ranks: NDArray[np.float64], failed: NDArray[np.bool_], k: int) -> Headline:
    missed = np.flatnonzero(ranks > k)
    return _headline("rank", f"rank {k}", missed, ranks.size, None, failed, sign=-1)


def _fnir(mates: NDArray[np.float64], at: str, threshold: float, failed: NDArray[np.bool_]) -> Headline:
    # A failure is a miss at every threshold, even -inf.
    missed = np.flatnonzero(~matches(mates, threshold))
    return _headline("fnir", at, missed, mates.size, threshold, failed)


def _fpir(strangers: NDArray[np.float64], threshold: float, failed: NDArray[np.bool_]) -> Headline:
    false = np.flatnonzero(matches(strangers, threshold))
    headline = _headline("fpir", AT_THRESHOLD, false, strangers.size, threshold, failed)
    return replace(headline, false=false, missed=headline.missed[:0], weights=(1.0, 0.0))


def _headline(
    name: str,
    at: str,
    errors: Ints,
    trials: int,
    threshold: float | None,
    failed: NDArray[np.bool_],
    sign: int = 1,
) -> Headline:
    def value(rate: float) -> float:
        return rate if sign > 0 else 1 - rate

    usable = int(np.count_nonzero(~failed))
    figure = Figure(
        task=IDENTIFICATION,
        name=name,
        at=at,
        value=value(errors.size / trials),
        errors=int(errors.size),
        trials=trials,
        threshold=threshold,
        without_failures=value(int(np.count_nonzero(~failed[errors])) / usable) if usable else None,
    )
    nothing = np.empty(0, np.int64)
    return Headline(figure, nothing, errors.astype(np.int64), (0.0, 1.0), sign)
