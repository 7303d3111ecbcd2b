"""Verifies what is kept of a database: the index, the matrix, and both against the photos.

A refresh looks at a photo again when its size, times or inode changed. Here every photo is read, so one that was
changed in place and had all of these put back is found as well.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facecli.errors import DatabaseError, FaceError, printable
from facecli.gallery.enrolment import Enroller
from facecli.gallery.store import row_owners, values
from facecli.gallery.store.facts import FACTS
from facecli.gallery.store.files import COMPACT, Damaged
from facecli.gallery.store.fingerprint import stat_text
from facecli.gallery.store.folder import StoreFolder, dim_of
from facecli.gallery.store.index import explained
from facecli.gallery.store.names import relative
from facecli.gallery.store.unit import are_unit
from facecli.gallery.store.writer import Store
from facecli.hooks import Progress
from facecli.photos.find import read
from facecli.templates.template import Enrolled

SIMILARITY_TOLERANCE = 1e-4
"""How far a template made anew may lie from the kept one, as 1 - cosine: engines round differently."""

BLOCK_ROWS = 8192
_READ_BYTES = 1 << 20


class Problem(NamedTuple):
    """Something that is not as it should be. `path` is of a sample below the database, or of a file of the store."""

    code: str
    path: str
    message: str


@dataclass
class Checked:
    """What was looked at in one store, and what is wrong. Mutable while the check goes on."""

    n_samples: int = 0
    """With or without a template."""
    n_templates: int = 0
    """Rows whose numbers were looked at: those that a sample shows."""
    n_photos: int = 0
    """Photos that could be read."""
    n_changed: int = 0
    """Photos that are gone or show something else now, as the next refresh will see for itself."""
    n_embedded: int = 0
    """Templates made anew and compared."""
    problems: list[Problem] = field(default_factory=list)
    replaced: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Subject and path of samples that must be read again, though their files look unchanged."""
    broken_rows: list[int] = field(default_factory=list)
    """Rows that must be made anew."""


def check(
    root: Path,
    store: StoreFolder,
    *,
    enroller: Enroller | None = None,
    n_embed: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Checked:
    """Verify one store of the database in `root`; nothing is changed.

    With `enroller`, whose id must be the store's, `n_embed` templates drawn at random are made anew and compared
    with the kept ones. `progress` is told of the photos. Raises `DatabaseError` when the store cannot be read at
    all for a reason outside of it, such as permissions, and when no template at all can be made anew.
    """
    checked = Checked()
    folder = store.folder
    try:
        dim = dim_of(folder)
        with Store.reading(folder, dim) as kept, explained(folder):
            verdict = [said for (said,) in kept.connection.execute("PRAGMA integrity_check(5)")]
            if verdict != ["ok"]:
                raise Damaged("; ".join(verdict), path=folder)
            with kept.still():
                _check_values(kept, checked)
                _check_tables(kept, checked)
                _check_rows(kept, checked)
                subjects = kept.rows("SELECT id, name FROM subjects ORDER BY name", (values.ID, values.NAME))
                [(total,)] = kept.rows("SELECT COUNT(*) FROM samples WHERE stat IS NOT NULL", (values.COUNT,))
            done = 0
            # No transaction from here on: photos take their time, and a writer need not wait for them.
            for number, subject in subjects:
                for sample in _samples(kept, number):
                    _check_photo(root, subject, *sample, checked)
                    done += 1
                    if progress is not None:
                        progress(done, total)
            if enroller is not None and n_embed:
                _check_anew(root, kept, enroller, n_embed, seed, checked)
    except Damaged as error:
        checked.problems.append(
            Problem("index_damaged", printable(folder), f"{error.what}: all photos must be enrolled again")
        )
    return checked


def _check_values(kept: Store, checked: Checked) -> None:
    """Read all that the index says; raises `Damaged` for what cannot be, but for what a single face is."""
    for key in FACTS:
        kept.fact(key)
    for statement, kinds in values.TABLES.items():
        for _ in values.stream(kept.connection.execute(statement), *kinds):
            pass
    cursor = kept.connection.execute(
        "SELECT row, face, n_faces, probability, geometry FROM contents WHERE row IS NOT NULL"
    )
    while rows := cursor.fetchmany(BLOCK_ROWS):
        if _are_faces(rows):
            continue
        for row, *_ in (each for each in rows if not _are_faces([each])):
            checked.broken_rows.append(row)
            _note_shown_by(kept, row, "what is kept of its face is damaged", checked)


def _are_faces(rows: list[tuple[Any, ...]]) -> bool:
    try:
        values.checked(rows, values.ROW, *values.FACE_OF_CONTENT)
    except Damaged:
        return False
    return True


def _check_tables(kept: Store, checked: Checked) -> None:
    """Compare what the index derives from its samples with the samples."""
    db = kept.connection
    [(checked.n_samples,)] = db.execute("SELECT COUNT(*) FROM samples")
    [(n_lost,)] = db.execute(
        "SELECT COUNT(*) FROM samples LEFT JOIN contents ON contents.id = content"
        " LEFT JOIN subjects ON subjects.id = subject WHERE contents.id IS NULL OR subjects.id IS NULL"
    )
    counts = db.execute(
        "SELECT COUNT(*) FROM subjects LEFT JOIN (SELECT subject, TOTAL(row IS NOT NULL) AS kept,"
        " TOTAL(row IS NULL) AS failed, TOTAL(row IS NOT NULL AND n_faces > 1) AS several"
        " FROM samples JOIN contents ON contents.id = content GROUP BY subject) ON subject = subjects.id"
        " WHERE (n_samples, n_failed, n_several) IS NOT (kept, failed, several)"
    ).fetchone()
    cursor = db.execute(
        f"SELECT row, CASE WHEN MIN(subject) = MAX(subject) THEN MIN(subject) ELSE {row_owners.SEVERAL} END"
        " FROM samples JOIN contents ON contents.id = content WHERE row IS NOT NULL GROUP BY row"
    )
    pairs = values.stream(cursor, values.ROW, values.OWNER)
    right = np.fromiter((number for pair in pairs for number in pair), np.int64).reshape(-1, 2)
    owned = kept.owners()
    agree = np.array_equal(np.flatnonzero(owned != row_owners.NOBODY), right[:, 0]) and np.array_equal(
        owned[right[:, 0]], right[:, 1]
    )
    if n_lost or counts[0] or not agree:
        checked.problems.append(
            Problem("index_inconsistent", printable(kept.folder), "the index contradicts itself")
        )


def _check_rows(kept: Store, checked: Checked) -> None:
    """Look at the numbers of every row that a sample shows."""
    rows = np.flatnonzero(kept.owners() != row_owners.NOBODY)
    templates = kept.matrix()
    checked.n_templates = len(rows)
    lost = rows[rows >= len(templates)]
    if len(lost):
        what = f"{len(lost):,} of {len(rows):,} templates are missing from the matrix"
        checked.problems.append(Problem("templates_missing", printable(kept.folder), what))
        checked.broken_rows += lost.tolist()
    if not kept.compact().agrees(templates):
        what = "the compact copy is not one of the matrix: searches may miss people"
        checked.problems.append(Problem("compact_differs", printable(kept.folder / COMPACT), what))
    there = rows[rows < len(templates)]
    for start in range(0, len(there), BLOCK_ROWS):
        block = there[start : start + BLOCK_ROWS]
        for row in block[~are_unit(templates[block])].tolist():
            checked.broken_rows.append(row)
            _note_shown_by(kept, row, "the template is not of length 1", checked)


def _note_shown_by(kept: Store, row: int, what: str, checked: Checked) -> None:
    """Note what is wrong with a row for each sample that shows it, or for the store where none does."""
    shown = _shown_by(kept, row)
    if not shown:
        checked.problems.append(Problem("template_broken", printable(kept.folder), f"row {row}: {what}"))
    for subject, path, imported in shown:
        lost = ", and no photo is there to make it again: import it again" if imported else ""
        checked.problems.append(Problem("template_broken", relative(subject, path), what + lost))


def _shown_by(kept: Store, row: int) -> list[tuple[bytes, bytes, bool]]:
    return kept.rows(
        "SELECT name, path, stat IS NULL FROM contents JOIN samples ON content = contents.id"
        " JOIN subjects ON subjects.id = subject WHERE row = ? ORDER BY name, path",
        (values.NAME, values.PATH, values.FLAG),
        (row,),
    )


def _samples(kept: Store, subject: int) -> list[tuple[bytes, str, bytes]]:
    return kept.rows(
        "SELECT path, stat, digest FROM samples JOIN contents ON contents.id = content"
        " WHERE subject = ? AND stat IS NOT NULL ORDER BY path",
        (values.PATH, values.TEXT, values.DIGEST),
        (subject,),
    )


def _check_photo(root: Path, subject: bytes, path: bytes, stat: str, digest: bytes, checked: Checked) -> None:
    file = os.path.join(os.fsencode(root), subject, path)
    try:
        status = os.stat(file)
        if not stat_module.S_ISREG(status.st_mode):
            # A pipe would be waited for.
            raise FileNotFoundError(file)
        found = _digest(file)
        status = os.stat(file)
    except OSError:
        checked.n_changed += 1
        return
    checked.n_photos += 1
    if found == digest:
        return
    if stat != stat_text(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino):
        checked.n_changed += 1
        return
    checked.replaced.append((subject, path))
    what = "shows something else than what was enrolled, though its size, times and inode are the same"
    checked.problems.append(Problem("photo_replaced", relative(subject, path), what))


def _digest(file: bytes) -> bytes:
    state = sha256()
    with open(file, "rb") as stream:
        while piece := stream.read(_READ_BYTES):
            state.update(piece)
    return state.digest()


def _check_anew(root: Path, kept: Store, enroller: Enroller, n: int, seed: int, checked: Checked) -> None:
    """Make some templates anew from photos that are what they were."""
    # A face that was searched for in another way may lie a little elsewhere: that is no damage.
    limits = f"{enroller.limits!r}, "
    rows = kept.rows(
        "SELECT row FROM contents WHERE row IS NOT NULL AND substr(limits, 1, ?) = ? ORDER BY row",
        (values.ROW,),
        (len(limits), limits),
    )
    templates = kept.matrix()
    drawn = np.random.default_rng(seed).permutation(np.array([row for (row,) in rows], np.int64))
    chosen: list[tuple[int, bytes, bytes]] = []

    def photos() -> Iterator[tuple[Path, bytes]]:
        for row in drawn.tolist():
            if len(chosen) == n:
                return
            if row >= len(templates) or not are_unit(templates[row : row + 1]).all():
                # That is known by now.
                continue
            for subject, path, imported in _shown_by(kept, row):
                [(digest,)] = kept.rows("SELECT digest FROM contents WHERE row = ?", (values.DIGEST,), (row,))
                file = root / os.fsdecode(subject) / os.fsdecode(path)
                try:
                    data = b"" if imported else read(file)
                except FaceError:
                    continue
                if sha256(data).digest() == digest:
                    chosen.append((row, subject, path))
                    yield file, data
                    break

    for at, result in enumerate(enroller.enrol(photos())):
        row, subject, path = chosen[at]
        if isinstance(result, Enrolled):
            similarity = float(result.embedding.astype(np.float64) @ templates[row].astype(np.float64))
            if abs(1 - similarity) <= SIMILARITY_TOLERANCE:
                continue
            what = f"made anew, the template has a similarity of {similarity:.4f} to the kept one"
        else:
            what = f"made anew, there is no template: {result}"
        checked.broken_rows.append(row)
        checked.problems.append(Problem("template_differs", relative(subject, path), what))
    checked.n_embedded = len(chosen)
    if not chosen:
        raise DatabaseError(
            "no template can be made anew: none is of a photo that is still there and was enrolled with these options",
            path=root,
            hint="search for faces as small as it was enrolled with",
            advice="same_limits",
        )
