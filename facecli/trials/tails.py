"""The errors among scored comparisons at every threshold of a range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli.hooks import Progress
from facecli.stats.metrics import matches
from facecli.trials.scored import Positions, Scored


@dataclass(frozen=True, eq=False)
class Tails:
    """The non-mated comparisons of the highest similarities and the mated ones of the lowest, by position.

    They hold all errors at every threshold from `lowest` to `highest`. A failure never matches, so it is among the
    mated ones only.
    """

    lowest: float
    highest: float
    nonmated: Positions
    nonmated_similarity: NDArray[np.float64]
    mated: Positions
    mated_similarity: NDArray[np.float64]

    def false(self, threshold: float) -> Positions:
        """Return the false matches at `threshold`."""
        return self.nonmated[matches(self.nonmated_similarity, threshold)]

    def missed(self, threshold: float) -> Positions:
        """Return the false non-matches at `threshold`; a failure is one at every threshold, even -inf."""
        return self.mated[~matches(self.mated_similarity, threshold)]


def tails(scored: Scored, lowest: float, highest: float, progress: Progress | None = None) -> Tails:
    """Return the errors at all thresholds from `lowest` to `highest`."""
    errors: list[tuple[Positions, NDArray[np.float64], Positions, NDArray[np.float64]]] = []
    total, done = scored.n_mated + scored.n_nonmated, 0
    # A float32 a step below the threshold first, which spares a copy of all scores in float64.
    bound = np.nextafter(np.float32(lowest), np.float32(-np.inf))
    for block in scored.blocks():
        high = np.flatnonzero((block.similarity >= bound) & ~block.mated)
        scores = block.similarity[high].astype(np.float64)
        high = high[(scores >= lowest) & (scores > -np.inf)]
        low = np.flatnonzero(block.mated)
        scores = block.similarity[low].astype(np.float64)
        low = low[(scores < highest) | (scores == -np.inf)]
        errors.append(
            (
                block.position(high),
                block.similarity[high].astype(np.float64),
                block.position(low),
                block.similarity[low].astype(np.float64),
            )
        )
        done += block.mated.size
        if progress is not None:
            progress(done, total)
    parts = [np.concatenate(part) for part in zip(*errors, strict=True)]
    return Tails(lowest, highest, parts[0].astype(np.int64), parts[1], parts[2].astype(np.int64), parts[3])
