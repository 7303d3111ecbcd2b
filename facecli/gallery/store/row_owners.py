"""Whose face is in each row of the matrix, in the index: 4096 rows to a record.

All of a million rows are read in milliseconds, and a commit rewrites only the records that it touches.
"""

from __future__ import annotations

import sqlite3
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

CHUNK = 4096
"""Rows to a record: little-endian int32, the id of a subject or one of the two below."""

NOBODY = -1
"""No sample shows this row: its photo is gone."""

SEVERAL = -2
"""Samples of several subjects show this row; `samples` tells which."""


def load(connection: sqlite3.Connection) -> NDArray[np.int32]:
    """Return the owner of each row, int32 [rows], up to the last row that anybody owns."""
    found = connection.execute("SELECT chunk, subjects FROM owners ORDER BY chunk").fetchall()
    owners = np.full(found[-1][0] * CHUNK + CHUNK if found else 0, NOBODY, np.int32)
    for chunk, subjects in found:
        owners[chunk * CHUNK : (chunk + 1) * CHUNK] = np.frombuffer(subjects, "<i4")
    owned = np.flatnonzero(owners != NOBODY)
    return owners[: owned[-1] + 1 if len(owned) else 0]


def put(connection: sqlite3.Connection, owners: list[tuple[int, int]]) -> None:
    """Set the owners of some rows: (row, subject's id or one of the two special values)."""
    for chunk, group in groupby(sorted(owners), key=lambda owner: owner[0] // CHUNK):
        found = connection.execute("SELECT subjects FROM owners WHERE chunk = ?", (chunk,)).fetchone()
        record = np.full(CHUNK, NOBODY, "<i4") if found is None else np.frombuffer(found[0], "<i4").copy()
        for row, subject in group:
            record[row - chunk * CHUNK] = subject
        connection.execute(
            "INSERT OR REPLACE INTO owners (chunk, subjects) VALUES (?, ?)", (chunk, record.tobytes())
        )
