"""Where the templates of a database are kept: beside its photos or, where those cannot be written, in the
user's cache folder."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from facecli.errors import DatabaseError, printable, reason
from facecli.files.own import close_to_others, create_own
from facecli.gallery.store import index
from facecli.gallery.store.files import HOME
from facecli.gallery.store.writer import Store
from facecli.hooks import Notify

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True)
class Places:
    """The two folders that may hold the templates of the database in `root` under one embedder.

    The inner one moves with the photos. The outer one is found again by the path of `root`.
    """

    root: Path
    inner: Path
    outer: Path

    def current(self) -> Path:
        """Return the folder to read from; there may be no store in it yet.

        The inner store is the one, unless it cannot be written and either the outer one has taken over or
        the inner one is damaged, or holds a broken-off commit that cannot be taken back. Raises `DatabaseError`
        for a link in the place of either.
        """
        check_no_links(self.root, self.inner)
        check_no_links(self.root, self.outer)
        if not index.exists(self.inner):
            return self.outer if index.exists(self.outer) else self.inner
        if os.access(self.inner, os.W_OK):
            return self.inner
        return self.outer if index.exists(self.outer) or not self._can_read_inner() else self.inner

    def to_write(self, dim: int, notify: Notify | None) -> Path:
        """Return the folder to write to, made if need be, with what is known so far in it."""
        check_no_links(self.root, self.inner)
        check_no_links(self.root, self.outer)
        if not index.exists(self.inner) and index.exists(self.outer):
            return self.outer
        if self._make_inner():
            return self.inner
        try:
            _make(self.outer)
        except OSError as error:
            raise DatabaseError(
                f"neither this folder nor the cache folder can be written ({reason(error)})",
                path=self.root,
                hint=f"make one of them writable; the cache folder is {self.outer.parent}",
            ) from error
        if index.exists(self.inner) and not index.exists(self.outer) and self._can_read_inner():
            _copy(self.inner, self.outer, dim, notify)
        return self.outer

    def _can_read_inner(self) -> bool:
        try:
            return index.is_sound(self.inner)
        except DatabaseError:
            return False

    def _make_inner(self) -> bool:
        """Make the inner folder; say whether it can be written."""
        try:
            _make(self.inner)
            ignored = self.inner.parent / ".gitignore"
            if ignored.is_symlink() or not ignored.exists():
                # Templates are biometric data: they must not be committed by accident.
                with create_own(ignored) as file:
                    file.write(b"*\n")
        except OSError as error:
            if error.errno in _CANNOT_WRITE:
                return False
            raise DatabaseError(f"templates cannot be kept ({reason(error)})", path=self.inner) from error
        return os.access(self.inner, os.W_OK)


def places(root: Path, embedder_id: str, cache_dir: Path) -> Places:
    """Return the places for the database in `root`, which need not exist any more."""
    name = quote(embedder_id, safe="")
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    return Places(root, root / HOME / name, cache_dir / "databases" / key / name)


def check_no_links(root: Path, folder: Path) -> None:
    """Raise `DatabaseError` where a store's folder, or that of all stores, is a link to somewhere else."""
    for place in (folder.parent, folder):
        if os.path.islink(place):
            raise DatabaseError(
                f"is a link to '{printable(os.readlink(place))}', where templates are neither read nor kept",
                path=place,
                hint="a repair renames the link, and the photos are enrolled here",
                advice="rename_link",
                values={"root": printable(root)},
            )


def links(root: Path, cache_dir: Path) -> list[Path]:
    """Return the links that stand in the place of the folders of stores of the database in `root`."""
    place = places(root, "any", cache_dir)
    found: list[Path] = []
    for home in (place.inner.parent, place.outer.parent):
        if home.is_symlink():
            found.append(home)
        elif home.is_dir() and os.access(home, os.R_OK | os.X_OK):
            found += (
                each for each in sorted(home.iterdir()) if each.is_symlink() and each.suffix != ".damaged"
            )
    return found


def _make(folder: Path) -> None:
    """Make a store's folder, which its owner alone can look into, and those above it."""
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for place in (folder.parent, folder):
        place.mkdir(mode=0o700, exist_ok=True)
        close_to_others(place)


def _copy(source: Path, target: Path, dim: int, notify: Notify | None) -> None:
    """Copy the store in `source` to the existing folder `target`, unless one is there by now."""
    with index.locked(target, notify), Store.reading(source, dim) as old:
        if not index.exists(target):
            old.copy_to(target)
