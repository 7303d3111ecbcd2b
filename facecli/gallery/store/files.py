"""The files of a store: their names, and that none of them is a link to something else.

A database may come from a stranger. Nothing is written, moved or deleted but under these names, in the store's folder.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from pathlib import Path

from facecli.errors import DatabaseError
from facecli.files.own import close_to_others, is_own, unshare

HOME = ".facecli"
"""The folder of all stores of a database, beside its photos."""

INDEX = "index.sqlite"
JOURNAL = f"{INDEX}-journal"
MATRIX = "templates.npy"
SWAP = f"{MATRIX}.swap"
"""Where a compaction writes the new matrix."""
COMPACT = "compact.npy"
LOCK = "lock"

OWN = (INDEX, JOURNAL, MATRIX, SWAP, COMPACT, LOCK)

_READ = (INDEX, JOURNAL, MATRIX)
"""What a store cannot do without, where it is there."""

_NEVER_OURS = (f"{INDEX}-wal", f"{INDEX}-shm")
"""SQLite would make use of them."""

_LEFT_OVER = re.compile(
    "|".join(rf"({re.escape(name)})(\.\d+)?\.(part|damaged)(-journal)?" for name in (*OWN, *_NEVER_OURS))
)


class Damaged(DatabaseError):
    """A store that cannot be made sense of. Its index can be set aside and made again from the photos."""


def is_left_over(name: str) -> bool:
    """Say whether damaged or broken-off work leaves files of this name."""
    return _LEFT_OVER.fullmatch(name) is not None


def check_files(folder: Path) -> None:
    """Raise `Damaged` where a name of ours stands for something else than a regular file."""
    for name in _READ:
        try:
            mode = os.lstat(folder / name).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            what = "a link" if stat.S_ISLNK(mode) else "no regular file"
            raise Damaged(f"{name} is {what}", path=folder)
    for name in _NEVER_OURS:
        if os.path.lexists(folder / name):
            raise Damaged(f"{name} is no file of a store", path=folder)


def own_files(folder: Path) -> None:
    """Make the files of a store its own, before they are written to: no other name stands for them.

    Nobody but the owner reads them from now on.
    """
    for name in (INDEX, JOURNAL, MATRIX, SWAP, COMPACT):
        unshare(folder / name)
        if is_own(folder / name):
            close_to_others(folder / name)
    close_to_others(folder)
    if folder.parent.name == HOME:
        close_to_others(folder.parent)


def clear_way(folder: Path) -> None:
    """Set aside folders that bear names of ours, and remove what is in the place of the lock and is no lock."""
    with closing(os.scandir(folder)) as entries:
        in_the_way = [
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
            and (entry.name in OWN or (is_left_over(entry.name) and not entry.name.endswith(".damaged")))
        ]
    for path in in_the_way:
        set_aside(path)
    lock = folder / LOCK
    if os.path.lexists(lock) and not (is_own(lock) and os.lstat(lock).st_nlink == 1):
        lock.unlink()


def set_index_aside(folder: Path) -> None:
    """Rename the index, and what SQLite takes for part of it, so that the store has none."""
    for name in (INDEX, JOURNAL, *_NEVER_OURS):
        if os.path.lexists(folder / name):
            set_aside(folder / name)


def set_aside(path: Path) -> None:
    """Rename a file, a link or a folder to `NAME.damaged`, or to `NAME.2.damaged` where that is in the way."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.damaged" if number == 1 else f"{path.name}.{number}.damaged")
        if not os.path.lexists(aside) or (is_own(aside) and is_own(path)):
            os.replace(path, aside)
            return
    raise DatabaseError("cannot be set aside: too much is there already", path=path)
