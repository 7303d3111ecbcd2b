"""What an index says of its store as a whole: a few facts, each of one kind."""

from __future__ import annotations

import sqlite3
from typing import Any

from facecli.gallery.store.files import INDEX, SWAP, Damaged
from facecli.gallery.store.values import COUNT, FLAG, Kind, checked, whole

FACTS = {
    "dim": Kind("length of a template", whole(1, 1 << 16)),
    # 1 where the last enrolment ran to its end.
    "complete": FLAG,
    # Grows with every commit that changes samples.
    "generation": COUNT,
    # Names the numbering of the rows in the compact copy.
    "matrix": Kind("name of a matrix", lambda column: type(column[0]) is bytes and len(column[0]) <= 64),
    # There while a compacted matrix waits to be renamed.
    "swap": Kind("name of a new matrix", lambda column: column[0] == SWAP),
    # There while the index holds what was dropped.
    "erase": FLAG,
}
_ALWAYS_THERE = ("dim", "complete", "generation")


def fact(connection: sqlite3.Connection, key: str) -> Any:
    """Return the value of one of `FACTS`, None where it is not there and need not be; raises `Damaged`."""
    found = connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchall()
    checked(found, FACTS[key])
    if not found and key in _ALWAYS_THERE:
        raise Damaged(f"{INDEX} is damaged (it lacks the fact '{key}')")
    return found[0][0] if found else None
