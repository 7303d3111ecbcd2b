"""What came of enrolling the bytes of one file, as a record of an index."""

from __future__ import annotations

import json
import sqlite3

from facecli.errors import FaceError
from facecli.templates.template import Enrolled

_PUT = (
    "INSERT INTO contents (digest, row, face, n_faces, probability, geometry, code, message, limits)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET row = excluded.row,"
    " face = excluded.face, n_faces = excluded.n_faces, probability = excluded.probability,"
    " geometry = excluded.geometry, code = excluded.code, message = excluded.message,"
    " limits = excluded.limits"
)


def put(
    connection: sqlite3.Connection,
    digest: bytes,
    result: Enrolled | FaceError,
    row: int | None,
    limits: str,
) -> None:
    """Note what the content with this SHA-256 gave under `limits`: `row` of the matrix, or an error."""
    if isinstance(result, Enrolled):
        points = [[float(x) for x in point] for point in result.landmarks]
        geometry = json.dumps({"box": [float(x) for x in result.box], "landmarks": points})
        found = [int(result.face), int(result.n_faces), float(result.probability), geometry, None, None]
    else:
        said = result.record()
        # Messages may quote file names; SQLite takes no lone surrogates.
        message = said["message"].encode("utf-8", "backslashreplace").decode()
        found = [None, None, None, None, said["code"], message]
    connection.execute(_PUT, (digest, row, *found, limits))
