"""Comparisons: similarities with what is known about the pair, and their division by people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput
from facecli.stats.curve import ScoreCurve


@dataclass(frozen=True, eq=False)
class Comparisons:
    """P scored pairs.

    `similarity` float32 or float64 [P], -inf for a failure; `mated` bool [P]; `left` and `right` int [P]
    number the people from 0 without gaps, equal where mated; both None when nobody knows who is who.
    """

    similarity: NDArray[np.floating]
    mated: NDArray[np.bool_]
    left: NDArray[np.int32] | None = None
    right: NDArray[np.int32] | None = None

    @classmethod
    def of(
        cls,
        similarity: NDArray[np.floating],
        left_subject: Sequence[str],
        right_subject: Sequence[str],
    ) -> Comparisons:
        """Return comparisons of named subjects; a pair is mated when the names are equal."""
        names = np.concatenate([np.asarray(left_subject, dtype=str), np.asarray(right_subject, dtype=str)])
        _, codes = np.unique(names, return_inverse=True)
        left, right = np.split(codes.astype(np.int32), 2)
        return cls(np.asarray(similarity), left == right, left, right)

    def __post_init__(self) -> None:
        if self.similarity.shape != self.mated.shape or self.similarity.ndim != 1:
            raise BadInput(f"{self.similarity.size} similarities do not fit {self.mated.size} labels")
        if self.left is not None and self.right is not None:
            if self.left.shape != self.mated.shape or self.right.shape != self.mated.shape:
                raise BadInput("the subjects do not fit the similarities")
            wrong = np.flatnonzero((self.left == self.right) != self.mated)
            if wrong.size:
                raise BadInput(
                    f"comparison {int(wrong[0]) + 1} is labelled against its subjects",
                    hint="mated means that both are of the same subject",
                )

    def __len__(self) -> int:
        return self.similarity.size

    @property
    def people(self) -> int:
        """How many different people take part; 0 when nobody knows."""
        if self.left is None or self.right is None:
            return 0
        return int(max(self.left.max(initial=-1), self.right.max(initial=-1))) + 1

    def known(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return (`left`, `right`); raises `BadInput` where people are unknown."""
        if self.left is None or self.right is None:
            raise BadInput(
                "the comparisons do not say who is who",
                hint="add the columns left_subject and right_subject",
            )
        return self.left, self.right

    def curve(self) -> ScoreCurve:
        """Return the complete score curve; raises `BadInput` without mated or non-mated comparisons."""
        return ScoreCurve.from_scores(self.similarity[self.mated], self.similarity[~self.mated])

    def folds(self, folds: int, seed: int) -> NDArray[np.int64]:
        """Return [P] which cell of a division of the people each comparison lies in, `low * folds + high`.

        People are dealt to `folds` groups at random (seeded), `low` and `high` are the groups of the two.
        """
        left, right = self.known()
        group = np.random.default_rng(seed).permutation(self.people) % folds
        a, b = group[left], group[right]
        return np.minimum(a, b) * folds + np.maximum(a, b)


Mask = NDArray[np.bool_]


def disjoint_splits(cell: NDArray[np.int64], folds: int) -> Iterator[tuple[Mask, Mask]]:
    """Yield (train, test) bool [P] masks that share no person, so that every comparison is tested once.

    `cell` is what `Comparisons.folds` returns. The comparisons between groups a and b are tested against all
    that touch neither a nor b; `folds` is at least 3, or nothing would be left for a != b.
    """
    low, high = np.divmod(cell, folds)
    for a in range(folds):
        for b in range(a, folds):
            test = (low == a) & (high == b)
            if test.any():
                touched = (low == a) | (high == a) | (low == b) | (high == b)
                yield ~touched, test
