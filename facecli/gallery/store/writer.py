"""The templates of one database under one embedder, on disk: a matrix that only grows and an index over it.

A store is a folder with these files:

- `templates.npy`: float32 [N, D], one unit row for each different photo that was ever enrolled. Bare
  `np.load(path, mmap_mode="r")` reads it at any moment, while a writer works too.
- `index.sqlite`: which file shows which content (`samples`; without a `stat` where there is no photo behind
  it), and what came of each content (`contents`, by the SHA-256 of its bytes): a row of the matrix, or the
  reason why there is none. The index is the truth. What it derives from these is up to `derived`: counts of
  samples and the state of a folder of photos (`subjects`), and who is in each row (`owners`).
- `compact.npy`, of a large matrix: a copy in fewer bytes, made from it by each commit; see `int8_copy`. It may
  be deleted at any time, and is before a row that it covers changes.
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

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.errors import FaceError
from facecli.files.npy import append_rows, is_matrix, write_empty
from facecli.files.own import create_own, is_own, open_own
from facecli.gallery.store import derived
from facecli.gallery.store.files import COMPACT, INDEX, MATRIX, SWAP, own_files
from facecli.gallery.store.index import create, exists, explained, fresh, locked, opened, put_in_place
from facecli.gallery.store.int8_copy import extend, forget_from, worth_it
from facecli.gallery.store.names import Photo
from facecli.gallery.store.reader import Reader
from facecli.hooks import Notify
from facecli.templates.geometry import geometry
from facecli.templates.template import Enrolled

WRITER_CACHE_KB = 64 << 10
"""Memory for pages of the index that an enrolment comes back to."""

_PUT_CONTENT = (
    "INSERT INTO contents (digest, row, face, n_faces, probability, geometry, code, message, limits)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET row = excluded.row,"
    " face = excluded.face, n_faces = excluded.n_faces, probability = excluded.probability,"
    " geometry = excluded.geometry, code = excluded.code, message = excluded.message,"
    " limits = excluded.limits"
)


class Store(Reader):
    """A store opened by `writing`, or by `reading`. Every method may raise `DatabaseError` and `Damaged`."""

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
            with explained(folder):
                own_files(folder)
            with opened(folder) as connection:
                with explained(folder):
                    store = cls(folder, dim, connection)
                    store._repair()
                yield store

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
        rows = [result.embedding for result in enrolled.values()]
        first = self.append(np.stack(rows) if rows else np.empty((0, self.dim), np.float32))
        row_of = {digest: first + at for at, digest in enumerate(enrolled)}
        digests = {*results, *(digest for _, digest in samples)}
        places = {*((photo.subject, photo.path) for photo, _ in samples), *removed}
        with self.transaction():
            with derived.counting(self.connection, digests, places):
                for digest, result in results.items():
                    _put_content(self.connection, digest, result, row_of.get(digest), limits)
                self.connection.executemany(
                    "INSERT OR IGNORE INTO subjects (name) VALUES (?)",
                    {(photo.subject,) for photo, _ in samples},
                )
                self.connection.executemany(
                    "INSERT OR REPLACE INTO samples (subject, path, stat, content) VALUES"
                    " ((SELECT id FROM subjects WHERE name = ?), ?, ?,"
                    " (SELECT id FROM contents WHERE digest = ?))",
                    [(photo.subject, photo.path, photo.stat, digest) for photo, digest in samples],
                )
                self.connection.executemany(
                    "DELETE FROM samples WHERE subject = (SELECT id FROM subjects WHERE name = ?)"
                    " AND path = ?",
                    removed,
                )
            self.connection.executemany(
                "UPDATE subjects SET fingerprint = NULL WHERE name = ?", {(subject,) for subject, _ in places}
            )
            self.connection.executemany(
                "DELETE FROM subjects WHERE name = ? AND n_samples = 0 AND n_failed = 0",
                {(subject,) for subject, _ in removed},
            )
            if places:
                self._put_fact("generation", self.generation() + 1)
            if complete:
                derived.seal(self.connection)
            self._put_fact("complete", int(complete))
        self.extend_compact()

    def append(self, rows: NDArray[np.float32]) -> int:
        """Write `rows` [n, D] behind those that the index names, for a commit; return the number of the first."""
        first = self._next_row()
        if len(rows):
            if rows.shape[1] != self.dim:
                raise ValueError(f"templates have {rows.shape[1]} numbers, the store holds {self.dim}")
            with explained(self.folder):
                forget_from(self.folder / COMPACT, first, self.dim)
                append_rows(self.folder / MATRIX, first, rows)
            self._n_valid = first + len(rows)
        return first

    def copy_to(self, folder: Path) -> None:
        """Copy the store to a folder without one, where it appears whole or not at all."""
        import shutil

        with explained(folder), ExitStack() as opened_files:
            aside = fresh(folder / f"{INDEX}.part")
            sources = {}
            # Index and matrix of one moment: a compaction gives the rows other numbers. What is open stays as it is.
            with self.still():
                # That of a compaction first: if it is in its place by now, that is where the next look goes.
                for name in (SWAP, MATRIX) if self.fact("swap") is not None else (MATRIX,):
                    with contextlib.suppress(FileNotFoundError):
                        sources[name] = opened_files.enter_context(open_own(self.folder / name))
                with closing(sqlite3.connect(aside)) as new:
                    self.connection.backup(new)
            for name, source in sources.items():
                with create_own(folder / f"{name}.part") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(folder / f"{name}.part", folder / name)
            # Of an earlier store, it may bear the same name and cover other rows.
            (folder / COMPACT).unlink(missing_ok=True)
            put_in_place(aside, folder)

    def extend_compact(self) -> None:
        """Bring the compact copy up to what the index names, where it is worth it."""
        n = self._next_row()
        if worth_it(n, self.dim):
            # Searches do without it, so a full disk is no reason to fail.
            with contextlib.suppress(OSError):
                extend(self.folder / COMPACT, self.matrix()[:n], self._identity())

    def _repair(self) -> None:
        """Finish what a writer that died had begun, and forget what the matrix has lost."""
        with explained(self.folder):
            # Digests come in no order: with the 2 MB of a reader, every new one has pages fetched.
            self.connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KB}")
            derived.prepare(self.connection)
            if self.fact("swap") is not None:
                if is_own(self.folder / SWAP):
                    os.replace(self.folder / SWAP, self.folder / MATRIX)
                self.connection.execute("DELETE FROM facts WHERE key = 'swap'")
            if not is_matrix(self.folder / MATRIX, self.dim):
                write_empty(self.folder / MATRIX, self.dim)
        if self._n_valid >= self._next_row():
            return
        with self.transaction():
            # The samples that showed these contents find no content now, so their photos are read again.
            self.connection.execute(
                "DELETE FROM samples WHERE content IN (SELECT id FROM contents WHERE row >= ?)",
                (self._n_valid,),
            )
            self.connection.execute("DELETE FROM contents WHERE row >= ?", (self._n_valid,))
            derived.recount(self.connection)
            self._put_fact("generation", self.generation() + 1)
            self._put_fact("complete", 0)
            # The rows will be given to others.
            self._put_fact("matrix", os.urandom(16))

    def _put_fact(self, key: str, value: int | bytes) -> None:
        self.connection.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, value))


def _put_content(
    connection: sqlite3.Connection,
    digest: bytes,
    result: Enrolled | FaceError,
    row: int | None,
    limits: str,
) -> None:
    """Note what the content with this SHA-256 gave under `limits`: `row` of the matrix, or an error."""
    if isinstance(result, Enrolled):
        known = result.quality
        score, strictness = (None, 0.0) if known is None else (known.score, known.strictness)
        place = geometry(result.box, result.landmarks, score, strictness)
        found = [int(result.face), int(result.n_faces), float(result.probability), place, None, None]
    else:
        said = result.record()
        # Messages may quote file names; SQLite takes no lone surrogates.
        message = said["message"].encode("utf-8", "backslashreplace").decode()
        found = [None, None, None, None, said["code"], message]
    connection.execute(_PUT_CONTENT, (digest, row, *found, limits))
