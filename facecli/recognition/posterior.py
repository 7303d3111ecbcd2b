"""How probable it is that a face is each of the people it was compared with, or nobody who is enrolled."""

from __future__ import annotations

import math

import numpy as np

from facecli.arrays import Floats


def posterior(llr: Floats, others: int, most: float, prior: float) -> Floats:
    """Return float64 [K + 1] the probabilities of K people, and last that of nobody; they sum to at most 1.

    `llr` float64 [K], in nats, is the log-likelihood ratio of each; each of the `others` who were not looked at has
    `most` at most, and is counted with that: no probability is above what a look at all would give. `prior` (0 .. 1) is
    that of being enrolled, shared equally by everybody who is.
    """
    weights = np.exp(np.append(llr, most)) * (prior / (llr.size + others))
    weights[-1] *= others
    nobody = 1 - prior
    return np.append(weights[:-1], nobody) / (weights.sum() + nobody)


def agreeing(probability: float, match: bool) -> float | None:
    """Return `probability`, six decimals rounded down, or None where it says the opposite of `match`."""
    return math.floor(probability * 1e6) / 1e6 if (probability >= 0.5) == match else None
