"""How often the 95 % intervals hold the truth: simulated people with levels of their own.

A non-mated similarity is m0 + u_i + u_j + noise, a mated one m1 + v_i + noise, all normal, so that the true
FMR and FNMR are known. People with a high u match with many (wolves and lambs), people with a low v miss
often (goats); `spread` is the standard deviation of u and v, the noise is 1. "lists" have each person in few
pairs, "cross" compares everyone with everyone.

    python benchmarks/coverage.py [--runs 200] [--replicates 500]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from facecli.stats.bootstrap import (
    IdentityBootstrap,
    MatedDesign,
    NonmatedDesign,
    people_interval,
    rate_interval,
)
from facecli.stats.comparisons import Comparisons
from facecli.stats.intervals import clopper_pearson

NORMAL = NormalDist()
MATED_MEAN = 4.0
MATED_PER_PERSON = 3


@dataclass(frozen=True)
class Case:
    """`pairs` non-mated comparisons, 0 for all of `people`; threshold at the true `fmr`."""

    name: str
    people: int
    spread: float
    fmr: float
    pairs: int = 0


CASES = [
    Case("lists, no levels", 2000, 0.0, 1e-2, pairs=3000),
    Case("lists", 400, 0.5, 1e-2, pairs=3000),
    Case("lists, few pairs", 400, 0.5, 1e-2, pairs=300),
    Case("cross, no levels", 200, 0.0, 1e-3),
    Case("cross", 60, 0.3, 1e-2),
    Case("cross", 200, 0.3, 1e-2),
    Case("cross", 200, 0.3, 1e-3),
    Case("cross", 600, 0.3, 1e-3),
    Case("cross, strong levels", 200, 0.7, 1e-2),
    Case("cross, strong levels", 600, 0.7, 1e-3),
]


def simulate(case: Case, rng: np.random.Generator) -> Comparisons:
    """Return mated and non-mated comparisons of a fresh draw of people."""
    n = case.people
    u, v = rng.normal(0, case.spread, (2, n))
    if case.pairs:
        left = rng.integers(0, n, case.pairs)
        right = (left + rng.integers(1, n, case.pairs)) % n
    else:
        left, right = np.triu_indices(n, 1)
    person = np.repeat(np.arange(n), MATED_PER_PERSON)
    nonmated = u[left] + u[right] + rng.normal(size=left.size)
    mated = MATED_MEAN + v[person] + rng.normal(size=person.size)
    return Comparisons(
        np.concatenate([mated, nonmated]),
        np.arange(mated.size + nonmated.size) < mated.size,
        np.concatenate([person, left]).astype(np.int32),
        np.concatenate([person, right]).astype(np.int32),
    )


def cover(case: Case, runs: int, replicates: int) -> dict[str, float]:
    """Return the share of runs in which each interval holds the truth."""
    s0, s1 = math.sqrt(1 + 2 * case.spread**2), math.sqrt(1 + case.spread**2)
    threshold = s0 * NORMAL.inv_cdf(1 - case.fmr)
    true_fnmr = NORMAL.cdf((threshold - MATED_MEAN) / s1)
    rng = np.random.default_rng(0)
    held: dict[str, list[bool]] = {}
    for run in range(runs):
        data = simulate(case, rng)
        left, right = data.known()
        bootstrap = IdentityBootstrap(case.people, replicates=replicates, seed=run)
        match = data.similarity >= threshold
        false, missed = match & ~data.mated, ~match & data.mated
        n_mated = int(data.mated.sum())
        n_false, n_missed = int(false.sum()), int(missed.sum())
        nonmated = NonmatedDesign.listed(bootstrap, left[~data.mated], right[~data.mated])
        fmr = nonmated.replicates(left[false], right[false])
        fnmr = MatedDesign(bootstrap, left[data.mated]).replicates(left[missed])
        found = {
            "FMR quoted": (rate_interval(fmr, n_false, len(data) - n_mated), case.fmr),
            "FMR people": (people_interval(fmr, n_false / (len(data) - n_mated)), case.fmr),
            "FMR binomial": (clopper_pearson(n_false, len(data) - n_mated), case.fmr),
            "FNMR quoted": (rate_interval(fnmr, n_missed, n_mated), true_fnmr),
            "FNMR binomial": (clopper_pearson(n_missed, n_mated), true_fnmr),
        }
        for name, ((low, high), truth) in found.items():
            held.setdefault(name, []).append(low <= truth <= high)
    return {name: float(np.mean(hits)) for name, hits in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=500)
    options = parser.parse_args()
    columns = ["FMR quoted", "FMR people", "FMR binomial", "FNMR quoted", "FNMR binomial"]
    print(f"{'':22}{'people':>7}{'spread':>7}{'FMR':>7}", *(f"{c:>14}" for c in columns))
    for case in CASES:
        found = cover(case, options.runs, options.replicates)
        cells = [f"{found[c]:14.3f}" for c in columns]
        print(f"{case.name:22}{case.people:7}{case.spread:7.1f}{case.fmr:7.0e}", *cells, flush=True)


if __name__ == "__main__":
    main()
