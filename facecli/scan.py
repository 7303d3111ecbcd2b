"""Which owners have the rows most similar to a probe: all rows in float32, and the best of them anew in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEARCH_BYTES = 128 << 20
"""Memory for the similarities that are held at once."""

_ERROR = 2e-6
"""No less than how far two float32 similarities of unit templates may stray from each other."""

_ROWS = 4096
"""Rows that are compared in double precision at once."""


class Best(NamedTuple):
    """The owners most similar to a probe, by their best rows: best first, ties by owner, then row. All [k]."""

    owners: NDArray[np.int64]
    rows: NDArray[np.int64]
    similarities: NDArray[np.float64]


def best_rows(
    templates: NDArray[np.float32],
    probes: NDArray[np.float32],
    top: int,
    *,
    owners: NDArray[np.int32],
    shared: tuple[NDArray[np.int64], NDArray[np.int64]],
    exclude: NDArray[np.int64] | None = None,
) -> list[Best]:
    """Return, for each of `probes` [M, D], the `top` owners with the most similar rows; fewer where there are fewer.

    `owners` [N] says whose a row of `templates` [N, D] is: a row of a negative owner is passed over. `shared` are
    rows and their owners, [S] each, that count too. `exclude` [M] names a row for each probe that is passed
    over, -1 for none.
    """
    rows, whose = shared
    found = []
    step = max(1, SEARCH_BYTES // (4 * max(1, len(templates))))
    for start in range(0, len(probes), step):
        # A float64 probe would make NumPy convert all templates: 25 times slower.
        scores = probes[start : start + step] @ templates.T  # [step, N]
        scores[:, owners < 0] = -np.inf
        for at, row_scores in enumerate(scores, start):
            own = -1 if exclude is None else int(exclude[at])
            if own >= 0:
                row_scores[own] = -np.inf
            near = _promising(row_scores, owners, top)
            others = rows != own
            near, owner = np.append(near, rows[others]), np.append(owners[near], whose[others])
            found.append(_best(near, owner.astype(np.int64), similarities(templates, near, probes[at]), top))
    return found


def similarities(
    templates: NDArray[np.float32], rows: NDArray[np.int64], probe: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Compare `rows` with a probe [D] in double precision: each alone, so the others do not change its rounding."""
    exact = probe.astype(np.float64)
    parts = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    return np.concatenate([np.empty(0), *((templates[part] * exact).sum(axis=1) for part in parts)])


def _promising(scores: NDArray[np.float32], owners: NDArray[np.int32], top: int) -> NDArray[np.int64]:
    """Return the rows that may be the best of one of the best owners."""
    n, k = len(scores), min(len(scores), 4 * top)
    cut = -np.inf
    while k < n:
        rows = np.argpartition(scores, n - k)[n - k :]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        rows = rows[scores[rows] > -np.inf]
        _, first = np.unique(owners[rows], return_index=True)
        if len(first) >= top:
            cut = scores[rows[np.sort(first)[top - 1]]]
            break
        k *= 4
    return np.flatnonzero((scores >= cut - _ERROR) & (scores > -np.inf))


def _best(rows: NDArray[np.int64], owners: NDArray[np.int64], exact: NDArray[np.float64], top: int) -> Best:
    order = np.lexsort((rows, owners, -exact))
    _, first = np.unique(owners[order], return_index=True)
    order = order[np.sort(first)[:top]]
    return Best(owners[order], rows[order], exact[order])
