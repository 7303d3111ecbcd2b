"""Retrieval figures of labelled templates, each sample searched among all others: pure NumPy.

A query without a mate is left out, not scored 0. Musgrave, Belongie, Lim, "A metric learning reality check",
ECCV 2020, section 3.2. Equal similarities are ordered by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli.arrays import Floats
from facecli.errors import BadInput

BLOCK = 1024
"""Queries ranked at once."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Figures of each query that has a mate, [Q] float64; `subject` int [Q] numbers their people.

    R is the number of mates of a query. `precision_at_1`: is the nearest sample a mate (rank-1 of a search
    that leaves the sample out). `map_at_r`: the mean over the first R ranks of the precision there, 0 where the
    rank holds no mate. `r_precision`: share of mates in the first R. `reciprocal_rank` of the nearest mate.
    """

    precision_at_1: Floats
    map_at_r: Floats
    r_precision: Floats
    reciprocal_rank: Floats
    subject: NDArray[np.int64]


def retrieval(templates: NDArray[np.floating], subjects: Sequence[str] | NDArray) -> Retrieval:
    """Return the figures of `templates` [N, D], unit rows, of `subjects` [N].

    Raises `BadInput` when nobody has two samples.
    """
    _, codes = np.unique(np.asarray(subjects), return_inverse=True)
    mates = np.bincount(codes)[codes] - 1
    queries = np.flatnonzero(mates > 0)
    if queries.size == 0:
        raise BadInput("no subject has two samples", hint="retrieval needs a mate for some sample")
    blocks: list[Floats] = []
    for start in range(0, queries.size, BLOCK):
        rows = queries[start : start + BLOCK]
        s = templates[rows] @ templates.T
        # The query itself comes last and is no mate.
        s[np.arange(rows.size), rows] = -np.inf
        order = np.argsort(-s, axis=1, kind="stable")[:, :-1]
        hit = codes[order] == codes[rows][:, None]
        r = mates[rows]
        within = hit & (np.arange(hit.shape[1]) < r[:, None])
        precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
        blocks.append(
            np.stack(
                [
                    hit[:, 0].astype(np.float64),
                    (precision * within).sum(1) / r,
                    within.sum(1) / r,
                    1.0 / (1 + hit.argmax(1)),
                ]
            )
        )
    figures = np.concatenate(blocks, axis=1)
    return Retrieval(figures[0], figures[1], figures[2], figures[3], codes[queries].astype(np.int64))
