"""What the values of an index must be: each is checked where it is read, since the file may be damaged or hostile."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from facecli.gallery.store.files import INDEX, Damaged
from facecli.templates.geometry import FORM

MAX_ID = 1 << 27
"""No database has had more subjects."""
MAX_NUMBER = 1 << 53
_READ_AT_ONCE = 4096
_STAT = re.compile(r"\d{1,20}( -?\d{1,20}){2} \d{1,20}")


class Kind(NamedTuple):
    """What all values of a column must be, and how that is called."""

    what: str
    holds: Callable[[Sequence[Any]], bool]


def checked(rows: list[tuple[Any, ...]], *kinds: Kind) -> list[Any]:
    """Return the rows, whose columns are of `kinds`; raises `Damaged`."""
    if rows:
        for kind, column in zip(kinds, zip(*rows, strict=True), strict=True):
            if not kind.holds(column):
                raise Damaged(f"{INDEX} is damaged (it holds what is no {kind.what})")
    return rows


def stream(cursor: sqlite3.Cursor, *kinds: Kind) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as `checked` would return them, a few at a time."""
    while rows := cursor.fetchmany(_READ_AT_ONCE):
        yield from checked(rows, *kinds)


def optional(kind: Kind) -> Kind:
    """Return the kind whose values may be missing, too."""

    def holds(column: Sequence[Any]) -> bool:
        there = [value for value in column if value is not None]
        return not there or kind.holds(there)

    return Kind(kind.what, holds)


def _only(kind: type) -> Callable[[Sequence[Any]], bool]:
    return lambda column: set(map(type, column)) == {kind}


def whole(least: int, most: int) -> Callable[[Sequence[Any]], bool]:
    """Return what says whether all values are integers from `least` to `most`."""
    return lambda column: set(map(type, column)) == {int} and min(column) >= least and max(column) <= most


def _are_names(column: Sequence[Any]) -> bool:
    if set(map(type, column)) != {bytes}:
        return False
    together = b"/%b/" % b"/".join(column)
    return together.count(b"/") == len(column) + 1 and not _leads_out(together)


def _are_paths(column: Sequence[Any]) -> bool:
    if set(map(type, column)) != {bytes}:
        return False
    return not _leads_out(b"/%b/" % b"/".join(column))


def _leads_out(together: bytes) -> bool:
    return any(part in together for part in (b"\0", b"//", b"/./", b"/../"))


def _are_totals(column: Sequence[Any]) -> bool:
    return set(map(type, column)) <= {float, int} and all(0 <= value <= MAX_NUMBER for value in column)


def _are_geometries(column: Sequence[Any]) -> bool:
    return _only(str)(column) and all(map(FORM.fullmatch, column))


def _are_finite(column: Sequence[Any]) -> bool:
    return set(map(type, column)) <= {float, int} and all(map(math.isfinite, column))


def _are_stats(column: Sequence[Any]) -> bool:
    return all(type(value) is str and (not value or _STAT.fullmatch(value) is not None) for value in column)


NAME = Kind("name of a subject", _are_names)
PATH = Kind("path below a folder", _are_paths)
STAT = Kind("state of a file", _are_stats)
TEXT = Kind("text", _only(str))
DIGEST = Kind("digest", lambda column: _only(bytes)(column) and set(map(len, column)) == {32})
FINGERPRINT = optional(Kind("fingerprint", _only(bytes)))
BLOB = Kind("record", _only(bytes))
ID = Kind("number of a subject", whole(1, MAX_ID))
CONTENT = Kind("number of a content", whole(-(1 << 63), (1 << 63) - 1))
ROW = Kind("row of the matrix", whole(0, MAX_NUMBER))
OWNER = Kind("owner of a row", whole(-2, MAX_ID))
COUNT = Kind("count", whole(0, MAX_NUMBER))
FACE = Kind("number of a face", whole(0, 1 << 31))
FINITE = Kind("number", _are_finite)
TOTAL = Kind("count", _are_totals)
GEOMETRY = Kind("place of a face", _are_geometries)
FLAG = Kind("flag", whole(0, 1))

FACE_OF_CONTENT = (FACE, FACE, FINITE, GEOMETRY)
"""`face`, `n_faces`, `probability` and `geometry` of a content with a row."""

TABLES = {
    "SELECT id, name, fingerprint, n_samples, n_failed, n_several FROM subjects": (
        *(ID, NAME, FINGERPRINT),
        *(COUNT, COUNT, COUNT),
    ),
    "SELECT subject, path, stat, content FROM samples": (ID, PATH, optional(STAT), CONTENT),
    "SELECT id, digest, row, limits FROM contents": (CONTENT, DIGEST, optional(ROW), TEXT),
    "SELECT code, message FROM contents WHERE row IS NULL": (TEXT, TEXT),
}
"""What every value of an index must be, but for what a row's face is."""
