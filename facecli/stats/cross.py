"""Comparisons from templates, every one with every other, and from a csv of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput
from facecli.stats.comparisons import Comparisons

BLOCK = 4_000_000
"""Comparisons in a block of `cross_scores`: 16 MB of float32."""


@dataclass(frozen=True, eq=False)
class ScoreBlock:
    """The comparisons of samples `start` .. `stop` - 1 with all later ones: (i, j) with i < j, row by row.

    `similarities` float32 [B], `mated` bool [B], of `n` samples.
    """

    similarities: NDArray[np.float32]
    mated: NDArray[np.bool_]
    start: int
    stop: int
    n: int

    def samples(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sample numbers (i [B], j [B]) of the comparisons."""
        i, j = np.nonzero(_later(self.start, self.stop, self.n))
        return i + self.start, j + self.start


def cross_scores(
    templates: NDArray[np.float32],
    subjects: Sequence[str] | NDArray,
    strictness: NDArray[np.float32] | None = None,
    *,
    block: int = BLOCK,
) -> Iterator[ScoreBlock]:
    """Yield the comparisons of all i < j, in order, `block` or somewhat more at a time.

    `templates` float32 [N, D] of unit length, a row of NaN for a failure; `subjects` [N]. The smaller `strictness` [N]
    of the two is taken off each similarity. No matrix of N x N is ever held.
    """
    n = len(templates)
    if templates.ndim != 2 or len(subjects) != n:
        raise BadInput(f"templates of shape {templates.shape} do not fit {len(subjects)} subjects")
    _, codes = np.unique(np.asarray(subjects), return_inverse=True)
    # float64 would double the memory and a mixture is forty times as slow.
    rows = np.ascontiguousarray(templates, dtype=np.float32)
    start = 0
    while start < n - 1:
        stop = min(n - 1, start + max(1, block // (n - start)))
        keep = _later(start, stop, n)
        with np.errstate(invalid="ignore"):
            similarities = rows[start:stop] @ rows[start:].T
        if strictness is not None and strictness[start:].any():
            similarities -= np.minimum(strictness[start:stop, None], strictness[start:])
        similarities = similarities[keep]
        similarities[np.isnan(similarities)] = -np.inf
        mated = (codes[start:stop, None] == codes[None, start:])[keep]
        yield ScoreBlock(similarities, mated, start, stop, n)
        start = stop


def cross_comparisons(
    templates: NDArray[np.float32],
    subjects: Sequence[str] | NDArray,
    strictness: NDArray[np.float32] | None = None,
) -> Comparisons:
    """Return all comparisons of `cross_scores` at once, with their people: 13 bytes a comparison."""
    total = len(templates) * (len(templates) - 1) // 2
    similarity, mated = np.empty(total, dtype=np.float32), np.empty(total, dtype=bool)
    left, right = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    _, codes = np.unique(np.asarray(subjects), return_inverse=True)
    done = 0
    for part in cross_scores(templates, subjects, strictness):
        here = slice(done, done + part.similarities.size)
        i, j = part.samples()
        similarity[here], mated[here] = part.similarities, part.mated
        left[here], right[here] = codes[i], codes[j]
        done = here.stop
    return Comparisons(similarity, mated, left, right)


def _later(start: int, stop: int, n: int) -> NDArray[np.bool_]:
    return np.arange(n - start) > np.arange(stop - start)[:, None]
