"""The templates of one database under one embedder, on disk: a matrix that only grows and an index over it.

A store is a folder with three files:

- `templates.npy`: float32 [N, D], one unit row for each different photo that was ever enrolled. Bare
  `np.load(path, mmap_mode="r")` reads it at any moment, while a writer works too.
- `index.sqlite`: which file shows which content (`samples`), and what came of each content (`contents`, by
  the SHA-256 of its bytes): a row of the matrix, or the reason why there is none. The index is the truth.
- `lock`: held by the one writer. Readers take no lock of ours and wait for no enrolment.

A commit appends rows, syncs, counts them in the header, syncs, and only then lets SQLite make the index refer
to them. So the index never names a row that is not there; rows past its last one are left over from a writer
that died, and the next commit writes over them. A row that the index names is never written again.

Rows whose photo is gone stay, because a photo that comes back (a `git checkout`, a moved folder) then costs
nothing. Dropping them needs the matrix and the index to change together, which a redo log gives: write the
compacted matrix beside the old one and sync it; renumber the rows and note `swap` in `facts` in one
transaction; rename it over the old one; remove the note. Whoever finds the note reads the new file if it is
still there, and the next writer finishes the rename.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecli.embedder import Enrolled
from facecli.engine import Notify
from facecli.errors import DatabaseError, EmbedderMismatch, FaceError
from facecli.index import INDEX, VERSION, Damaged, create, exists, explained, fresh, locked, opened
from facecli.matrix import append_rows, count_rows, is_matrix, map_rows, write_empty

MATRIX = "templates.npy"


class Photo(NamedTuple):
    """A file of a subject. `path` is below the subject's folder, with `/`, in the bytes of the file system.

    `stat` is text that changes when the file may have; empty where that could not be trusted.
    """

    subject: bytes
    path: bytes
    stat: str
    size: int
    changed_ns: int
    """The later of the times of its content and of its inode."""


@dataclass(frozen=True)
class Snapshot:
    """What a store held at one moment. `samples` and `failures` are in the order of subject, then path."""

    samples: list[tuple[bytes, bytes, int]]
    """Subject, path, row."""
    failures: list[tuple[bytes, bytes, str, str]]
    """Subject, path, code, message."""
    templates: NDArray[np.float32]
    """[N, D], mapped from the file."""
    n_several: int
    """Samples whose photo shows more than one face."""
    complete: bool
    """False while an enrolment is going on, or after one that was cut off."""


class Store:
    """One store, opened by `reading` or `writing`. Every method may raise `DatabaseError` and `Damaged`."""

    def __init__(self, folder: Path, dim: int, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.dim = dim
        self._db = connection
        self._n_valid = count_rows(folder / MATRIX, dim)

    @classmethod
    @contextmanager
    def reading(cls, folder: Path, dim: int) -> Iterator[Store]:
        """Open the store in `folder` without writing anything to it."""
        with opened(folder) as connection:
            store = cls(folder, dim, connection)
            store._check_contract()
            yield store

    @classmethod
    @contextmanager
    def writing(cls, folder: Path, dim: int, notify: Notify | None) -> Iterator[Store]:
        """Open the store in the existing `folder` as its only writer, making it if it is not there.

        Waits for another writer, after telling `notify`. Contents whose rows the matrix has lost are
        forgotten, so that they are enrolled again.
        """
        with locked(folder, notify):
            if not exists(folder):
                # The index last: a store is there or it is not.
                with explained(folder):
                    write_empty(folder / MATRIX, dim)
                create(folder, dim)
            with opened(folder) as connection:
                store = cls(folder, dim, connection)
                store._check_contract()
                store._repair()
                yield store

    def subjects(self) -> list[bytes]:
        """Return the names of the subjects that have samples."""
        return [name for (name,) in self._rows("SELECT name FROM subjects ORDER BY name")]

    def complete(self) -> bool:
        """Say whether the last enrolment ran to its end."""
        return self._fact("complete") == 1

    def known(self, subject: bytes, limits: str) -> dict[bytes, str]:
        """Return path -> stat of the samples of `subject`.

        The stat is empty for a sample that must be looked at again whatever its file's: its row was lost, or
        no face was found under other `limits`.
        """
        rows = self._rows(
            "SELECT path, CASE WHEN row < ?1 OR (row IS NULL AND limits = ?2) THEN stat ELSE '' END"
            " FROM subjects JOIN samples ON subject = subjects.id JOIN contents ON content = contents.id"
            " WHERE name = ?3",
            (self._n_valid, limits, subject),
        )
        return dict(rows)

    def has(self, digest: bytes, limits: str) -> bool:
        """Say whether the content with this SHA-256 was enrolled, or failed under the same `limits`."""
        found = self._rows(
            "SELECT 1 FROM contents WHERE digest = ? AND (row IS NOT NULL OR limits = ?)", (digest, limits)
        )
        return bool(found)

    def commit(
        self,
        results: dict[bytes, Enrolled | FaceError],
        samples: list[tuple[Photo, bytes]],
        removed: list[tuple[bytes, bytes]],
        *,
        limits: str,
        complete: bool,
    ) -> None:
        """Make what was found out durable, all of it or nothing.

        `results` come by digest; `samples` pair a photo with the digest of its content, which is among the
        results or known already; `removed` are (subject, path).
        """
        enrolled = {digest: result for digest, result in results.items() if isinstance(result, Enrolled)}
        first = self._next_row()
        if enrolled:
            rows = np.stack([result.embedding for result in enrolled.values()])
            if rows.shape[1] != self.dim:
                raise ValueError(f"templates have {rows.shape[1]} numbers, the store holds {self.dim}")
            with explained(self.folder):
                append_rows(self.folder / MATRIX, first, rows)
            self._n_valid = first + len(rows)
        row_of = {digest: first + at for at, digest in enumerate(enrolled)}
        with self._transaction():
            for digest, result in results.items():
                self._put_content(digest, result, row_of.get(digest), limits)
            self._db.executemany(
                "INSERT OR IGNORE INTO subjects (name) VALUES (?)", {(photo.subject,) for photo, _ in samples}
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO samples (subject, path, stat, content) VALUES"
                " ((SELECT id FROM subjects WHERE name = ?), ?, ?,"
                " (SELECT id FROM contents WHERE digest = ?))",
                [(photo.subject, photo.path, photo.stat, digest) for photo, digest in samples],
            )
            self._db.executemany(
                "DELETE FROM samples WHERE subject = (SELECT id FROM subjects WHERE name = ?) AND path = ?",
                removed,
            )
            self._db.executemany(
                "DELETE FROM subjects WHERE name = ? AND id NOT IN"
                " (SELECT subject FROM samples WHERE subject = subjects.id)",
                {(subject,) for subject, _ in removed},
            )
            self._put_fact("complete", int(complete))

    def snapshot(self) -> Snapshot:
        """Return everything a search needs, from one moment.

        Raises `DatabaseError` when the matrix has lost rows that samples need.
        """
        source = "samples JOIN subjects ON subjects.id = subject JOIN contents ON contents.id = content"
        order = "ORDER BY name, path"
        with self._transaction("DEFERRED"):
            samples = self._rows(f"SELECT name, path, row FROM {source} WHERE row IS NOT NULL {order}")
            failures = self._rows(f"SELECT name, path, code, message FROM {source} WHERE row IS NULL {order}")
            [(n_several,)] = self._rows(
                f"SELECT COUNT(*) FROM {source} WHERE row IS NOT NULL AND n_faces > 1"
            )
            complete = self.complete()
            n_rows = self._next_row()
        # The matrix only grows, so what is counted after the index was read covers it.
        n_needed = max((row for _, _, row in samples), default=-1) + 1
        n_there = count_rows(self.folder / MATRIX, self.dim)
        if n_there < n_needed:
            raise DatabaseError(
                f"{MATRIX} holds {n_there} of the {n_needed} templates that its index counts",
                path=self.folder,
                hint="run without --no-refresh: what is lost is enrolled again",
            )
        templates = map_rows(self.folder / MATRIX, min(n_rows, n_there), self.dim)
        return Snapshot(samples, failures, templates, n_several, complete)

    def _repair(self) -> None:
        with explained(self.folder):
            if not is_matrix(self.folder / MATRIX, self.dim):
                write_empty(self.folder / MATRIX, self.dim)
        if self._n_valid >= self._next_row():
            return
        with self._transaction():
            # The samples that showed these contents find no content now, so their photos are read again.
            self._db.execute(
                "DELETE FROM samples WHERE content IN (SELECT id FROM contents WHERE row >= ?)",
                (self._n_valid,),
            )
            self._db.execute("DELETE FROM contents WHERE row >= ?", (self._n_valid,))
            self._put_fact("complete", 0)

    def _put_content(self, digest: bytes, result: Enrolled | FaceError, row: int | None, limits: str) -> None:
        if isinstance(result, Enrolled):
            points = [[float(x) for x in point] for point in result.landmarks]
            geometry = json.dumps({"box": [float(x) for x in result.box], "landmarks": points})
            found = [int(result.face), int(result.n_faces), float(result.probability), geometry, None, None]
        else:
            said = result.record()
            # Messages may quote file names; SQLite takes no lone surrogates.
            message = said["message"].encode("utf-8", "backslashreplace").decode()
            found = [None, None, None, None, said["code"], message]
        self._db.execute(
            "INSERT INTO contents (digest, row, face, n_faces, probability, geometry, code, message, limits)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET row = excluded.row,"
            " face = excluded.face, n_faces = excluded.n_faces, probability = excluded.probability,"
            " geometry = excluded.geometry, code = excluded.code, message = excluded.message,"
            " limits = excluded.limits",
            (digest, row, *found, limits),
        )

    def _next_row(self) -> int:
        return self._rows("SELECT COALESCE(MAX(row) + 1, 0) FROM contents")[0][0]

    def _check_contract(self) -> None:
        [(version,)] = self._rows("PRAGMA user_version")
        if version > VERSION:
            raise DatabaseError(
                f"made by a newer facecli (format {version}, this one reads {VERSION})",
                path=self.folder,
                hint="upgrade facecli",
            )
        if version != VERSION:
            raise Damaged(f"{INDEX} is not an index of templates", path=self.folder)
        dim = self._fact("dim")
        if dim != self.dim:
            raise EmbedderMismatch(
                f"holds templates of {dim} numbers, the embedder makes {self.dim}", path=self.folder
            )

    def _fact(self, key: str) -> object:
        found = self._rows("SELECT value FROM facts WHERE key = ?", (key,))
        if not found:
            raise Damaged(f"{INDEX} lacks the fact '{key}'", path=self.folder)
        return found[0][0]

    def _put_fact(self, key: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, value))

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with explained(self.folder):
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        with explained(self.folder):
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def copy(source: Path, target: Path, dim: int, notify: Notify | None) -> None:
    """Copy the store in `source` to the existing folder `target`, unless one is there by now."""
    with locked(target, notify), Store.reading(source, dim) as old, explained(target):
        if exists(target):
            return
        aside = fresh(target / f"{INDEX}.part")
        with closing(sqlite3.connect(aside)) as new:
            old._db.backup(new)
        import shutil

        shutil.copyfile(source / MATRIX, target / f"{MATRIX}.part")
        os.replace(target / f"{MATRIX}.part", target / MATRIX)
        os.replace(aside, target / INDEX)
