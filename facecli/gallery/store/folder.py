"""What lies in the folders where a database keeps its templates: whose stores, which files, what is left over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from facecli.errors import DatabaseError, printable
from facecli.files.npy import is_matrix
from facecli.files.own import is_own
from facecli.gallery.store import index
from facecli.gallery.store.facts import fact
from facecli.gallery.store.files import MATRIX, OWN, Damaged, is_left_over
from facecli.gallery.store.index import explained, opened
from facecli.gallery.store.location import check_no_links, places
from facecli.gallery.store.unit import NoTemplate


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
        for folder in _listed(home):
            check_no_links(root, folder)
            if index.exists(folder) or left_over(folder):
                found.append(StoreFolder(folder, printable(unquote(folder.name)), beside))
    return found


def _listed(home: Path) -> list[Path]:
    """Return the folders of stores in `home`, none where it is no folder or may not be listed."""
    try:
        return sorted(folder for folder in home.iterdir() if folder.is_dir() and folder.suffix != ".damaged")
    except OSError:
        return []


@contextmanager
def advised(root: Path) -> Iterator[None]:
    """Add to the error of a damaged store of the database in `root` where it is and what to do about it."""
    try:
        yield
    except Damaged as error:
        raise Damaged(
            error.what,
            path=error.path if error.path is not None else root,
            hint="a repair sets it aside, and the photos are enrolled again",
            advice="check_repair",
            values={"root": printable(root)},
        ) from error
    except NoTemplate as error:
        raise DatabaseError(
            error.what,
            path=root,
            hint="a repair forgets it, and a refresh makes it anew",
            advice="repair_templates",
            values={"root": printable(root)},
        ) from error


def dim_of(folder: Path) -> int:
    """Return how many numbers a template of the store in `folder` has; raises `Damaged` and `DatabaseError`."""
    with opened(folder) as connection, explained(folder):
        dim: int = fact(connection, "dim")
        if is_own(folder / MATRIX) and not is_matrix(folder / MATRIX, dim):
            raise Damaged(f"{MATRIX} is damaged (it is no matrix of {dim} numbers a row)", path=folder)
    return dim


def left_over(folder: Path) -> list[Path]:
    """Return the files that damaged or broken-off work left and nobody needs.

    Those of a writer at work look the same: hold the lock before removing any.
    """
    with closing(os.scandir(folder)) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if is_left_over(entry.name) and not entry.is_dir(follow_symlinks=False)
        )


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of a store by its name."""
    names = sorted([*OWN, *(path.name for path in left_over(folder))])
    return {name: os.lstat(folder / name).st_size for name in names if is_own(folder / name)}
