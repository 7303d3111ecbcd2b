"""What an index derives from its samples: how many each subject has, who is in each row, fingerprints.

All of it is brought up to date inside the transaction that changes the samples, at a cost that depends on what
is changed and not on the size of the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from facecli.gallery.store import row_owners
from facecli.gallery.store.fingerprint import fingerprint, state
from facecli.gallery.store.values import COUNT, ID, OWNER, PATH, ROW, STAT, Kind, checked

_TOUCH_CONTENT = "INSERT OR IGNORE INTO touched SELECT id FROM contents WHERE digest = ?"
_TOUCH_SAMPLE = (
    "INSERT OR IGNORE INTO touched SELECT content FROM samples"
    " WHERE subject = (SELECT id FROM subjects WHERE name = ?) AND path = ?"
)
_SHOWN = "touched CROSS JOIN contents USING (id) CROSS JOIN samples ON content = contents.id"
_COUNTS = (
    "SELECT subject, SUM(row IS NOT NULL), SUM(row IS NULL), SUM(row IS NOT NULL AND n_faces > 1)"
    f" FROM {_SHOWN} GROUP BY subject"
)
_OWNERS = (
    f"SELECT row, CASE WHEN MIN(subject) = MAX(subject) THEN MIN(subject) ELSE {row_owners.SEVERAL} END"
    f" FROM {_SHOWN} WHERE row IS NOT NULL GROUP BY row"
)
_ADD = (
    "UPDATE subjects SET n_samples = n_samples + ?, n_failed = n_failed + ?, n_several = n_several + ?"
    " WHERE id = ?"
)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the temporary table that `counting` works with."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS touched (id INTEGER PRIMARY KEY)")


@contextmanager
def counting(
    connection: sqlite3.Connection, digests: Iterable[bytes], places: Iterable[tuple[bytes, bytes]]
) -> Iterator[None]:
    """Keep counts and owners right over a change of the contents `digests` and the samples (subject, path)."""
    connection.execute("DELETE FROM touched")
    connection.executemany(_TOUCH_CONTENT, [(digest,) for digest in digests])
    connection.executemany(_TOUCH_SAMPLE, places)
    before = {subject: counts for subject, *counts in _asked(connection, _COUNTS, ID, COUNT, COUNT, COUNT)}
    rows = {row for row, _ in _asked(connection, _OWNERS, ROW, OWNER)}
    yield
    connection.executemany(_TOUCH_CONTENT, [(digest,) for digest in digests])
    after = {subject: counts for subject, *counts in _asked(connection, _COUNTS, ID, COUNT, COUNT, COUNT)}
    changes = []
    for subject in before.keys() | after.keys():
        pairs = zip(after.get(subject, (0, 0, 0)), before.get(subject, (0, 0, 0)), strict=True)
        changes.append((*(new - old for new, old in pairs), subject))
    connection.executemany(_ADD, changes)
    owned = _asked(connection, _OWNERS, ROW, OWNER)
    rows.difference_update(row for row, _ in owned)
    row_owners.put(connection, owned + [(row, row_owners.NOBODY) for row in rows])


def recount(connection: sqlite3.Connection) -> None:
    """Derive everything anew, within the caller's transaction: for changes of whole tables."""
    connection.execute("UPDATE subjects SET fingerprint = NULL, n_samples = 0, n_failed = 0, n_several = 0")
    connection.execute("DELETE FROM owners")
    with counting(connection, [], []):
        connection.execute("INSERT INTO touched SELECT id FROM contents")
    connection.execute("DELETE FROM subjects WHERE n_samples = 0 AND n_failed = 0")


def seal(connection: sqlite3.Connection) -> None:
    """Give subjects that lost their fingerprints new ones, where the states of all their photos are known."""
    for (subject,) in connection.execute("SELECT id FROM subjects WHERE fingerprint IS NULL").fetchall():
        photos = checked(
            connection.execute(
                "SELECT path, stat FROM samples WHERE subject = ? AND stat IS NOT NULL ORDER BY path",
                (subject,),
            ).fetchall(),
            PATH,
            STAT,
        )
        if all(stat for _, stat in photos):
            digest = fingerprint([state(path, stat) for path, stat in photos])
            connection.execute("UPDATE subjects SET fingerprint = ? WHERE id = ?", (digest, subject))


def _asked(connection: sqlite3.Connection, statement: str, *kinds: Kind) -> list[Any]:
    return checked(connection.execute(statement).fetchall(), *kinds)
