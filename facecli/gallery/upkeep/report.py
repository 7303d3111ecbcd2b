"""The records of the `db` commands: what the library found, as JSON objects and as flat rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facecli.errors import DatabaseError, FaceError, NoSuchFile, printable
from facecli.gallery.enrolment import Enroller
from facecli.gallery.refresh import Refresh
from facecli.gallery.store.files import set_aside
from facecli.gallery.store.folder import StoreFolder, advised, store_folders
from facecli.gallery.store.index import exists
from facecli.gallery.store.location import links, places
from facecli.gallery.store.names import relative
from facecli.gallery.store.writer import Store
from facecli.gallery.upkeep.agreement import Agreement
from facecli.gallery.upkeep.check import Problem, check
from facecli.gallery.upkeep.freshness import freshness
from facecli.gallery.upkeep.inventory import Inventory, take_inventory
from facecli.gallery.upkeep.repair import repair
from facecli.gallery.upkeep.take_in import Imported
from facecli.hooks import Notify, Progress

Record = dict[str, Any]

FAILURE_COLUMNS = ["path", "code", "message", "embedder_id"]
STATUS_COLUMNS = [
    "embedder_id",
    "place",
    "dim",
    "subjects",
    "samples",
    "templates",
    "unused",
    "imported",
    "several",
    "failed",
    "failures",
    "without_template",
    "photos",
    "state",
    "bytes",
    "left_over",
    "error",
]
CHECK_COLUMNS = [
    "path",
    "embedder_id",
    "samples",
    "templates",
    "photos",
    "changed",
    "embedded",
    "sound",
    "error",
]
IMPORT_COLUMNS = ["new", "known", "replaced", "left_out", "subjects", "failed", "place", "embedder_id"]
MIGRATE_COLUMNS = [
    "old",
    "new",
    "samples",
    "embedded",
    "imported",
    "probes",
    "both_right",
    "only_old_right",
    "only_new_right",
    "neither_right",
    "mated_pairs",
    "mated_correlation",
    "nonmated_pairs",
    "nonmated_correlation",
    "only_old_has",
    "only_new_has",
    "seed",
]

SHOWN_NAMES = 3


def kept_stores(root: Path, cache_dir: Path) -> list[StoreFolder]:
    """Return the stores of the database in `root`; raises `NoSuchFile` when there is neither that nor a store."""
    stores = store_folders(root, cache_dir)
    if not stores and not root.exists():
        raise NoSuchFile("no such folder, and no templates are kept for it", path=root)
    if not stores and not root.is_dir():
        raise DatabaseError("not a folder", path=root, hint="a database is a folder per person")
    return stores


def status_records(
    root: Path,
    cache_dir: Path,
    *,
    look: bool,
    describe: Callable[[FaceError], dict[str, str]] = FaceError.record,
) -> Iterator[Record]:
    """Yield a record of each store; with `look`, whether the photos have changed since.

    `describe` gives the record of an error.
    """
    for store in kept_stores(root, cache_dir):
        record: Record = {"embedder_id": store.embedder_id, "place": printable(store.folder)}
        try:
            if not exists(store.folder):
                raise DatabaseError(
                    "no index, only what is left of one",
                    hint="clearing removes it",
                    advice="collect",
                    values={"root": printable(root)},
                )
            with advised(root):
                inventory = take_inventory(store)
            record |= _status(inventory)
            if look and root.is_dir():
                found = freshness(root, inventory)
                record["photos"] = {key.removeprefix("n_"): n for key, n in asdict(found).items()}
        except DatabaseError as error:
            record["error"] = describe(error)
        yield record


def _status(inventory: Inventory) -> Record:
    states = []
    if not inventory.complete:
        states.append("incomplete")
    if inventory.unfinished:
        states.append("clearing broken off")
    return {
        "dim": inventory.dim,
        "subjects": inventory.n_subjects,
        "samples": inventory.n_samples,
        "templates": inventory.n_templates,
        "unused": inventory.n_unused,
        "imported": inventory.n_imported,
        "several": inventory.n_several,
        "failed": inventory.n_failed,
        "failures": [asdict(kind) for kind in inventory.failure_kinds],
        "without_template": list(inventory.without_template),
        "state": ", ".join(states) if states else "complete",
        "bytes": inventory.bytes_by_file,
        "left_over": list(inventory.left_over),
    }


def flat_status(record: Record) -> list[Record]:
    """Return the one row of a status record."""
    row = dict(record)
    if "error" in record:
        return [{**row, "error": f"{record['error']['code']}: {record['error']['message']}"}]
    row["failures"] = "; ".join(
        f"{kind['n']:,} {kind['code']} ({', '.join(kind['examples'])}{', ...' * (kind['n'] > len(kind['examples']))})"
        for kind in record["failures"]
    )
    row["without_template"] = _some(record["without_template"])
    row["left_over"] = _some(record["left_over"])
    row["bytes"] = ", ".join(f"{name} {n:,}" for name, n in record["bytes"].items() if n)
    photos = record.get("photos")
    if photos is not None:
        said = [f"{n:,} {kind}" for kind, n in photos.items() if n and kind != "young"]
        row["photos"] = ", ".join(said) if said else "unchanged"
    return [row]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown


def failure_records(root: Path, cache_dir: Path) -> Iterator[Record]:
    """Yield a record of each photo without a template."""
    for store in kept_stores(root, cache_dir):
        with advised(root):
            found = take_inventory(store).failures
        for failure in found:
            yield {**failure._asdict(), "embedder_id": store.embedder_id}


def check_records(
    root: Path,
    cache_dir: Path,
    *,
    enroller: Enroller | None,
    n_embed: int,
    seed: int,
    repairing: bool,
    progress: Progress,
    notify: Notify,
) -> Iterator[Record]:
    """Yield a record of each store that was checked, and repaired if `repairing`.

    Raises `DatabaseError` where nothing is kept, of the embedder that templates were to be made anew with.
    """
    linked = links(root, cache_dir)
    yield from (_linked(link, repairing) for link in linked)
    if linked and not repairing:
        return
    stores = [store for store in kept_stores(root, cache_dir) if exists(store.folder)]
    if not stores and linked:
        return
    if not stores:
        raise DatabaseError(
            "nobody is enrolled here, nothing can be checked",
            path=root,
            hint="a refresh enrols the photos",
            advice="enrol",
            values={"root": printable(root)},
        )
    if enroller is not None and all(store.embedder_id != enroller.id for store in stores):
        raise DatabaseError(
            f"no templates of embedder {enroller.id} are kept here, none can be compared", path=root
        )
    for store in stores:
        same = enroller is not None and store.embedder_id == enroller.id
        found = check(
            root, store, enroller=enroller if same else None, n_embed=n_embed, seed=seed, progress=progress
        )
        if found.problems and repairing:
            repair(store, found, notify)
        yield {
            "embedder_id": store.embedder_id,
            "place": printable(store.folder),
            "samples": found.n_samples,
            "templates": found.n_templates,
            "photos": found.n_photos,
            "changed": found.n_changed,
            "embedded": found.n_embedded,
            "sound": not found.problems,
            "problems": [problem._asdict() for problem in found.problems],
            "repaired": bool(found.problems) and repairing,
        }


def _linked(link: Path, repairing: bool) -> Record:
    """Return the record of a store's folder that is a link, which is renamed if `repairing`."""
    what = "is a link, where templates are neither read nor kept: all photos must be enrolled again"
    if repairing:
        set_aside(link)
    return {
        "embedder_id": None,
        "place": printable(link),
        **dict.fromkeys(("samples", "templates", "photos", "changed", "embedded"), 0),
        "sound": False,
        "problems": [Problem("linked", printable(link), what)._asdict()],
        "repaired": repairing,
    }


def flat_check(record: Record) -> list[Record]:
    """Return a row for the store, and one for each problem."""
    problems = [
        {
            "path": each["path"],
            "embedder_id": record["embedder_id"],
            "error": f"{each['code']}: {each['message']}",
        }
        for each in record["problems"]
    ]
    return [{**record, "path": record["place"]}, *problems]


def import_record(done: Imported, embedder_id: str) -> Record:
    """Return the record of an import."""
    return {
        "new": done.n_new,
        "known": done.n_known,
        "replaced": done.n_replaced,
        "left_out": done.n_photos,
        "subjects": done.n_subjects,
        "failed": len(done.failed),
        "made": done.made,
        "place": printable(done.folder),
        "embedder_id": embedder_id,
    }


def migrate_record(found: Agreement, old: str, new: str, n_imported: int, report: Refresh) -> Record:
    """Return the record of a migration."""
    return {
        "old": old,
        "new": new,
        "samples": found.n_samples,
        "embedded": report.embedded,
        "imported": n_imported,
        "probes": found.n_probes,
        "both_right": found.both_right,
        "only_old_right": found.only_old_right,
        "only_new_right": found.only_new_right,
        "neither_right": found.neither_right,
        "mated_pairs": found.n_mated_pairs,
        "mated_correlation": _known(found.mated_correlation),
        "nonmated_pairs": found.n_nonmated_pairs,
        "nonmated_correlation": _known(found.nonmated_correlation),
        "only_old_has": list(found.only_old),
        "only_new_has": list(found.only_new),
        "seed": found.seed,
    }


def flat_migrate(record: Record) -> list[Record]:
    """Return the one row of a migration's record."""
    lists = ("only_old_has", "only_new_has")
    return [
        {
            **record,
            **{key: f"{len(record[key])}: {_some(record[key])}" if record[key] else 0 for key in lists},
        }
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def imported_paths(root: Path, embedder: Any, cache_dir: Path) -> frozenset[str]:
    """Return the paths of the samples that have no photo behind them."""
    folder = places(root.absolute(), embedder.id, cache_dir).current()
    with Store.reading(folder, embedder.dim) as kept:
        return frozenset(relative(subject, path) for subject, path in kept.imported())
