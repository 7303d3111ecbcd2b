"""How long, and in how much memory, a hundred million comparisons are evaluated: 14,143 templates with one another.

    python benchmarks/eval_scale.py            # 100,005,153 comparisons
    python benchmarks/eval_scale.py 2000       # so many people, of five samples each

Point estimates first: the exact curve to 1e-7, EER, FNMR at fixed FMR. Then everything, with the intervals.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from facecli.evaluation.identification import evaluate_database
from facecli.evaluation.verification import TARGETS, evaluate
from facecli.trials.samples import Samples
from facecli.trials.scored import cross_of, curve_of

DIM = 128


def samples_of(people: int, each: int, extra: int = 0, seed: int = 0) -> Samples:
    """Return samples of people around a centre each, about as hard as faces: EER near 1 %."""
    rng = np.random.default_rng(seed)
    person = np.sort(np.concatenate([np.repeat(np.arange(people), each), np.arange(extra)]))
    rows = rng.standard_normal((people, DIM), dtype=np.float32)[person]
    rows += 1.2 * rng.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    subjects = tuple(f"p{k:05d}" for k in person)
    paths = tuple(f"{s}/{k}.jpg" for k, s in enumerate(subjects))
    return Samples(paths, subjects, ("",) * len(paths), rows)


def peak_gib() -> float:
    """Return the most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    people = int(sys.argv[1]) if len(sys.argv) > 1 else 2828
    samples = samples_of(people, 5, extra=3 if people == 2828 else 0)
    scored = cross_of(samples)
    total = scored.n_mated + scored.n_nonmated
    print(f"{len(samples):,} samples of {people:,} people: {total:,} comparisons")

    start = time.perf_counter()
    curve = curve_of(scored)
    eer = curve.eer()
    fnmrs = [curve.at(curve.threshold_for_fmr(t))[1] / curve.n_mated for t in TARGETS]
    print(f"point estimates: {time.perf_counter() - start:.1f} s, {peak_gib():.2f} GiB at most")
    at_rates = [f"FNMR {f:.4f} at FMR {t:g}" for f, t in zip(fnmrs, TARGETS, strict=True)]
    print(f"  EER {eer.rate:.5f}; {', '.join(at_rates)}")
    del curve

    start = time.perf_counter()
    found = evaluate(scored)
    print(f"1:1 with intervals: {time.perf_counter() - start:.1f} s, {peak_gib():.2f} GiB at most")
    for figure in found.figures:
        bounds = "" if figure.interval is None else "{:.5f} to {:.5f}".format(*figure.interval)
        print(f"  {figure.name} {figure.at} {figure.value:.5f} {bounds}")
    del found

    start = time.perf_counter()
    searches = evaluate_database(samples)
    print(f"1:N leaving one out: {time.perf_counter() - start:.1f} s, {peak_gib():.2f} GiB at most")
    for figure in searches.figures:
        bounds = "" if figure.interval is None else "{:.5f} to {:.5f}".format(*figure.interval)
        print(f"  {figure.name} {figure.at} {figure.value:.5f} {bounds}")


if __name__ == "__main__":
    main()
