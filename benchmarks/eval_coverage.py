"""How often the 95 % intervals of `eval` hold the truth: simulated people, the truth from 3,000 of them.

    python benchmarks/eval_coverage.py [simulations]

Three samples a person, every one compared with every other. FNMR at a fixed FMR is the hard one: the threshold
is chosen on the same people, so its interval has to move with the threshold.
"""

from __future__ import annotations

import sys

import numpy as np

from facecli.evaluation.verification import evaluate
from facecli.trials.samples import Samples
from facecli.trials.scored import cross_of

DIM, NOISE, EACH = 24, 0.75, 3


def simulated(people: int, seed: int) -> Samples:
    """Return samples of people around a centre each."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.standard_normal((people, DIM)), EACH, axis=0)
    rows += NOISE * rng.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    subjects = tuple(f"p{k // EACH:05d}" for k in range(len(rows)))
    paths = tuple(f"{s}/{k}.jpg" for k, s in enumerate(subjects))
    return Samples(paths, subjects, ("",) * len(paths), rows.astype(np.float32))


def main() -> None:
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    whole = evaluate(cross_of(simulated(3000, 10**6)), replicates=2)
    truth = {(f.name, f.at): f.value for f in whole.figures}
    for people in (30, 100):
        held: dict[tuple[str, str], list[bool]] = {}
        for seed in range(simulations):
            found = evaluate(cross_of(simulated(people, seed)), replicates=300, seed=seed)
            for f in found.figures:
                if f.interval is not None:
                    inside = f.interval[0] <= truth[f.name, f.at] <= f.interval[1]
                    held.setdefault((f.name, f.at), []).append(inside)
        for (name, at), kept in held.items():
            print(f"{people:4d} people  {name} {at:12s} {100 * np.mean(kept):5.1f} % of {len(kept)}")


if __name__ == "__main__":
    main()
