"""Takes templates without photos into a database: a batch at a time, each durable before the next begins.

What was imported before is known by its content, so an import that was broken off, or is done twice, adds what is
missing and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import numpy as np

from facecli.errors import DatabaseError
from facecli.gallery.store import derived, index
from facecli.gallery.store.fingerprint import NO_PHOTOS
from facecli.gallery.store.folder import advised
from facecli.gallery.store.index import explained
from facecli.gallery.store.location import places
from facecli.gallery.store.values import DIGEST, FLAG, PATH
from facecli.gallery.store.writer import Store
from facecli.hooks import Notify, Progress
from facecli.templates.blocks import Block
from facecli.templates.template import FailedProbe

BATCH_BYTES = 32 << 20
BATCH_ROWS = 20_000
"""Templates to a commit, at most: what a kill can cost is the time for these."""


@dataclass(frozen=True)
class Imported:
    """What an import did. All counts but `n_subjects` are of templates of the file."""

    n_new: int
    n_known: int
    """There already, from an earlier import."""
    n_replaced: int
    """Among the new: those that took the place of another template of that subject and name."""
    n_photos: int
    """Left out, because the database has a photo of that subject and name."""
    n_subjects: int
    """Different subjects in the file."""
    failed: tuple[FailedProbe, ...]
    """Records of the file that hold an error in place of a template."""
    folder: Path
    """Where the templates are kept."""
    made: bool
    """Whether nothing was kept there before."""


def import_templates(
    root: Path,
    blocks: Iterable[Block],
    *,
    embedder_id: str,
    dim: int,
    cache_dir: Path,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Imported:
    """Add the templates of `blocks` (see `template_blocks`) to the database in `root`, which need not exist.

    Their samples have no photo: a refresh leaves them alone until a photo of that subject and name appears.
    Raises what `blocks` raises, and `DatabaseError`; what was committed by then stays.
    """
    if root.exists() and not root.is_dir():
        raise DatabaseError("not a folder", path=root, hint="a database is a folder")
    place = places(root, embedder_id, cache_dir)
    made = not index.exists(place.current())
    batches = _batches(blocks, max(1, min(BATCH_ROWS, BATCH_BYTES // (4 * dim))))
    # Before anything is made on the disk: a file that cannot be read makes no database.
    first = next(batches, Block())
    folder = place.to_write(dim, notify)
    counts = np.zeros(4, np.int64)
    subjects: set[bytes] = set()
    failed: list[FailedProbe] = []
    done = 0
    with advised(root), Store.writing(folder, dim, notify) as store, explained(folder):
        for block in _chain(first, batches):
            counts += _Batch(store, block).commit()
            subjects.update(block.subjects)
            failed += block.failed
            done += len(block.subjects) + len(block.failed)
            if progress is not None:
                progress(done, block.total)
    n_new, n_known, n_replaced, n_photos = counts.tolist()
    return Imported(n_new, n_known, n_replaced, n_photos, len(subjects), tuple(failed), folder, made)


def _chain(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


def _batches(blocks: Iterable[Block], n_rows: int) -> Iterator[Block]:
    """Join blocks until they have `n_rows` rows or more."""
    batch = Block()
    parts: list[np.ndarray] = []
    for block in blocks:
        batch.subjects += block.subjects
        batch.paths += block.paths
        batch.details += block.details
        batch.failed += block.failed
        batch.total = block.total
        parts.append(block.templates)
        if len(batch.subjects) >= n_rows:
            yield _joined(batch, parts)
            batch, parts = Block(), []
    if batch.subjects or batch.failed:
        yield _joined(batch, parts)


def _joined(batch: Block, parts: list[np.ndarray]) -> Block:
    batch.templates = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return batch


class _Batch:
    """The rows of one commit, by their place in the block; a name that comes twice counts by its last row."""

    def __init__(self, store: Store, block: Block) -> None:
        self.store = store
        self.db = store.connection
        self.block = block
        self.digests = [
            _digest(subject, path, template.tobytes())
            for subject, path, template in zip(block.subjects, block.paths, block.templates, strict=True)
        ]
        # What is there under the names of this batch: name -> (whether there is a photo, digest).
        self.present: dict[tuple[bytes, bytes], tuple[bool, bytes]] = {}
        wanted = set(zip(block.subjects, block.paths, strict=True))
        for subject in sorted(set(block.subjects)):
            for path, photo, digest in store.rows(
                "SELECT path, stat IS NOT NULL, digest FROM subjects JOIN samples ON subject = subjects.id"
                " JOIN contents ON contents.id = content WHERE name = ?",
                (PATH, FLAG, DIGEST),
                (subject,),
            ):
                if (subject, path) in wanted:
                    self.present[subject, path] = (bool(photo), digest)

    def commit(self) -> tuple[int, int, int, int]:
        """Make what is new durable; return how many rows were new, known, replacing another, left to a photo."""
        last = {name: at for at, name in enumerate(zip(self.block.subjects, self.block.paths, strict=True))}
        n_photos = n_known = n_replaced = 0
        chosen: list[int] = []
        for name, at in last.items():
            photo, digest = self.present.get(name, (False, b""))
            if photo:
                n_photos += 1
            elif digest == self.digests[at]:
                n_known += 1
            else:
                n_replaced += digest != b""
                chosen.append(at)
        n_known += len(self.digests) - len(last)
        if chosen:
            self._write(chosen)
        return len(chosen), n_known, n_replaced, n_photos

    def _write(self, chosen: list[int]) -> None:
        block = self.block
        names = [(block.subjects[at], block.paths[at]) for at in chosen]
        digests = [self.digests[at] for at in chosen]
        new = [at for at in chosen if not self._is_known(self.digests[at])]
        first = self.store.append(block.templates[new])
        with self.store.transaction(), derived.counting(self.db, digests, names):
            self.db.executemany(
                "INSERT INTO contents (digest, row, face, n_faces, probability, geometry, limits)"
                " VALUES (?, ?, ?, ?, ?, ?, '')",
                ((self.digests[at], row, *block.details[at]) for row, at in enumerate(new, start=first)),
            )
            self.db.executemany(
                "INSERT OR IGNORE INTO subjects (name, fingerprint) VALUES (?, ?)",
                ((subject, NO_PHOTOS) for subject, _ in groupby(sorted(names), key=lambda name: name[0])),
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO samples (subject, path, stat, content) VALUES"
                " ((SELECT id FROM subjects WHERE name = ?), ?, NULL,"
                " (SELECT id FROM contents WHERE digest = ?))",
                ((*name, digest) for name, digest in zip(names, digests, strict=True)),
            )
            # Nothing is missing from a database that never had a photo.
            self.db.execute(
                "UPDATE facts SET value = 1 WHERE key = 'complete'"
                " AND (SELECT value FROM facts WHERE key = 'generation') = 0"
            )
            self.db.execute("UPDATE facts SET value = value + 1 WHERE key = 'generation'")
        self.store.extend_compact()

    def _is_known(self, digest: bytes) -> bool:
        return self.db.execute("SELECT 1 FROM contents WHERE digest = ?", (digest,)).fetchone() is not None


def _digest(subject: bytes, path: bytes, template: bytes) -> bytes:
    """Return the key of an imported content, 32 bytes like those of photos.

    Those of one subject begin alike: what is imported together then stands together in the index, and a commit
    touches a page a subject and not a page a template.
    """
    whole = blake2b(b"%b\0%b\0%b" % (subject, path, template), digest_size=24)
    return blake2b(subject, digest_size=8).digest() + whole.digest()
