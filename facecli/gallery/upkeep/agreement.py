"""Says how far two embedders agree about the same photos: what a change of model would change, before it is made.

Both are judged on the photos that each has a template of. Rank 1 leaves one out: the best match of a sample among
all other photos, right when it shows the same subject. A photo that lies there twice is never its own match.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli.errors import DatabaseError
from facecli.gallery.gallery import Gallery

PROBES = 1000
"""Samples whose best match is looked for, drawn at random where there are more."""

PAIRS = 20_000
"""Mated pairs, and as many non-mated ones, that are drawn to correlate their similarities."""

BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Agreement:
    """What two embedders say of the same photos. Counts are of samples, correlations Spearman's, NaN below 3 pairs."""

    n_samples: int
    """Photos that both have a template of."""
    n_probes: int
    """Of these, those compared at rank 1; their subjects have another photo."""
    both_right: int
    only_old_right: int
    only_new_right: int
    neither_right: int
    n_mated_pairs: int
    mated_correlation: float
    n_nonmated_pairs: int
    nonmated_correlation: float
    only_old: tuple[str, ...]
    """Photos that only the old embedder has a template of."""
    only_new: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class _Side:
    """The common samples under one embedder: sample k is in row `rows[k]`."""

    gallery: Gallery
    rows: NDArray[np.int64]

    def of(self, at: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.gallery.take(self.rows[at])


def compare_embedders(
    old: Gallery,
    new: Gallery,
    *,
    imported: frozenset[str] = frozenset(),
    n_probes: int = PROBES,
    n_pairs: int = PAIRS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Compare what two embedders make of the photos of one database.

    `imported` are paths of `old` without a photo behind them, which `new` cannot have: they do not count. Raises
    `DatabaseError` when no photo has a template under both.
    """
    old_rows = {sample.path: sample.row for sample in old.samples if sample.path not in imported}
    samples = new.samples
    common = [sample for sample in samples if sample.path in old_rows]
    if not common:
        raise DatabaseError("no photo has a template under both embedders", path=new.root)
    number = {sample.subject: at for at, sample in enumerate(common)}
    person = np.array([number[sample.subject] for sample in common], np.int64)
    sides = (
        _Side(old, np.array([old_rows[sample.path] for sample in common], np.int64)),
        _Side(new, np.array([sample.row for sample in common], np.int64)),
    )
    rng = np.random.default_rng(seed)
    probes = _eligible(person, sides[1].rows)
    if len(probes) > n_probes:
        probes = np.sort(rng.choice(probes, n_probes, replace=False))
    tell = _Steps(progress, 2 * -(-len(common) // BLOCK_ROWS))
    right_old, right_new = (_rank1(side, person, probes, tell) for side in sides)
    mated = _mated_pairs(person, sides[1].rows, n_pairs, rng)
    nonmated = _nonmated_pairs(person, n_pairs, rng)
    shared = {sample.path for sample in common}
    return Agreement(
        n_samples=len(common),
        n_probes=len(probes),
        both_right=int((right_old & right_new).sum()),
        only_old_right=int((right_old & ~right_new).sum()),
        only_new_right=int((~right_old & right_new).sum()),
        neither_right=int((~right_old & ~right_new).sum()),
        n_mated_pairs=len(mated),
        mated_correlation=spearman(*(_similarities(side, mated) for side in sides)),
        n_nonmated_pairs=len(nonmated),
        nonmated_correlation=spearman(*(_similarities(side, nonmated) for side in sides)),
        only_old=tuple(path for path in old_rows if path not in shared),
        only_new=tuple(sample.path for sample in samples if sample.path not in shared),
        seed=seed,
    )


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation: Pearson's of the ranks, tied values sharing their mean rank.

    NaN below three pairs, and when all values of one side are equal.

    >>> round(spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 9, 8])), 12)
    0.8
    """
    if len(a) < 3:
        return float("nan")
    ranks_a, ranks_b = _centred_ranks(a), _centred_ranks(b)
    scale = float(np.sqrt((ranks_a**2).sum() * (ranks_b**2).sum()))
    return float((ranks_a * ranks_b).sum()) / scale if scale > 0 else float("nan")


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.asarray((ends - (counts - 1) / 2)[which], np.float64)
    return np.asarray(ranks - ranks.mean(), np.float64)


class _Steps:
    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _eligible(person: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the samples whose person has another photo with another content."""
    distinct = np.unique(np.stack([person, rows], axis=1), axis=0)
    contents = np.bincount(distinct[:, 0], minlength=int(person.max()) + 1)
    return np.flatnonzero(contents[person] > 1)


def _rank1(
    side: _Side, person: NDArray[np.int64], probes: NDArray[np.int64], tell: _Steps
) -> NDArray[np.bool_]:
    """Say for each of the samples `probes` whether its best match among all others is of its own person."""
    mine = side.of(probes)
    best = np.full(len(probes), -np.inf, np.float32)
    whose = np.full(len(probes), -1, np.int64)
    for start in range(0, len(person), BLOCK_ROWS):
        block = np.arange(start, min(start + BLOCK_ROWS, len(person)))
        scores = mine @ side.of(block).T  # [P, block]
        scores[side.rows[probes][:, None] == side.rows[block]] = -np.inf
        at = scores.argmax(axis=1) if len(probes) else np.empty(0, np.int64)
        top = scores[np.arange(len(probes)), at]
        better = top > best
        best[better], whose[better] = top[better], person[block][at[better]]
        tell.step()
    return np.asarray(whose == person[probes])


def _mated_pairs(
    person: NDArray[np.int64], rows: NDArray[np.int64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `n` pairs of different contents of one person; return those that differ, [P, 2]."""
    order = np.argsort(person, kind="stable")
    ends = np.searchsorted(person[order], person, side="right")
    starts = np.searchsorted(person[order], person, side="left")
    eligible = _eligible(person, rows)
    if not len(eligible):
        return np.empty((0, 2), np.int64)
    left = rng.choice(eligible, n)
    right = order[rng.integers(starts[left], ends[left])]
    pairs = np.sort(np.stack([left, right], axis=1)[rows[left] != rows[right]], axis=1)
    return np.unique(pairs, axis=0)


def _nonmated_pairs(person: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `n` pairs of samples; return those of different people that differ, [P, 2]."""
    pairs = np.sort(rng.integers(0, len(person), (n, 2)), axis=1)
    return np.unique(pairs[person[pairs[:, 0]] != person[pairs[:, 1]]], axis=0)


def _similarities(side: _Side, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    left, right = (side.of(pairs[:, k]).astype(np.float64) for k in (0, 1))
    return np.asarray((left * right).sum(axis=1))
