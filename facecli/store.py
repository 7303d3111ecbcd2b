"""The templates of one database under one embedder, on disk: a matrix that only grows and an index over it.

A store is a folder with three files:

- `templates.npy`: float32 [N, D], one unit row for each different photo that was ever enrolled. Bare
  `np.load(path, mmap_mode="r")` reads it at any moment, while a writer works too.
- `index.sqlite`: which file shows which content (`samples`; without a `stat` where there is no photo behind
  it), and what came of each content (`contents`, by the SHA-256 of its bytes): a row of the matrix, or the
  reason why there is none. The index is the truth. What it derives from these is up to `census`: counts of
  samples and the state of a folder of photos (`subjects`), and who is in each row (`owners`).
- `lock`: held by the one writer. Readers take no lock of ours and wait for no enrolment.

A commit appends rows, syncs, counts them in the header, syncs, and only then lets SQLite make the index refer
to them. So the index never names a row that is not there; rows past its last one are left over from a writer
that died, and the next commit writes over them. A row that the index names is never written again.

Rows whose photo is gone stay, because a photo that comes back (a `git checkout`, a moved folder) then costs
nothing. Dropping them needs the matrix and the index to change together, which a redo log gives: write the
compacted matrix beside the old one and sync it; renumber the rows and note its name as `swap` in `facts` in
one transaction; rename it over the old one; remove the note. Whoever finds the note reads the new file if it
is still there, and the next writer finishes the rename.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecli import census, contents, owners
from facecli.embedder import Enrolled
from facecli.engine import Notify
from facecli.errors import DatabaseError, EmbedderMismatch, FaceError
from facecli.index import INDEX, VERSION, Damaged, create, exists, explained, fresh, locked, opened
from facecli.matrix import append_rows, is_matrix, map_rows, write_empty

MATRIX = "templates.npy"


class Photo(NamedTuple):
    """A file of a subject. `path` is below the subject's folder, with `/`, in the bytes of the file system.

    `stat` is text that changes when the file may have; empty where that could not be trusted, None where
    there is no file.
    """

    subject: bytes
    path: bytes
    stat: str | None
    size: int
    changed_ns: int
    """The later of the times of its content and of its inode."""


@dataclass(frozen=True)
class Snapshot:
    """What a store held at one moment."""

    generation: int
    complete: bool
    """False while an enrolment is going on, or after one that was cut off."""
    templates: NDArray[np.float32]
    """[N, D], mapped from the file."""
    owners: NDArray[np.int32]
    """[N]: the id of the subject in each row, or one of the special values of `owners`."""
    n_samples: int
    """Samples with a template."""
    n_subjects: int
    """Subjects with such samples."""
    n_several: int
    """Samples with a template whose photo shows more than one face."""


class Store:
    """One store, opened by `reading` or `writing`. Every method may raise `DatabaseError` and `Damaged`."""

    def __init__(self, folder: Path, dim: int, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.dim = dim
        self._db = connection
        self._check_contract()
        self._n_valid = len(self._matrix())

    @classmethod
    @contextmanager
    def reading(cls, folder: Path, dim: int) -> Iterator[Store]:
        """Open the store in `folder` without writing anything to it."""
        with opened(folder) as connection:
            yield cls(folder, dim, connection)

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
                store._repair()
                yield store

    def complete(self) -> bool:
        """Say whether the last enrolment ran to its end."""
        return self._fact("complete") == 1

    def generation(self) -> int:
        """Return a number that grows with every commit that changes samples."""
        return self._fact("generation")

    def fingerprints(self, limits: str) -> dict[bytes, bytes | None]:
        """Return name -> fingerprint of the subjects; None where single samples must be looked at.

        That is where one is too young to be trusted, was lost, or shows no face found under other `limits`.
        """
        found = dict(self._rows("SELECT name, fingerprint FROM subjects"))
        unsure = self._rows(
            "SELECT DISTINCT name FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row IS NULL AND limits <> ?",
            (limits,),
        )
        unsure += self._rows(
            "SELECT DISTINCT name FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row >= ?",
            (self._n_valid,),
        )
        found.update((name, None) for (name,) in unsure)
        return found

    def known(self, subject: bytes, limits: str) -> dict[bytes, str]:
        """Return path -> stat of the samples of `subject` that have a photo.

        The stat is empty for a sample that must be looked at again whatever its file's: its row was lost, or
        no face was found under other `limits`.
        """
        rows = self._rows(
            "SELECT path, CASE WHEN row < ?1 OR (row IS NULL AND limits = ?2) THEN stat ELSE '' END"
            " FROM subjects JOIN samples ON subject = subjects.id JOIN contents ON content = contents.id"
            " WHERE name = ?3 AND stat IS NOT NULL",
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
        digests = {*results, *(digest for _, digest in samples)}
        places = {*((photo.subject, photo.path) for photo, _ in samples), *removed}
        with self._transaction():
            with census.counting(self._db, digests, places):
                for digest, result in results.items():
                    contents.put(self._db, digest, result, row_of.get(digest), limits)
                self._db.executemany(
                    "INSERT OR IGNORE INTO subjects (name) VALUES (?)",
                    {(photo.subject,) for photo, _ in samples},
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO samples (subject, path, stat, content) VALUES"
                    " ((SELECT id FROM subjects WHERE name = ?), ?, ?,"
                    " (SELECT id FROM contents WHERE digest = ?))",
                    [(photo.subject, photo.path, photo.stat, digest) for photo, digest in samples],
                )
                self._db.executemany(
                    "DELETE FROM samples WHERE subject = (SELECT id FROM subjects WHERE name = ?)"
                    " AND path = ?",
                    removed,
                )
            self._db.executemany(
                "UPDATE subjects SET fingerprint = NULL WHERE name = ?", {(subject,) for subject, _ in places}
            )
            self._db.executemany(
                "DELETE FROM subjects WHERE name = ? AND n_samples = 0 AND n_failed = 0",
                {(subject,) for subject, _ in removed},
            )
            if places:
                self._put_fact("generation", self.generation() + 1)
            if complete:
                census.seal(self._db)
            self._put_fact("complete", int(complete))

    def snapshot(self) -> Snapshot:
        """Return what a search needs, from one moment.

        Raises `DatabaseError` when the matrix has lost rows that samples need.
        """
        with self._transaction("DEFERRED"):
            generation, complete = self.generation(), self.complete()
            [(n_samples, n_subjects, n_several)] = self._rows(
                "SELECT TOTAL(n_samples), TOTAL(n_samples > 0), TOTAL(n_several) FROM subjects"
            )
            owned = owners.load(self._db)
            n_rows = self._next_row()
            # Within the transaction: a compaction replaces the file only after it could commit.
            templates = self._matrix()[:n_rows]
        if len(templates) < len(owned):
            raise DatabaseError(
                f"{MATRIX} holds {len(templates)} of the {len(owned)} templates that its index counts",
                path=self.folder,
                hint="run without --no-refresh: what is lost is enrolled again",
            )
        by_row = np.full(len(templates), owners.NOBODY, np.int32)
        by_row[: len(owned)] = owned
        return Snapshot(
            generation, complete, templates, by_row, int(n_samples), int(n_subjects), int(n_several)
        )

    def samples(self) -> list[tuple[bytes, bytes, int]]:
        """Return subject, path and row of the samples with a template, in the order of subject, then path."""
        return self._rows(
            "SELECT name, path, row FROM samples JOIN subjects ON subjects.id = subject"
            " JOIN contents ON contents.id = content WHERE row IS NOT NULL ORDER BY name, path"
        )

    def failures(self) -> list[tuple[bytes, bytes, str, str]]:
        """Return subject, path, code and message of the others, in the same order."""
        return self._rows(
            "SELECT name, path, code, message FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row IS NULL ORDER BY name, path"
        )

    def subjects(self) -> list[bytes]:
        """Return the names of the subjects with a template, in their order."""
        return [name for (name,) in self._rows("SELECT name FROM subjects WHERE n_samples > 0 ORDER BY name")]

    def copy_to(self, folder: Path) -> None:
        """Copy the store to a folder without one, where it appears whole or not at all."""
        import shutil

        with explained(folder):
            aside = fresh(folder / f"{INDEX}.part")
            with closing(sqlite3.connect(aside)) as new:
                self._db.backup(new)
            for name in (MATRIX, *self._facts("swap")):
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, folder / f"{name}.part")
                    os.replace(folder / f"{name}.part", folder / name)
            os.replace(aside, folder / INDEX)

    def _repair(self) -> None:
        """Finish what a writer that died had begun, and forget what the matrix has lost."""
        with explained(self.folder):
            census.prepare(self._db)
            for name in self._facts("swap"):
                if (self.folder / name).is_file():
                    os.replace(self.folder / name, self.folder / MATRIX)
                self._db.execute("DELETE FROM facts WHERE key = 'swap'")
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
            census.recount(self._db)
            self._put_fact("generation", self.generation() + 1)
            self._put_fact("complete", 0)

    def _matrix(self) -> NDArray[np.float32]:
        """Map the rows that the matrix counts: after a compaction that was cut off, those of the new file."""
        with explained(self.folder):
            for name in self._facts("swap"):
                try:
                    return map_rows(self.folder / name, self.dim)
                except FileNotFoundError:
                    # Somebody has just put it in its place.
                    pass
            try:
                return map_rows(self.folder / MATRIX, self.dim)
            except FileNotFoundError:
                return np.empty((0, self.dim), np.float32)

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

    def _fact(self, key: str) -> int:
        found = self._facts(key)
        if not found:
            raise Damaged(f"{INDEX} lacks the fact '{key}'", path=self.folder)
        return int(found[0])

    def _facts(self, key: str) -> list[Any]:
        return [value for (value,) in self._rows("SELECT value FROM facts WHERE key = ?", (key,))]

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
