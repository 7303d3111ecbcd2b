"""Whose face is in each row of the matrix, in the index: 4096 rows to a record.

All of a million rows are read in milliseconds, and a commit rewrites only the records that it touches.
"""

from __future__ import annotations

import sqlite3
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from facecli.gallery.store.files import INDEX, Damaged
from facecli.gallery.store.values import BLOB, COUNT, MAX_ID, checked

CHUNK = 4096
"""Rows to a record: little-endian int32, the id of a subject or one of the two below."""

NOBODY = -1
"""No sample shows this row: its photo is gone."""

SEVERAL = -2
"""Samples of several subjects show this row; `samples` tells which."""


def load(connection: sqlite3.Connection) -> NDArray[np.int32]:
    """Return the owner of each row, int32 [rows], up to the last row that anybody owns. Raises `Damaged`."""
    found = checked(
        connection.execute("SELECT chunk, subjects FROM owners ORDER BY chunk").fetchall(), COUNT, BLOB
    )
    n_chunks = found[-1][0] + 1 if found else 0
    [(n_pages,)] = connection.execute("PRAGMA page_count").fetchall()
    # A row has a content, and a content far more than four bytes.
    if n_chunks > len(found) + n_pages * 16384 // CHUNK:
        raise Damaged(f"{INDEX} is damaged (it names rows far beyond its contents)")
    owners = np.full(n_chunks * CHUNK, NOBODY, np.int32)
    for chunk, subjects in found:
        owners[chunk * CHUNK : (chunk + 1) * CHUNK] = _record(subjects)
    owned = np.flatnonzero(owners != NOBODY)
    return owners[: owned[-1] + 1 if len(owned) else 0]


def put(connection: sqlite3.Connection, owners: list[tuple[int, int]]) -> None:
    """Set the owners of some rows: (row, subject's id or one of the two special values)."""
    for chunk, group in groupby(sorted(owners), key=lambda owner: owner[0] // CHUNK):
        found = connection.execute("SELECT subjects FROM owners WHERE chunk = ?", (chunk,)).fetchone()
        record = np.full(CHUNK, NOBODY, "<i4") if found is None else _record(found[0]).copy()
        for row, subject in group:
            record[row - chunk * CHUNK] = subject
        connection.execute(
            "INSERT OR REPLACE INTO owners (chunk, subjects) VALUES (?, ?)", (chunk, record.tobytes())
        )


def _record(subjects: bytes) -> NDArray[np.int32]:
    """Return the owners in a record; raises `Damaged`."""
    if not isinstance(subjects, bytes) or len(subjects) != 4 * CHUNK:
        raise Damaged(f"{INDEX} is damaged (a record of owners has another length)")
    owners = np.frombuffer(subjects, "<i4")
    if owners.min() < SEVERAL or owners.max() > MAX_ID:
        raise Damaged(f"{INDEX} is damaged (a row is of no subject)")
    return owners
