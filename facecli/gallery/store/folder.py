"""What lies in the folders where a database keeps its templates: whose stores, which files, what is left over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from facecli.errors import printable
from facecli.gallery.store import index
from facecli.gallery.store.index import explained, opened
from facecli.gallery.store.location import places
from facecli.gallery.store.reader import MATRIX

SWAP = f"{MATRIX}.swap"
"""Where a compaction writes the new matrix."""

_OWN = (MATRIX, SWAP, index.INDEX, f"{index.INDEX}-journal", "lock")


@dataclass(frozen=True)
class StoreFolder:
    """One store of a database: the templates by one embedder, in one of its two places."""

    folder: Path
    embedder_id: str
    beside: bool
    """Beside the photos; else in the user's cache folder."""


def store_folders(root: Path, cache_dir: Path) -> list[StoreFolder]:
    """Return the stores of the database in `root`, those beside the photos first, then by embedder.

    A folder counts when it holds an index, sound or not, or something left over from one.
    """
    place = places(root, "any", cache_dir)
    found = []
    for home, beside in ((place.inner.parent, True), (place.outer.parent, False)):
        for folder in sorted(home.iterdir()) if home.is_dir() else []:
            if folder.is_dir() and (index.exists(folder) or left_over(folder)):
                found.append(StoreFolder(folder, unquote(folder.name), beside))
    return found


@contextmanager
def advised(root: Path) -> Iterator[None]:
    """Add to the error of a damaged index in the database in `root` what to do about it."""
    try:
        yield
    except index.Damaged as error:
        raise index.Damaged(
            error.what,
            path=error.path,
            hint="a repair sets it aside, and the photos are enrolled again",
            advice="check_repair",
            values={"root": printable(root)},
        ) from error


def dim_of(folder: Path) -> int:
    """Return how many numbers a template of the store in `folder` has; raises `Damaged` and `DatabaseError`."""
    with opened(folder) as connection, explained(folder):
        found = connection.execute("SELECT value FROM facts WHERE key = 'dim'").fetchone()
    if found is None:
        raise index.Damaged(f"{index.INDEX} lacks the fact 'dim'", path=folder)
    return int(found[0])


def made_from_matrix(folder: Path) -> list[Path]:
    """Return the files of a store that are made from its matrix and can be made again."""
    return [path for path in _files(folder) if path.name not in _OWN and not _is_left_over(path)]


def left_over(folder: Path) -> list[Path]:
    """Return the files that damaged or broken-off work left and nobody needs.

    Those of a writer at work look the same: hold the lock before removing any.
    """
    return [path for path in _files(folder) if _is_left_over(path)]


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of a store by its name."""
    return {path.name: path.stat().st_size for path in _files(folder)}


def _is_left_over(path: Path) -> bool:
    name = path.name.removesuffix("-journal")
    return name.endswith((".part", ".damaged"))


def _files(folder: Path) -> list[Path]:
    with closing(os.scandir(folder)) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
