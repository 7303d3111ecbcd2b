"""A database of people: a folder for each, with the templates of its photos kept beside it.

`refresh` brings the templates up to date with the photos; `Gallery.open` takes what is kept, without looking
at the photos. Either way a `Gallery` is one moment of the database, whatever others do to it meanwhile, and several
threads may share it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecli.errors import (
    BadInput,
    DatabaseError,
    EmbedderMismatch,
    NoSuchFile,
    UsageError,
    did_you_mean,
    printable,
)
from facecli.gallery.searchable import Candidate, Owned
from facecli.gallery.store import index
from facecli.gallery.store.files import INDEX, Damaged
from facecli.gallery.store.folder import advised
from facecli.gallery.store.location import places
from facecli.gallery.store.names import absolute, printable_name
from facecli.gallery.store.search import Best
from facecli.gallery.store.view import Moment
from facecli.gallery.store.writer import Store


class Sample(NamedTuple):
    """A photo with a template: row `row` of the gallery's templates. `root / path` opens the photo.

    `subject` is printable; `path` keeps the bytes of the file system (see `printable`).
    """

    subject: str
    path: str
    row: int
    strictness: float = 0.0
    """Of its face: by how much a similarity to one of no better quality must exceed a threshold."""


class Gallery:
    """The people enrolled in the database in `root`, at one moment.

    Names and paths are looked up when they are asked for. If others have changed the database by then, the
    gallery takes over the later moment, with all that is in it. Only a compaction gives rows other numbers.

    Threads may share it. Each call is answered from one whole moment of the database, and moments only go forward;
    a call that looks up names, as `search` does, knows of all that was committed before it began.
    """

    def __init__(self, root: Path, embedder_id: str, folder: Path, dim: int) -> None:
        self.root = root
        self.embedder_id = embedder_id
        self._dim = dim
        # The index is asked by one thread at a time, since all share one transaction. Templates are scanned outside.
        self._lock = RLock()
        with ExitStack() as stack:
            self._kept = stack.enter_context(Store.reading(folder, dim))
            with advised(self.root):
                self._moment = Moment.of(self._kept)
            weakref.finalize(self, stack.pop_all().close)
        self._numbering = self._moment.now.numbering

    @classmethod
    def open(cls, root: Path | str, embedder_id: str, dim: int, *, cache_dir: Path) -> Gallery:
        """Return what is kept of the database in `root`. The photos, and even `root`, may be gone.

        Raises `DatabaseError` when nothing is kept for this embedder or it is damaged, `NoSuchFile` when
        there is no `root` either.
        """
        place = places(absolute(root), embedder_id, cache_dir)
        folder = place.current()
        if not index.exists(folder):
            if not place.root.exists():
                raise NoSuchFile("no such folder, and no templates are kept for it", path=root)
            raise DatabaseError(
                f"no templates of embedder {embedder_id} are kept here",
                path=root,
                hint="refresh it to enrol the photos",
                advice="refresh",
            )
        try:
            return cls(place.root, embedder_id, folder, dim)
        except Damaged as error:
            raise DatabaseError(
                error.what,
                path=error.path,
                hint="refresh it: the photos are enrolled again",
                advice="refresh_damaged",
            ) from error

    @property
    def complete(self) -> bool:
        """False if an enrolment is going on or was cut off, so that photos may be missing."""
        return self._moment.now.complete

    @property
    def n_samples(self) -> int:
        """How many photos have a template."""
        return self._moment.now.n_samples

    @property
    def n_subjects(self) -> int:
        """How many subjects have at least one template."""
        return self._moment.now.n_subjects

    @property
    def n_several(self) -> int:
        """How many of these photos show more than one face."""
        return self._moment.now.n_several

    @property
    def templates(self) -> NDArray[np.float32]:
        """float32 [N, D], unit rows, mapped from the file; a row that no sample names is of a photo that is gone."""
        return self._moment.now.templates

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects with a template, in the order of their names."""
        with self._still():
            return tuple(printable_name(subject) for subject in self._kept.subjects())

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, in the order of subject, then path: read from the index each time."""
        with self._still():
            strictness = self._kept.strictness()
            return tuple(
                Sample(
                    printable_name(subject),
                    os.fsdecode(subject + b"/" + path),
                    row,
                    strictness.get(row, 0.0),
                )
                for subject, path, row in self._kept.samples()
            )

    def search(
        self, probes: NDArray[np.float32], top: int, *, exclude_rows: NDArray[np.int64] | None = None
    ) -> list[list[Candidate]]:
        """Return, for each probe, the `top` most similar subjects (fewer where there are fewer).

        `probes` is float32 [M, D], unit rows. A subject's similarity is that of its best sample; ties go by
        subject, then path. Similarities are computed anew in double precision, so they do not depend on which
        probes are searched together; the choice is exact wherever similarities differ by more than 1e-6.
        `exclude_rows` [M] names for each probe a row that is passed over, such as its own; -1 for none.

        Raises `EmbedderMismatch` for another D, `BadInput` for values that are not finite, `DatabaseError` for rows
        of before a compaction.
        """
        probes = np.ascontiguousarray(np.atleast_2d(probes), dtype=np.float32)
        self._check(probes, top)
        exclude = np.full(len(probes), -1) if exclude_rows is None else np.asarray(exclude_rows)
        before = self._moment
        with advised(self.root):
            found = before.search(probes, top, exclude)
        with self._still() as moment:
            if exclude_rows is not None:
                moment.check_numbering(self._numbering, self.root)
            if moment is not before:
                # Now that it stands still: outside, commits that come faster than searches end could go on for ever.
                found = moment.search(probes, top, exclude)
            return [
                self._candidates(moment, probe, best, int(own))
                for probe, best, own in zip(probes, found, exclude, strict=True)
            ]

    def samples_of(self, subject: str) -> list[Sample]:
        """Return the samples of `subject`, in the order of the paths.

        Raises `DatabaseError` for a subject without a template, naming similar ones.
        """
        with self._still():
            name = os.fsencode(subject)
            if self._kept.subject_id(name) is None:
                # As it was printed.
                same = (one for one in self._kept.subjects() if printable_name(one) == printable(subject))
                name = next(same, name)
            number = self._kept.subject_id(name)
            found = self._kept.samples_of(number) if number is not None else []
            if found:
                shown = printable(os.fsdecode(name))
                return [
                    Sample(shown, os.fsdecode(name + b"/" + path), row, self._kept.strictness_of(row))
                    for path, row in found
                ]
            hint = did_you_mean(subject, self.subjects, most=3, cutoff=0.6)
        raise DatabaseError(
            f"no subject '{printable(subject)}' with a template among the {self.n_subjects} enrolled",
            path=self.root,
            hint=hint,
        )

    def templates_of(self, subject: str) -> NDArray[np.float32]:
        """Return the templates of `subject`, float32 [n, D], in the order of the paths; see `samples_of`."""
        with self.one_moment():
            return self.take(np.array([sample.row for sample in self.samples_of(subject)], np.int64))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return these rows of `templates`, float32 [n, D]; raises `DatabaseError` where one is no template."""
        with advised(self.root):
            return self._moment.take(rows)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Answer all that this thread asks within from one moment, such as samples and the templates in their rows.

        Other threads and whoever enrols wait meanwhile.
        """
        with self._still():
            yield

    def owned(self) -> Owned:
        """Return all templates and whom they show. `path_of` may be asked later, too; it says if it cannot tell."""
        moment = self._moment
        several, subjects = moment.shared
        alone = np.flatnonzero(moment.owners >= 0)
        rows, people = np.append(alone, several), np.append(moment.owners[alone].astype(np.int64), subjects)

        def path_of(at: int) -> str:
            subject = int(moment.ids[people[at]])
            with self._still() as latest:
                paths = self._kept.paths_of(subject, int(rows[at]))
                if not paths or latest.now.numbering != moment.now.numbering:
                    return "a photo that cannot be told any more"
                return printable(os.fsdecode(self._kept.name_of(subject) + b"/" + paths[0]))

        with self._still():
            by_row = self._kept.strictness()
        strictness = np.zeros(len(moment.now.templates), np.float32)
        for row, value in by_row.items():
            if row < len(strictness):
                strictness[row] = value
        return Owned(moment.now.templates, rows, people, path_of, strictness[rows])

    @contextmanager
    def _still(self) -> Iterator[Moment]:
        """Hold the index still, at this gallery's moment or at a later one that it takes over.

        Other threads wait, but for those that scan; within, the same thread may call this again.
        """
        with advised(self.root), self._lock, self._kept.still():
            if self._kept.generation() != self._moment.now.generation:
                self._moment = Moment.of(self._kept)
            yield self._moment

    def _candidates(
        self, moment: Moment, probe: NDArray[np.float32], best: Best, own: int
    ) -> list[Candidate]:
        candidates = []
        for rank, (number, row, similarity) in enumerate(
            zip(*map(np.ndarray.tolist, best), strict=True), start=1
        ):
            subject = int(moment.ids[number])
            name = self._kept.name_of(subject)
            rows = {row, *moment.as_similar(probe, number, similarity, own)}
            paths = [path for row in rows for path in self._kept.paths_of(subject, row)]
            if not paths:
                raise Damaged(f"{INDEX} is damaged (nobody shows the row {row})", path=self._kept.folder)
            path = min(paths)
            shown = printable(os.fsdecode(name + b"/" + path))
            strictness = self._kept.strictness_of(row)
            candidates.append(Candidate(rank, printable_name(name), shown, similarity, strictness))
        return candidates

    def _check(self, probes: NDArray[np.float32], top: int) -> None:
        if top < 1:
            raise UsageError(f"cannot return the best {top} subjects", hint="ask for 1 or more")
        if probes.ndim != 2 or probes.shape[1] != self._dim:
            shape = " x ".join(str(n) for n in probes.shape)
            raise EmbedderMismatch(
                f"probes of shape {shape} cannot be compared with templates of {self._dim} numbers",
                path=self.root,
                hint="make them with the embedder of this database",
            )
        if not np.isfinite(probes).all():
            raise BadInput("a probe's template holds numbers that are not finite")
