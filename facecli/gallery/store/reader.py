"""What a store is asked: what is known of photos, who is in which row, names and paths.

Nothing here writes, takes a lock of ours or waits for an enrolment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import DatabaseError, EmbedderMismatch
from facecli.files.npy import map_rows
from facecli.files.own import is_own
from facecli.gallery.store import row_owners, values
from facecli.gallery.store.facts import fact
from facecli.gallery.store.files import COMPACT, INDEX, MATRIX, SWAP, Damaged
from facecli.gallery.store.index import explained, opened
from facecli.gallery.store.int8_copy import Compact
from facecli.gallery.store.values import GEOMETRY, ID, NAME, PATH, ROW, TEXT, TOTAL, Kind, checked, optional
from facecli.templates.geometry import STRICT, strictness_in

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Snapshot:
    """What a store held at one moment."""

    generation: int
    complete: bool
    """False while an enrolment is going on, or after one that was cut off."""
    numbering: bytes
    """Changes when rows get other numbers."""
    templates: NDArray[np.float32]
    """[N, D], mapped from the file."""
    compact: Compact
    """Of the first of them, or of none."""
    owners: NDArray[np.int32]
    """[N]: the id of the subject in each row, or one of the special values of `row_owners`."""
    shared: list[tuple[int, int]]
    """Row and subject's id, for the rows that samples of several subjects show."""
    subjects: list[int]
    """The ids of all subjects in the order of their names."""
    n_samples: int
    """Samples with a template."""
    n_subjects: int
    """Subjects with such samples."""
    n_several: int
    """Samples with a template whose photo shows more than one face."""


class Reader:
    """A store opened by `reading`. Every method may raise `DatabaseError` and `Damaged`."""

    def __init__(self, folder: Path, dim: int, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.dim = dim
        self.connection = connection
        """The index; what changes it goes into a `transaction`."""
        kept_dim = fact(connection, "dim")
        if kept_dim != dim:
            raise EmbedderMismatch(
                f"holds templates of {kept_dim} numbers, the embedder makes {dim}",
                path=folder,
                hint="if it is this embedder's, it is damaged: repair it",
            )
        self._n_valid = len(self.matrix())

    @classmethod
    @contextmanager
    def reading(cls, folder: Path, dim: int) -> Iterator[Self]:
        """Open the store in `folder` without writing anything to it."""
        with opened(folder) as connection:
            with explained(folder):
                store = cls(folder, dim, connection)
            yield store

    def complete(self) -> bool:
        """Say whether the last enrolment ran to its end."""
        return bool(self.fact("complete"))

    def generation(self) -> int:
        """Return a number that grows with every commit that changes samples."""
        generation: int = self.fact("generation")
        return generation

    @contextmanager
    def still(self) -> Iterator[None]:
        """Hold the index still: whatever is asked within is of one moment. Writers wait meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        with self.transaction("DEFERRED"):
            yield

    def fingerprints(self, limits: str) -> dict[bytes, bytes | None]:
        """Return name -> fingerprint of the subjects; None where single samples must be looked at.

        That is where one is too young to be trusted, was lost, or shows no face found under other `limits`.
        """
        found = dict(self.rows("SELECT name, fingerprint FROM subjects", (NAME, values.FINGERPRINT)))
        unsure = self.rows(
            "SELECT DISTINCT name FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row IS NULL AND limits <> ?",
            (NAME,),
            (limits,),
        )
        unsure += self.rows(
            "SELECT DISTINCT name FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row >= ?",
            (NAME,),
            (self._n_valid,),
        )
        found.update((name, None) for (name,) in unsure)
        return found

    def known(self, subject: bytes, limits: str) -> dict[bytes, str]:
        """Return path -> stat of the samples of `subject` that have a photo.

        The stat is empty for a sample that must be looked at again whatever its file's: its row was lost, or
        no face was found under other `limits`.
        """
        rows = self.rows(
            "SELECT path, CASE WHEN row < ?1 OR (row IS NULL AND limits = ?2) THEN stat ELSE '' END"
            " FROM subjects JOIN samples ON subject = subjects.id JOIN contents ON content = contents.id"
            " WHERE name = ?3 AND stat IS NOT NULL",
            (PATH, TEXT),
            (self._n_valid, limits, subject),
        )
        return dict(rows)

    def has(self, digest: bytes, limits: str) -> bool:
        """Say whether the content with this SHA-256 was enrolled, or failed under the same `limits`."""
        found = self.rows(
            "SELECT 1 FROM contents WHERE digest = ? AND (row IS NOT NULL OR limits = ?)",
            (values.FLAG,),
            (digest, limits),
        )
        return bool(found)

    def snapshot(self) -> Snapshot:
        """Return what a search needs, from one moment.

        Raises `DatabaseError` when the matrix has lost rows that samples need.
        """
        with self.still():
            generation, complete, numbering = self.generation(), self.complete(), self._identity()
            [(n_samples, n_subjects, n_several)] = self.rows(
                "SELECT TOTAL(n_samples), TOTAL(n_samples > 0), TOTAL(n_several) FROM subjects",
                (TOTAL, TOTAL, TOTAL),
            )
            subjects = [number for (number,) in self.rows("SELECT id FROM subjects ORDER BY name", (ID,))]
            owned = self.owners()
            shared = [
                (row, subject)
                for row in np.flatnonzero(owned == row_owners.SEVERAL).tolist()
                for (subject,) in self.rows(
                    "SELECT DISTINCT subject FROM contents JOIN samples ON content = contents.id WHERE row = ?",
                    (ID,),
                    (row,),
                )
            ]
            n_rows = self._next_row()
            # Before the index may change: a compaction replaces the file only after it has changed.
            templates = self.matrix()[:n_rows]
            compact = self.compact()
        if len(templates) < len(owned):
            raise DatabaseError(
                f"{MATRIX} holds {len(templates)} of the {len(owned)} templates that its index counts",
                path=self.folder,
                hint="refresh it: what is lost is enrolled again",
                advice="refresh_lost",
            )
        by_row = np.full(len(templates), row_owners.NOBODY, np.int32)
        by_row[: len(owned)] = owned
        counts = int(n_samples), int(n_subjects), int(n_several)
        return Snapshot(
            generation, complete, numbering, templates, compact, by_row, shared, subjects, *counts
        )

    def owners(self) -> NDArray[np.int32]:
        """Return the owner of each row, up to the last that anybody owns (see `row_owners`)."""
        with explained(self.folder):
            return row_owners.load(self.connection)

    def subject_id(self, name: bytes) -> int | None:
        """Return the id of a subject; None for one that is not there."""
        found = self.rows("SELECT id FROM subjects WHERE name = ?", (ID,), (name,))
        return found[0][0] if found else None

    def name_of(self, subject: int) -> bytes:
        """Return the name of the subject with this id."""
        name: bytes = self._one("SELECT name FROM subjects WHERE id = ?", NAME, subject)
        return name

    def paths_of(self, subject: int, row: int) -> list[bytes]:
        """Return the paths of the samples of a subject that show this row, in their order."""
        paths = self.rows(
            "SELECT path FROM contents CROSS JOIN samples ON content = contents.id"
            " WHERE row = ? AND subject = ? ORDER BY path",
            (PATH,),
            (row, subject),
        )
        return [path for (path,) in paths]

    def samples_of(self, subject: int) -> list[tuple[bytes, int]]:
        """Return path and row of the samples of a subject with a template, in the order of the paths."""
        return self.rows(
            "SELECT path, row FROM samples JOIN contents ON contents.id = content"
            " WHERE subject = ? AND row IS NOT NULL ORDER BY path",
            (PATH, ROW),
            (subject,),
        )

    def samples(self) -> list[tuple[bytes, bytes, int]]:
        """Return subject, path and row of the samples with a template, in the order of subject, then path."""
        return self.rows(
            "SELECT name, path, row FROM samples JOIN subjects ON subjects.id = subject"
            " JOIN contents ON contents.id = content WHERE row IS NOT NULL ORDER BY name, path",
            (NAME, PATH, ROW),
        )

    def strictness(self) -> dict[int, float]:
        """Return row -> strictness of the templates that have any."""
        rows = self.rows(
            "SELECT row, geometry FROM contents WHERE row IS NOT NULL AND geometry LIKE ?",
            (ROW, GEOMETRY),
            (STRICT,),
        )
        return {row: strictness_in(text) for row, text in rows}

    def strictness_of(self, row: int) -> float:
        """Return the strictness of the template in this row."""
        found = self.rows("SELECT geometry FROM contents WHERE row = ?", (GEOMETRY,), (row,))
        return strictness_in(found[0][0]) if found else 0.0

    def failures(self) -> list[tuple[bytes, bytes, str, str]]:
        """Return subject, path, code and message of the others, in the same order."""
        return self.rows(
            "SELECT name, path, code, message FROM contents CROSS JOIN samples ON content = contents.id"
            " CROSS JOIN subjects ON subjects.id = subject WHERE row IS NULL ORDER BY name, path",
            (NAME, PATH, TEXT, TEXT),
        )

    def subjects(self) -> list[bytes]:
        """Return the names of the subjects with a template, in their order."""
        return self._names("n_samples > 0")

    def without_template(self) -> list[bytes]:
        """Return the names of the subjects all of whose samples failed."""
        return self._names("n_samples = 0")

    def imported(self) -> list[tuple[bytes, bytes]]:
        """Return subject and path of the samples that have no photo behind them."""
        return self.rows(
            "SELECT name, path FROM samples JOIN subjects ON subjects.id = subject WHERE stat IS NULL",
            (NAME, PATH),
        )

    def matrix(self) -> NDArray[np.float32]:
        """Map the rows that the matrix counts: after a compaction that was cut off, those of the new file."""
        with explained(self.folder):
            for name in (SWAP, MATRIX) if self.fact("swap") is not None else (MATRIX,):
                try:
                    if os.path.lexists(self.folder / name) and not is_own(self.folder / name):
                        raise Damaged(f"{name} is no regular file", path=self.folder)
                    return map_rows(self.folder / name, self.dim)
                except FileNotFoundError:
                    # Somebody has just put it in its place.
                    pass
            return np.empty((0, self.dim), np.float32)

    def compact(self) -> Compact:
        """Return the compact copy of the matrix, within a transaction; one of no rows where none fits."""
        with explained(self.folder):
            return Compact.open(self.folder / COMPACT, self.dim, self._identity())

    def fact(self, key: str) -> Any:
        """Return what the index says of the store as a whole under one of the keys of `FACTS`; None if nothing."""
        with explained(self.folder):
            return fact(self.connection, key)

    def rows(self, statement: str, kinds: tuple[Kind, ...], values: tuple[object, ...] = ()) -> list[Any]:
        """Return what a SELECT gives, tuples whose columns are of `kinds`."""
        with explained(self.folder):
            return checked(self.connection.execute(statement, values).fetchall(), *kinds)

    def _one(self, statement: str, kind: Kind, *values: object) -> Any:
        found = self.rows(statement, (kind,), values)
        if len(found) != 1:
            raise Damaged(f"{INDEX} is damaged (it lacks a {kind.what})", path=self.folder)
        return found[0][0]

    def _names(self, which: str) -> list[bytes]:
        return [
            name for (name,) in self.rows(f"SELECT name FROM subjects WHERE {which} ORDER BY name", (NAME,))
        ]

    def _identity(self) -> bytes:
        """Return what names the matrix in its compact copy."""
        identity: bytes | None = self.fact("matrix")
        # Earlier stores have none.
        return identity if identity is not None else b""

    def _next_row(self) -> int:
        # Both ends, since all rows lie between them; each is a look-up.
        [(first, last)] = self.rows(
            "SELECT (SELECT MIN(row) FROM contents), (SELECT MAX(row) FROM contents)", (optional(ROW),) * 2
        )
        return 0 if first is None else last + 1

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Make the changes of the index within durable together, or not at all."""
        with explained(self.folder):
            self.connection.execute(f"BEGIN {kind}")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
