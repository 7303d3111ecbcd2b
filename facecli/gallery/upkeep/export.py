"""Hands out the templates of a database as the records that `facecli embed` makes, with the subject of each."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import DatabaseError, NoSuchFile, printable
from facecli.files import json_text
from facecli.gallery.store import index, values
from facecli.gallery.store.bounded import Connection
from facecli.gallery.store.files import INDEX, MATRIX
from facecli.gallery.store.folder import advised
from facecli.gallery.store.index import explained
from facecli.gallery.store.location import places
from facecli.gallery.store.names import relative
from facecli.gallery.store.unit import NoTemplate, are_unit
from facecli.gallery.store.writer import Store
from facecli.templates.records import SCHEMA


@contextmanager
def exported(
    root: Path, *, embedder_id: str, dim: int, cache_dir: Path
) -> Iterator[tuple[int, Iterator[dict[str, Any]]]]:
    """Give the number of templates of the database in `root` and a record of each, by subject, then path.

    A record is one of `facecli embed`, `path` relative to `root`, `embedding` still an array, with `subject`. All
    are of one moment: the index is copied aside first, so no writer waits for a long export. The photos are not
    looked at. Raises `NoSuchFile` and `DatabaseError` where nothing is kept for this embedder; the records do so where
    what is kept turns out to be damaged.
    """
    folder = places(Path(os.path.abspath(root)), embedder_id, cache_dir).current()
    if not index.exists(folder):
        raise nothing_kept(root, embedder_id)
    # A file of its own that SQLite removes: an index of a million samples would fill the memory.
    with closing(sqlite3.connect("", factory=Connection)) as aside:
        aside.path = folder / INDEX
        with advised(root), Store.reading(folder, dim) as store, explained(folder), store.still():
            templates = store.matrix()
            store.connection.backup(aside)
        with advised(root), explained(folder):
            [(n,)] = values.checked(
                aside.execute("SELECT TOTAL(n_samples) FROM subjects").fetchall(), values.TOTAL
            )
        yield int(n), _records(aside, templates, embedder_id, root, folder)


def nothing_kept(root: Path, embedder_id: str) -> DatabaseError | NoSuchFile:
    """Return the error for a database without templates by this embedder."""
    if not root.exists():
        return NoSuchFile("no such folder, and no templates are kept for it", path=root)
    return DatabaseError(
        f"no templates of embedder {embedder_id} are kept here",
        path=root,
        hint="a refresh enrols the photos",
        advice="enrol_or_look",
        values={"root": printable(root)},
    )


def _records(
    aside: sqlite3.Connection, templates: NDArray[np.float32], embedder_id: str, root: Path, folder: Path
) -> Iterator[dict[str, Any]]:
    with advised(root), explained(folder):
        cursor = aside.execute(
            "SELECT name, path, row, face, n_faces, probability, geometry FROM samples"
            " JOIN subjects ON subjects.id = subject JOIN contents ON contents.id = content"
            " WHERE row IS NOT NULL ORDER BY name, path"
        )
        rows = values.stream(
            cursor,
            *(values.NAME, values.PATH, values.ROW),
            *(values.FACE, values.FACE, values.FINITE, values.GEOMETRY),
        )
        for subject, path, row, face, n_faces, probability, geometry in rows:
            if row >= len(templates) or not are_unit(templates[row : row + 1]).all():
                raise NoTemplate(f"row {row} of {MATRIX} is no template")
            place = json_text.parse(geometry, folder / INDEX)
            yield {
                "schema": SCHEMA,
                "path": relative(subject, path),
                "subject": printable(os.fsdecode(subject)),
                "face": face,
                "n_faces": n_faces,
                "box": [round(side, 1) for side in place["box"]],
                "landmarks": [[round(x, 1), round(y, 1)] for x, y in place["landmarks"]],
                "probability": round(probability, 4),
                "quality": place.get("quality"),
                "strictness": place.get("strictness", 0.0),
                "embedder_id": embedder_id,
                "embedding": templates[row],
            }
