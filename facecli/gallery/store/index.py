"""The index file of a store: made, opened, locked and set aside. What its tables say is up to `writer`."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from facecli.errors import DatabaseError, reason
from facecli.hooks import Notify

INDEX = "index.sqlite"
VERSION = 2

_SCHEMA = f"""
PRAGMA synchronous = FULL;
BEGIN;
CREATE TABLE facts (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE subjects (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE, fingerprint BLOB,
    n_samples INTEGER NOT NULL DEFAULT 0, n_failed INTEGER NOT NULL DEFAULT 0,
    n_several INTEGER NOT NULL DEFAULT 0);
CREATE TABLE contents (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, row INTEGER UNIQUE,
    face INTEGER, n_faces INTEGER, probability REAL, geometry TEXT,
    code TEXT, message TEXT, limits TEXT NOT NULL);
CREATE INDEX contents_failed ON contents (limits) WHERE row IS NULL;
CREATE TABLE samples (
    subject INTEGER NOT NULL, path BLOB NOT NULL, stat TEXT, content INTEGER NOT NULL,
    PRIMARY KEY (subject, path)) WITHOUT ROWID;
CREATE INDEX samples_by_content ON samples (content);
CREATE TABLE owners (chunk INTEGER PRIMARY KEY, subjects BLOB NOT NULL);
PRAGMA user_version = {VERSION};
"""


class Damaged(DatabaseError):
    """An index that SQLite cannot make sense of. It can be set aside and made again from the photos."""


def exists(folder: Path) -> bool:
    """Say whether there is a store in `folder`."""
    return (folder / INDEX).is_file()


def create(folder: Path, dim: int) -> None:
    """Make an empty index. It appears whole or not at all."""
    with explained(folder):
        aside = fresh(folder / f"{INDEX}.part")
        with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
            facts = [("dim", dim), ("complete", 0), ("generation", 0), ("matrix", os.urandom(16))]
            connection.executemany("INSERT INTO facts (key, value) VALUES (?, ?)", facts)
            connection.execute("COMMIT")
        put_in_place(aside, folder)


def put_in_place(aside: Path, folder: Path) -> None:
    """Rename a finished index to the one of `folder`, which has none."""
    # SQLite would play back what is left of an earlier index of this name.
    (folder / f"{INDEX}-journal").unlink(missing_ok=True)
    os.replace(aside, folder / INDEX)


def set_aside(folder: Path, notify: Notify | None) -> None:
    """Rename a damaged index to `index.sqlite.damaged`, unless another process has mended it by now."""
    with locked(folder, notify):
        if not exists(folder) or is_sound(folder):
            return
        with explained(folder):
            os.replace(folder / INDEX, folder / f"{INDEX}.damaged")


def is_sound(folder: Path) -> bool:
    """Say whether SQLite finds nothing wrong with the index, which takes reading all of it."""
    try:
        with explained(folder), opened(folder) as connection:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchall()
            version = connection.execute("PRAGMA user_version").fetchall()
    except Damaged:
        return False
    return verdict == [("ok",)] and version == [(VERSION,)]


def fresh(path: Path) -> Path:
    """Return `path`, free of what a process that died may have left there."""
    for leftover in (path, path.with_name(f"{path.name}-journal")):
        leftover.unlink(missing_ok=True)
    return path


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the index, which must be there. SQLite falls back to reading where it cannot write.

    Readers ask for writing too: the first to come after a writer that died takes its half commit back.
    """
    with explained(folder):
        connection = sqlite3.connect(
            f"{(folder / INDEX).absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=60,
            isolation_level=None,
            # Photos may be read ahead in another thread than commits; the caller keeps the two apart.
            check_same_thread=False,
        )
    with closing(connection):
        with explained(folder):
            connection.execute("PRAGMA synchronous = FULL")
        yield connection


@contextmanager
def locked(folder: Path, notify: Notify | None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock")
    with explained(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if notify is not None:
                notify("another process is enrolling into this database; waiting for it to finish")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into a `DatabaseError` that names `folder`."""
    try:
        yield
    except sqlite3.Error as error:
        # Python raises DatabaseError itself, and no child of it, only for a malformed or foreign file.
        if type(error) is sqlite3.DatabaseError:
            raise Damaged(f"{INDEX} is damaged ({error})", path=folder) from error
        hint = "is the disk full, or the folder read-only?"
        raise DatabaseError(f"{INDEX} cannot be used ({error})", path=folder, hint=hint) from error
    except OSError as error:
        full = error.errno == errno.ENOSPC
        hint = "free some space and run again: what was enrolled is kept" if full else ""
        raise DatabaseError(f"templates cannot be kept ({reason(error)})", path=folder, hint=hint) from error
