"""Makes what a check found wrong be enrolled again: it is forgotten, and the next refresh makes it anew."""

from __future__ import annotations

from pathlib import Path

from facecli.gallery.store import derived
from facecli.gallery.store.files import COMPACT, Damaged, set_index_aside
from facecli.gallery.store.folder import StoreFolder, dim_of
from facecli.gallery.store.index import explained, locked
from facecli.gallery.store.writer import Store
from facecli.gallery.upkeep.check import Checked
from facecli.hooks import Notify


def repair(store: StoreFolder, checked: Checked, notify: Notify | None) -> None:
    """Forget what is wrong in `store`, as `checked` says; waits for another writer after telling `notify`.

    A damaged index is set aside whole. Imported templates that are broken are lost: no photo can bring them back.
    """
    folder = store.folder
    if not any(problem.code == "index_damaged" for problem in checked.problems):
        try:
            _forget(folder, checked, notify)
        except Damaged:
            # Found by none of the looks of a check: changing it is one more.
            pass
        else:
            return
    with locked(folder, notify), explained(folder):
        set_index_aside(folder)


def _forget(folder: Path, checked: Checked, notify: Notify | None) -> None:
    # Opening it for writing forgets the rows that the matrix has lost.
    with Store.writing(folder, dim_of(folder), notify) as kept, explained(folder):
        db = kept.connection
        (folder / COMPACT).unlink(missing_ok=True)
        with kept.transaction():
            db.executemany(
                "UPDATE samples SET stat = '' WHERE subject = (SELECT id FROM subjects WHERE name = ?)"
                " AND path = ?",
                checked.replaced,
            )
            broken = [(row,) for row in checked.broken_rows]
            db.executemany(
                "DELETE FROM samples WHERE content = (SELECT id FROM contents WHERE row = ?)", broken
            )
            db.executemany("DELETE FROM contents WHERE row = ?", broken)
            db.execute(
                "DELETE FROM samples WHERE content NOT IN (SELECT id FROM contents)"
                " OR subject NOT IN (SELECT id FROM subjects)"
            )
            derived.recount(db)
            derived.seal(db)
            db.execute("UPDATE facts SET value = value + 1 WHERE key = 'generation'")
            db.execute("UPDATE facts SET value = 0 WHERE key = 'complete'")
        kept.extend_compact()
