"""Drops from a store the templates that no sample shows, and whoever is to be forgotten, in one step.

The steps are those of the redo log that `writer` describes: until the one transaction the old matrix and index
stand, from then on the new ones, whatever is killed when. Nothing of the old matrix is left under any name after.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.files.npy import map_rows, write_rows
from facecli.gallery.store import derived
from facecli.gallery.store.files import COMPACT, MATRIX, SWAP
from facecli.gallery.store.index import explained
from facecli.gallery.store.values import CONTENT, ROW, stream
from facecli.gallery.store.writer import Store
from facecli.hooks import Notify

BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Compacted:
    """What a compaction dropped."""

    n_rows: int
    """Templates, whether a sample showed them or none."""
    n_samples: int
    """Samples of the one who was forgotten, with or without a template."""


def compact(
    folder: Path, dim: int, *, forget: bytes | None = None, notify: Notify | None = None
) -> Compacted:
    """Drop the rows of the store in `folder` that no sample shows, and all that is kept of the subject `forget`.

    A photo that somebody else shows as well keeps its row. The index is rewritten at the end, so that its free pages
    hold nothing of what was dropped, now or before. Waits for another writer after telling `notify`.
    """
    with Store.writing(folder, dim, notify) as store, explained(folder):
        connection = store.connection
        connection.execute("PRAGMA secure_delete = ON")
        found = store.subject_id(forget) if forget is not None else None
        who = found if found is not None else -1
        kept = _kept(connection, who)
        rows = kept[:, 1]
        [(n_samples,)] = connection.execute("SELECT COUNT(*) FROM samples WHERE subject = ?", (who,))
        old = map_rows(folder / MATRIX, dim)
        dropped = Compacted(len(old) - len(rows), n_samples)
        # Before the rows get other numbers: a compact copy goes by them.
        (folder / COMPACT).unlink(missing_ok=True)
        blocks = (old[rows[start : start + BLOCK_ROWS]] for start in range(0, len(rows), BLOCK_ROWS))
        try:
            write_rows(folder / SWAP, blocks, len(rows), dim)
            with store.transaction():
                _renumber(connection, kept, who)
                connection.execute("INSERT INTO facts (key, value) VALUES ('swap', ?)", (SWAP,))
                connection.execute("INSERT OR REPLACE INTO facts (key, value) VALUES ('erase', 1)")
                # What was made from the old matrix does not fit the new one, whoever holds it open.
                connection.execute(
                    "INSERT OR REPLACE INTO facts (key, value) VALUES ('matrix', ?)", (os.urandom(16),)
                )
        finally:
            # The note alone tells whether the new matrix counts, wherever this was interrupted.
            if store.fact("swap") is None:
                (folder / SWAP).unlink(missing_ok=True)
        os.replace(folder / SWAP, folder / MATRIX)
        connection.execute("DELETE FROM facts WHERE key = 'swap'")
        _erase(connection)
        store.extend_compact()
        return dropped


def finish_erasing(folder: Path, dim: int, notify: Notify | None) -> bool:
    """Rewrite the index where a compaction was broken off before it did; say whether it was."""
    with Store.writing(folder, dim, notify) as store, explained(folder):
        pending = store.fact("erase") is not None
        if pending:
            _erase(store.connection)
        return pending


def _erase(connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM")
    connection.execute("DELETE FROM facts WHERE key = 'erase'")


def _kept(connection: sqlite3.Connection, who: int) -> NDArray[np.int64]:
    """Return content and row of what somebody but `who` shows, int64 [n, 2], by row."""
    cursor = connection.execute(
        "SELECT id, row FROM contents WHERE row IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM samples WHERE content = contents.id AND subject <> ?) ORDER BY row",
        (who,),
    )
    pairs = stream(cursor, CONTENT, ROW)
    return np.fromiter((number for pair in pairs for number in pair), np.int64).reshape(-1, 2)


def _renumber(connection: sqlite3.Connection, kept: NDArray[np.int64], who: int) -> None:
    """Let the index name row k of the new matrix for `kept[k]`, and drop `who` and what is not kept."""
    connection.execute("DELETE FROM samples WHERE subject = ?", (who,))
    connection.execute("DELETE FROM subjects WHERE id = ?", (who,))
    connection.execute(
        "DELETE FROM contents WHERE NOT EXISTS (SELECT 1 FROM samples WHERE content = contents.id)"
    )
    moved = np.flatnonzero(kept[:, 1] != np.arange(len(kept)))
    # Downwards and in order, so that no two contents ever have the same row.
    connection.executemany(
        "UPDATE contents SET row = ? WHERE id = ?", zip(moved.tolist(), kept[moved, 0].tolist(), strict=True)
    )
    derived.recount(connection)
    derived.seal(connection)
    connection.execute("UPDATE facts SET value = value + 1 WHERE key = 'generation'")
