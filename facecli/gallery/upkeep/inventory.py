"""Takes stock of what is kept of a database, without an embedder and without changing anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facecli.errors import printable
from facecli.gallery.store import row_owners, values
from facecli.gallery.store.folder import StoreFolder, dim_of, left_over, sizes
from facecli.gallery.store.index import explained
from facecli.gallery.store.names import relative
from facecli.gallery.store.writer import Store
from facecli.templates.template import Failure

EXAMPLES = 3


@dataclass(frozen=True)
class FailureKind:
    """The photos that have no template for one reason."""

    code: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """What one store holds. Subjects and paths are printable."""

    embedder_id: str
    folder: Path
    beside: bool
    """Beside the photos; else in the user's cache folder."""
    dim: int
    n_subjects: int
    """With at least one sample, whether it has a template or not."""
    n_samples: int
    """With a template."""
    n_failed: int
    """Photos without a template."""
    n_several: int
    """Samples whose photo shows more than one face."""
    n_imported: int
    """Samples without a photo behind them."""
    n_templates: int
    """Rows of the matrix that a sample shows."""
    n_unused: int
    """Rows that none shows: of photos that are gone, or of a commit that was broken off."""
    complete: bool
    """False while an enrolment is going on, or after one that was cut off."""
    unfinished: bool
    """A compaction was broken off: the next writer finishes it."""
    without_template: tuple[str, ...]
    """Subjects who cannot be found."""
    failures: tuple[Failure, ...]
    limits: str
    """Of the last photo that was enrolled (see `enrolment.limits_of`); empty where none was."""
    bytes_by_file: dict[str, int] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()
    """Files that damaged or broken-off work left."""

    @property
    def failure_kinds(self) -> tuple[FailureKind, ...]:
        """The failures by reason, the most frequent first."""
        by_code: dict[str, list[str]] = {}
        for failure in self.failures:
            by_code.setdefault(failure.code, []).append(failure.path)
        kinds = [FailureKind(code, len(paths), tuple(paths[:EXAMPLES])) for code, paths in by_code.items()]
        return tuple(sorted(kinds, key=lambda kind: (-kind.n, kind.code)))


def take_inventory(store: StoreFolder) -> Inventory:
    """Return what a store holds; raises `DatabaseError`, and its child `Damaged`."""
    folder = store.folder
    dim = dim_of(folder)
    with Store.reading(folder, dim) as kept, explained(folder), kept.still():
        n_rows = len(kept.matrix())
        owned = kept.owners()
        n_used = int(np.count_nonzero(owned != row_owners.NOBODY))
        [(n_subjects, n_samples, n_failed, n_several)] = kept.rows(
            "SELECT COUNT(*), TOTAL(n_samples), TOTAL(n_failed), TOTAL(n_several) FROM subjects",
            (values.TOTAL,) * 4,
        )
        [(n_imported,)] = kept.rows("SELECT COUNT(*) FROM samples WHERE stat IS NULL", (values.COUNT,))
        last = kept.rows(
            "SELECT limits FROM contents WHERE limits <> '' ORDER BY id DESC LIMIT 1", (values.TEXT,)
        )
        return Inventory(
            embedder_id=store.embedder_id,
            folder=folder,
            beside=store.beside,
            dim=dim,
            n_subjects=n_subjects,
            n_samples=int(n_samples),
            n_failed=int(n_failed),
            n_several=int(n_several),
            n_imported=n_imported,
            n_templates=n_used,
            n_unused=n_rows - n_used,
            complete=kept.complete(),
            unfinished=kept.fact("swap") is not None or kept.fact("erase") is not None,
            without_template=tuple(printable(os.fsdecode(name)) for name in kept.without_template()),
            failures=tuple(
                Failure(relative(subject, path), code, message)
                for subject, path, code, message in kept.failures()
            ),
            limits=last[0][0] if last else "",
            bytes_by_file=sizes(folder),
            left_over=tuple(path.name for path in left_over(folder)),
        )
