"""One moment of a store: whose each row of the matrix is, and the search among them.

Nothing but numbers is held, a few bytes a row; names are looked up for what is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.config import cores
from facecli.errors import DatabaseError
from facecli.gallery.store import row_owners
from facecli.gallery.store.files import INDEX, Damaged
from facecli.gallery.store.int8_copy import WORTH_BYTES
from facecli.gallery.store.reader import Reader, Snapshot
from facecli.gallery.store.search import Best, best_rows, similarities
from facecli.gallery.store.unit import are_unit, check_unit

_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Moment:
    """Subjects are numbered in the order of their names, so that numbers decide ties as names would."""

    now: Snapshot
    ids: NDArray[np.int32]
    """[subjects]: the id of each in the index."""
    owners: NDArray[np.int32]
    """[N]: the number of the subject whose template is in each row; negative for a row of several or of none."""
    shared: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Rows of several subjects, and the subjects, one for each time."""

    @classmethod
    def of(cls, kept: Reader) -> Moment:
        """Return the present moment of a store; within a transaction of the caller, that of the transaction.

        A matrix so small that it is read in no time is read: a row that is not of length 1 is a `DatabaseError`.
        """
        now = kept.snapshot()
        ids = np.array(now.subjects, np.int32)
        several = np.array(now.shared, np.int64).reshape(-1, 2)
        number = np.full(ids.max(initial=0) + 1, row_owners.NOBODY, np.int32)
        number[ids] = np.arange(len(ids))
        if max(now.owners.max(initial=0), several[:, 1].max(initial=0)) >= len(number):
            raise Damaged(f"{INDEX} is damaged (a row is of no subject)", path=kept.folder)
        owners = np.where(now.owners >= 0, number[np.maximum(now.owners, 0)], now.owners)
        shared = number[several[:, 1]].astype(np.int64)
        if shared.min(initial=0) < 0 or np.count_nonzero(owners < 0) > np.count_nonzero(now.owners < 0):
            raise Damaged(f"{INDEX} is damaged (a row is of no subject)", path=kept.folder)
        if now.templates.nbytes < WORTH_BYTES:
            _check_rows(now)
        return cls(now, ids, owners, (several[:, 0], shared))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return these rows of the matrix, float32 [n, D]; raises `DatabaseError` where one is no template."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.now.templates):
            raise Damaged(f"{INDEX} is damaged (it names a row that is not there)")
        found = self.now.templates[rows]
        check_unit(found, rows)
        return found

    def check_numbering(self, numbering: bytes, root: Path) -> None:
        """Raise `DatabaseError` if the rows have other numbers than under `numbering`."""
        if self.now.numbering != numbering:
            raise DatabaseError(
                "its templates have got other rows since it was opened", path=root, hint="open it again"
            )

    def search(self, probes: NDArray[np.float32], top: int, exclude: NDArray[np.int64] | None) -> list[Best]:
        """Return the `top` subjects for each of `probes`, by number."""
        found = best_rows(
            self.now.templates,
            probes,
            top,
            owners=self.owners,
            shared=self.shared,
            exclude=exclude,
            compact=self.now.compact,
            threads=cores(),
        )
        self.take(np.concatenate([best.rows for best in found]) if found else np.empty(0, np.int64))
        return found

    def rows_of(self, subject: int) -> NDArray[np.int64]:
        """Return the rows of the subject of this number."""
        rows, subjects = self.shared
        return np.append(np.flatnonzero(self.owners == subject), rows[subjects == subject])

    def as_similar(self, probe: NDArray[np.float32], subject: int, similarity: float, own: int) -> list[int]:
        """Return the rows of a subject that are no less similar to a probe than `similarity`, but for `own`."""
        rows = self.rows_of(subject)
        near = rows[similarities(self.now.templates, rows, probe) >= similarity]
        return [row for row in near.tolist() if row != own]


def _check_rows(now: Snapshot) -> None:
    """Raise `DatabaseError` where a row that shows somebody is no template."""
    for start in range(0, len(now.templates), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        wrong = start + np.flatnonzero(
            ~are_unit(now.templates[block]) & (now.owners[block] != row_owners.NOBODY)
        )
        check_unit(now.templates[wrong], wrong)
