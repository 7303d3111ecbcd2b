"""Clears the folders of a database's templates: rows nobody shows, stores of other embedders, broken-off work."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from facecli.errors import NoSuchFile, printable
from facecli.gallery.store.files import INDEX, OWN, SWAP
from facecli.gallery.store.folder import StoreFolder, advised, left_over, sizes, store_folders
from facecli.gallery.store.index import exists, explained, locked
from facecli.gallery.store.vacuum import compact, finish_erasing
from facecli.gallery.upkeep.inventory import Inventory, take_inventory
from facecli.hooks import Notify


@dataclass(frozen=True)
class Cleared:
    """Something that was removed, or would be. `n_rows` templates and `n_bytes` on the disk are freed."""

    embedder_id: str
    path: str
    what: str
    n_rows: int
    n_bytes: int


@dataclass(frozen=True)
class Spared:
    """The store of another embedder that stays, because `n_imported` of its templates have no photo to come from."""

    embedder_id: str
    path: str
    n_imported: int


def clear(
    root: Path,
    *,
    cache_dir: Path,
    keep_only: str | None = None,
    dry_run: bool = False,
    notify: Notify | None = None,
) -> tuple[list[Cleared], list[Spared]]:
    """Free what the stores of the database in `root` hold for nothing.

    Rows that no sample shows are dropped: photos that come back are then embedded again. Files left over from
    broken-off or damaged work are removed. With `keep_only`, the id of an embedder, the stores of all others go,
    but not imported templates. `dry_run` only says what would be freed. Raises `DatabaseError` for a damaged or
    read-only store, `NoSuchFile` where nothing is kept.
    """
    stores = store_folders(root, cache_dir)
    if not stores:
        if not root.exists():
            raise NoSuchFile("no such folder, and no templates are kept for it", path=root)
        return [], []
    cleared: list[Cleared] = []
    spared: list[Spared] = []
    for store in stores:
        cleared += _clear_left_over(store, dry_run, notify)
        if not exists(store.folder):
            continue
        with advised(root):
            inventory = take_inventory(store)
        if keep_only is not None and store.embedder_id != keep_only:
            if inventory.n_imported:
                spared.append(Spared(store.embedder_id, printable(store.folder), inventory.n_imported))
            else:
                cleared.append(_drop_store(store, inventory, dry_run, notify))
                continue
        cleared += _drop_rows(store, inventory, dry_run, notify)
    return cleared, spared


def remove_left_over(folder: Path, notify: Notify | None) -> list[Path]:
    """Remove what broken-off and damaged work left in the store in `folder`; return which files."""
    if not left_over(folder):
        return []
    with locked(folder, notify), explained(folder):
        files = left_over(folder)
        for path in files:
            path.unlink()
    return files


def _clear_left_over(store: StoreFolder, dry_run: bool, notify: Notify | None) -> list[Cleared]:
    found = {path: os.lstat(path).st_size for path in left_over(store.folder)}
    gone = list(found) if dry_run else remove_left_over(store.folder, notify)
    return [Cleared(store.embedder_id, printable(path), "left over", 0, found.get(path, 0)) for path in gone]


def _drop_rows(
    store: StoreFolder, inventory: Inventory, dry_run: bool, notify: Notify | None
) -> list[Cleared]:
    # A new matrix that never came to count is replaced and renamed like any other.
    if not (inventory.n_unused or inventory.unfinished or SWAP in inventory.bytes_by_file):
        return []
    n_rows, n_bytes = inventory.n_unused, inventory.n_unused * inventory.dim * 4
    if not dry_run:
        finish_erasing(store.folder, inventory.dim, notify)
        n_rows = compact(store.folder, inventory.dim, notify=notify).n_rows
        n_bytes = sum(inventory.bytes_by_file.values()) - sum(sizes(store.folder).values())
    what = "templates that no sample shows"
    return [Cleared(store.embedder_id, printable(store.folder), what, n_rows, n_bytes)]


def _drop_store(store: StoreFolder, inventory: Inventory, dry_run: bool, notify: Notify | None) -> Cleared:
    n_bytes = sum(sizes(store.folder).values())
    if not dry_run:
        with locked(store.folder, notify), explained(store.folder):
            # The index first: without it the rest is nothing, if this is broken off.
            (store.folder / INDEX).unlink()
            for path in [*(store.folder / name for name in OWN), *left_over(store.folder)]:
                path.unlink(missing_ok=True)
            # What else is in there is somebody's, and stays.
            with contextlib.suppress(OSError):
                store.folder.rmdir()
    return Cleared(
        store.embedder_id,
        printable(store.folder),
        "store of another embedder",
        inventory.n_templates + inventory.n_unused,
        n_bytes,
    )
