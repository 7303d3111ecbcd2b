"""Learning rates over a run: a linear warm-up, then half a cosine down to a hundredth.

Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts; Goyal et al., 2017, for the warm-up.
"""

from __future__ import annotations

import math

FLOOR = 0.01


def rate(step: int, steps: int, warm_up: int) -> float:
    """Return the factor of the learning rate at `step` of `steps`, both from 0: in (0, 1].

    >>> [round(rate(s, 12, 2), 3) for s in (0, 1, 2, 7, 11)]
    [0.5, 1.0, 1.0, 0.505, 0.034]
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1.0, done))) / 2
