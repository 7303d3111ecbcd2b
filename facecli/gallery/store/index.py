"""The index file of a store: made, opened, locked and set aside. What its tables say is up to `writer`.

It may come from a stranger: SQLite is given it only when it is a file of ours with a journal of ours, and nothing is
asked of it but of exactly our tables.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from facecli.errors import DatabaseError, reason
from facecli.files.own import create_own, open_own
from facecli.gallery.store import files
from facecli.gallery.store.bounded import Connection
from facecli.gallery.store.facts import FACTS, fact
from facecli.gallery.store.files import INDEX, JOURNAL, Damaged
from facecli.gallery.store.values import ID, checked
from facecli.hooks import Notify

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

_MAGIC = b"SQLite format 3\0"
_ROLLBACK = b"\1\1"
"""In bytes 18 and 19: with anything else SQLite would make files that we know nothing of."""
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

_OUTSIDE = (
    *("PERM", "BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "FULL", "CANTOPEN", "PROTOCOL", "NOLFS"),
    "AUTH",
)
"""Errors that have their reason outside of the file."""


def exists(folder: Path) -> bool:
    """Say whether there is a store in `folder`, sound or not; there is none in a folder that may not be looked into."""
    return os.path.lexists(folder / INDEX)


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
    (folder / JOURNAL).unlink(missing_ok=True)
    os.replace(aside, folder / INDEX)


def set_aside(folder: Path, notify: Notify | None) -> bool:
    """Rename a damaged index to `index.sqlite.damaged` unless it is found sound; say whether it was."""
    with locked(folder, notify):
        if not exists(folder) or is_sound(folder):
            return False
        with explained(folder):
            files.set_index_aside(folder)
        return True


def is_sound(folder: Path) -> bool:
    """Say whether SQLite finds nothing wrong with the index, which takes reading all of it."""
    try:
        with explained(folder), opened(folder) as connection:
            for key in FACTS:
                fact(connection, key)
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except Damaged:
        return False


def fresh(path: Path) -> Path:
    """Make an empty file at `path` in place of what a process that died may have left there."""
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    create_own(path).close()
    return path


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the index, which must be there. SQLite falls back to reading where it cannot write.

    Readers ask for writing too: the first to come after a writer that died takes its half commit back.
    """
    with explained(folder):
        _look(folder)
        # What other names stand for as well is written to by nobody before it is a file of its own.
        mode = "rw" if os.stat(folder / INDEX).st_nlink == 1 else "ro"
        connection = sqlite3.connect(
            f"{(folder / INDEX).absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=60,
            isolation_level=None,
            # Photos may be read ahead in another thread than commits; the caller keeps the two apart.
            check_same_thread=False,
            factory=Connection,
        )
        connection.path = folder / INDEX
    with closing(connection):
        with explained(folder):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
            _check_format(folder, connection)
        yield connection


def _look(folder: Path) -> None:
    """Raise `Damaged` for an index that SQLite must not be given, `OSError` where there is none."""
    files.check_files(folder)
    with open_own(folder / INDEX) as file:
        head = file.read(100)
    if head[:16] == _MAGIC and head[18:20] != _ROLLBACK:
        raise Damaged(f"{INDEX} is damaged (it has a log of its own)", path=folder)
    for pause in (0, 0.01, 0.1):
        # A writer at work may go on between two looks, and what they show need not fit then.
        time.sleep(pause)
        wrong = _look_at_journal(folder)
        if not wrong:
            return
    raise Damaged(f"{JOURNAL} {wrong}", path=folder)


def _look_at_journal(folder: Path) -> str:
    """Say what is wrong with the journal, "" if nothing is or it is not there."""
    try:
        with open_own(folder / JOURNAL) as journal:
            start = journal.read(28)
            n_journal = journal.seek(0, os.SEEK_END)
            journal.seek(max(0, n_journal - 16))
            end = journal.read(16)
    except FileNotFoundError:
        return ""
    if start[:8] != _JOURNAL_MAGIC:
        return ""
    if end[8:] == _JOURNAL_MAGIC and 0 < int.from_bytes(end[:4], "big") <= n_journal:
        # SQLite would delete the file that its journal says it belongs to.
        return "is none of ours (it names another journal)"
    n_pages, page_size = (int.from_bytes(start[at : at + 4], "big") for at in (16, 24))
    if n_pages * page_size > os.stat(folder / INDEX).st_size + n_journal:
        return "is damaged (it is of a larger index)"
    return ""


def _check_format(folder: Path, connection: sqlite3.Connection) -> None:
    """Raise `DatabaseError` unless these are our tables and nothing else."""
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    if version > VERSION:
        raise DatabaseError(
            f"made by a newer facecli (format {version}, this one reads {VERSION})",
            path=folder,
            hint="upgrade facecli",
        )
    if version != VERSION:
        what = f"is of an older facecli (format {version})" if version else "is not an index of templates"
        raise Damaged(f"{INDEX} {what}", path=folder)
    if _schema(connection) != _own_schema():
        raise Damaged(f"{INDEX} is damaged (its tables are others)", path=folder)
    # From here on SQLite numbers the next subject.
    checked(connection.execute("SELECT seq FROM sqlite_sequence").fetchmany(2), ID)


def _schema(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 50").fetchall()
    return sorted(found, key=repr)


@cache
def _own_schema() -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(f"{_SCHEMA} COMMIT;")
        return _schema(connection)


@contextmanager
def locked(folder: Path, notify: Notify | None) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with explained(folder):
        files.clear_way(folder)
        lock = FileLock(folder / files.LOCK, mode=0o600)
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
    except Damaged as error:
        if error.path is not None:
            raise
        raise Damaged(error.what, path=folder) from error
    except sqlite3.Error as error:
        if _is_damage(error):
            raise Damaged(f"{INDEX} is damaged ({error})", path=folder) from error
        hint = "is the disk full, or the folder read-only?"
        raise DatabaseError(f"{INDEX} cannot be used ({error})", path=folder, hint=hint) from error
    except UnicodeDecodeError as error:
        # What SQLite quotes of a damaged schema need not be text.
        raise Damaged(f"{INDEX} is damaged (its schema is no text)", path=folder) from error
    except OSError as error:
        full = error.errno == errno.ENOSPC
        hint = "free some space and run again: what was enrolled is kept" if full else ""
        raise DatabaseError(f"templates cannot be kept ({reason(error)})", path=folder, hint=hint) from error


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python 3.10, and what Python itself raises. Only for a malformed file it is DatabaseError and no child of it.
        return type(error) in (sqlite3.DatabaseError, sqlite3.DataError, sqlite3.IntegrityError) or (
            str(error) == "interrupted"
        )
    return all(code & 0xFF != getattr(sqlite3, f"SQLITE_{name}") for name in _OUTSIDE)
