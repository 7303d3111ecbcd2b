"""Removes a person from all that is kept of a database, and from the photos when asked to.

What a removed file held may stay on the disk itself, in snapshots and in backups: that is out of reach here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facecli.errors import DatabaseError, NoSuchFile, did_you_mean, printable, reason
from facecli.gallery.store.files import COMPACT, MATRIX, SWAP, Damaged, set_index_aside
from facecli.gallery.store.folder import StoreFolder, dim_of, store_folders
from facecli.gallery.store.index import exists, explained, locked, opened
from facecli.gallery.store.vacuum import compact, finish_erasing
from facecli.gallery.store.values import NAME, checked
from facecli.gallery.upkeep.gc import remove_left_over
from facecli.hooks import Notify
from facecli.templates.blocks import subject_name


@dataclass(frozen=True)
class Removed:
    """Something that was removed from a file or a folder."""

    embedder_id: str
    path: str
    what: str
    n_samples: int
    n_templates: int


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did. `photos` is the person's folder, empty where there is none."""

    removed: tuple[Removed, ...]
    photos: str
    n_photos: int
    """Files in it, deleted or left."""
    photos_deleted: bool
    errors: tuple[DatabaseError, ...]
    """Of the stores that could not be written: what they hold of the person is still there."""


def forget(
    root: Path, name: str, *, cache_dir: Path, photos: bool = False, notify: Notify | None = None
) -> Forgotten:
    """Remove the subject `name` from every store of the database in `root`, whatever its embedder and place.

    Samples, templates and reasons of failures go from the bytes of the files, and so does all that no sample shows
    any more, because it may have been theirs. Compact copies and files left behind by broken-off or damaged work go
    whole. A photo that another subject shows as well keeps its template there. With `photos` the folder
    `root / name` is deleted first, so that nobody enrols it again meanwhile.

    Done again after an interruption, it does the rest. A damaged index tells nobody who is in its store, so that
    goes whole. Raises `DatabaseError`, naming similar names, when there is neither such a subject nor a folder of
    that name.
    """
    stores = store_folders(root, cache_dir)
    if not root.exists() and not stores:
        raise NoSuchFile("no such folder, and no templates are kept for it", path=root)
    known: set[bytes] = set()
    for store in stores:
        known.update(_known(store, notify))
    subject = _chosen(subject_name(name), known)
    folder = root / os.fsdecode(subject)
    if subject not in known and not folder.is_dir():
        raise _unknown(root, name, known)
    n_photos = _count(folder)
    if photos:
        _delete(folder)
    removed: list[Removed] = []
    errors: list[DatabaseError] = []
    for store in stores:
        try:
            removed += _clear(store, subject, notify)
        except DatabaseError as error:
            errors.append(error)
    where = printable(folder) if n_photos or photos else ""
    return Forgotten(tuple(removed), where, n_photos, photos, tuple(errors))


def _clear(store: StoreFolder, subject: bytes, notify: Notify | None) -> Iterator[Removed]:
    """Remove all that is kept of `subject` in one store."""
    folder, where = store.folder, printable(store.folder)
    if exists(folder):
        try:
            done = compact(folder, dim_of(folder), forget=subject, notify=notify)
        except Damaged:
            with locked(folder, notify), explained(folder):
                set_index_aside(folder)
                for name in (MATRIX, SWAP, COMPACT):
                    (folder / name).unlink(missing_ok=True)
            yield Removed(store.embedder_id, where, "all of a damaged store", 0, 0)
        else:
            if done.n_rows or done.n_samples:
                what = "samples and templates" if done.n_samples else "templates that no sample shows"
                yield Removed(store.embedder_id, where, what, done.n_samples, done.n_rows)
    for path in remove_left_over(folder, notify):
        yield Removed(store.embedder_id, printable(path), "file left over", 0, 0)


def _known(store: StoreFolder, notify: Notify | None) -> list[bytes]:
    """Return the subjects of a store, none of a damaged one; what was broken off in it is finished on the way."""
    folder = store.folder
    if not exists(folder):
        return []
    try:
        finish_erasing(folder, dim_of(folder), notify)
        with opened(folder) as connection, explained(folder):
            names = checked(connection.execute("SELECT name FROM subjects").fetchall(), NAME)
            return [name for (name,) in names]
    except DatabaseError:
        # Said, or mended, when it comes to removing.
        return []


def _chosen(subject: bytes, known: set[bytes]) -> bytes:
    """Return the subject that is meant: one whose name is no UTF-8 may be typed as it is printed."""
    if subject in known:
        return subject
    typed = printable(os.fsdecode(subject))
    return next((name for name in sorted(known) if printable(os.fsdecode(name)) == typed), subject)


def _unknown(root: Path, name: str, known: set[bytes]) -> DatabaseError:
    names = [printable(os.fsdecode(subject)) for subject in known]
    hint = did_you_mean(printable(name), names, most=3, cutoff=0.6)
    return DatabaseError(
        f"no subject '{printable(name)}' among the {len(names)} enrolled", path=root, hint=hint
    )


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _delete(folder: Path) -> None:
    try:
        if folder.is_symlink():
            raise DatabaseError(
                f"is a link to '{printable(os.readlink(folder))}'; nothing was removed",
                path=folder,
                hint="delete those photos yourself, then the link, and forget the templates alone",
                advice="keep_photos",
            )
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise DatabaseError(
            f"photos cannot be deleted ({reason(error)})",
            path=error.filename if error.filename is not None else folder,
            hint="nothing was removed from the templates; change its permissions and run again",
        ) from error
