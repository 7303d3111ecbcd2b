"""Templates are of length 1: what is not, gives similarities that mean nothing and must not be handed out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import DatabaseError
from facecli.gallery.store.files import MATRIX

SHORTEST, LONGEST = 0.999, 1.001
"""Unit rows lie between these, however they were rounded."""


class NoTemplate(DatabaseError):
    """What is kept in the place of a template is none, or what is made from it is not. A repair forgets it."""


def are_unit(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which of the rows, float32 [n, D], are of length 1."""
    # What is too long for float32 is infinite, and what is not a number compares as false.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        return np.asarray((lengths >= SHORTEST) & (lengths <= LONGEST))


def check_unit(rows: NDArray[np.float32], numbers: NDArray[np.integer[Any]]) -> None:
    """Raise `NoTemplate` where one of the rows, of these numbers in the matrix, is not of length 1."""
    wrong = np.flatnonzero(~are_unit(rows))
    if len(wrong):
        with np.errstate(all="ignore"):
            length = np.linalg.norm(rows[wrong[0]].astype(np.float64))
        raise NoTemplate(
            f"row {numbers[wrong[0]]} of {MATRIX} is no template: its length is {length:.4g} and not 1"
        )
