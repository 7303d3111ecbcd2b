"""A database of people: a folder for each, with the templates of its photos kept beside it.

`refresh` brings the templates up to date with the photos; `Gallery.open` takes what is kept, without looking
at the photos. Either way a `Gallery` is one moment of the database, whatever others do to it meanwhile.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecli import index
from facecli.engine import Notify
from facecli.enrolment import Enroller, Progress, enrol, limits_of
from facecli.errors import BadInput, DatabaseError, EmbedderMismatch, NoSuchFile, UsageError, printable
from facecli.places import Places, places
from facecli.store import Enrolled, Store
from facecli.survey import Failure, Survey, relative, survey

__all__ = ["Candidate", "Enrolled", "Enroller", "Failure", "Gallery", "Refresh", "Sample", "refresh"]

SEARCH_BYTES = 128 << 20
"""Memory for the similarities that are held at once."""

_LAYOUT = "a database is a folder per person, e.g. people/Ada/1.jpg"


class Sample(NamedTuple):
    """A photo with a template: row `row` of the gallery's templates. `root / path` opens the photo.

    `subject` is printable; `path` keeps the bytes of the file system (see `printable`).
    """

    subject: str
    path: str
    row: int


@dataclass(frozen=True)
class Candidate:
    """A subject that a probe was compared with, by its most similar sample. `rank` counts from 1."""

    rank: int
    subject: str
    path: str
    """Of the sample, relative to the database, printable."""
    similarity: float


@dataclass(frozen=True)
class Refresh:
    """What `refresh` found and did."""

    n_samples: int
    """Photos with a template."""
    n_subjects: int
    """Folders with photos, with or without a template."""
    embedded: int
    """Templates made now."""
    reused: int
    """Photos whose template was there already, under this or another name."""
    removed: int
    """Photos of last time that are gone or can no longer be read."""
    several: int
    """Photos with more than one face, of which one was taken."""
    failures: tuple[Failure, ...]
    """All photos without a template, of this time and remembered."""
    without_template: tuple[str, ...]
    """Subjects all of whose photos failed: they cannot be found."""
    ignored: tuple[str, ...]
    """Images that lie directly in the database's folder and so show nobody in particular."""


@dataclass(frozen=True)
class Gallery:
    """The people enrolled in the database in `root`.

    `subjects` have at least one template, in the order of their names; `samples` are in the order of subject,
    then path. `templates` is float32 [N, D], unit rows, mapped from the file; a row that no sample names is of a
    photo that is gone.
    """

    root: Path
    embedder_id: str
    subjects: tuple[str, ...]
    samples: tuple[Sample, ...]
    templates: NDArray[np.float32]
    complete: bool
    """False if an enrolment is going on or was cut off, so that photos may be missing."""

    @classmethod
    def open(cls, root: Path | str, embedder_id: str, dim: int, *, cache_dir: Path) -> Gallery:
        """Return what is kept of the database in `root`. The photos, and even `root`, may be gone.

        Raises `DatabaseError` when nothing is kept for this embedder or it is damaged, `NoSuchFile` when
        there is no `root` either.
        """
        place = places(_absolute(root), embedder_id, cache_dir)
        folder = place.current()
        if not index.exists(folder):
            if not place.root.exists():
                raise NoSuchFile("no such folder, and no templates are kept for it", path=root)
            raise DatabaseError(
                f"no templates of embedder {embedder_id} are kept here",
                path=root,
                hint="run without --no-refresh to enrol the photos",
            )
        try:
            with Store.reading(folder, dim) as kept:
                return _gallery(place.root, embedder_id, kept)
        except index.Damaged as error:
            raise DatabaseError(
                error.what, path=error.path, hint="run without --no-refresh: the photos are enrolled again"
            ) from error

    def search(
        self, probes: NDArray[np.float32], top: int, *, exclude_rows: NDArray[np.int64] | None = None
    ) -> list[list[Candidate]]:
        """Return, for each probe, the `top` most similar subjects (fewer where there are fewer).

        `probes` is float32 [M, D], unit rows. A subject's similarity is that of its best sample; ties go by
        subject, then path. Similarities are computed anew in double precision, so they do not depend on which
        probes are searched together; the choice is exact wherever similarities differ by more than 1e-6.
        `exclude_rows` [M] names for each probe a row that is passed over, such as its own; -1 for none.

        Raises `EmbedderMismatch` for another D, `BadInput` for values that are not finite.
        """
        probes = np.ascontiguousarray(np.atleast_2d(probes), dtype=np.float32)
        self._check(probes, top)
        if not self.samples:
            return [[] for _ in probes]
        # A float64 probe would make NumPy convert all templates: 25 times slower.
        step = max(1, SEARCH_BYTES // (4 * (len(self.templates) + len(self.samples))))
        found = []
        for start in range(0, len(probes), step):
            block = probes[start : start + step]
            scores = block @ self.templates.T  # [step, N]
            if exclude_rows is not None:
                excluded = np.asarray(exclude_rows)[start : start + step]
                at = np.flatnonzero(excluded >= 0)
                scores[at, excluded[at]] = -np.inf
            by_sample = scores[:, self._rows]  # [step, samples]
            by_subject = np.maximum.reduceat(by_sample, self._starts[:-1], axis=1)  # [step, subjects]
            for probe, samples, subjects in zip(block, by_sample, by_subject, strict=True):
                found.append(self._rank(probe, samples, subjects, top))
        return found

    def templates_of(self, subject: str) -> NDArray[np.float32]:
        """Return the templates of `subject`, float32 [n, D], in the order of the paths.

        Raises `DatabaseError` for a subject without a template, naming similar ones.
        """
        rows = [sample.row for sample in self.samples if sample.subject == printable(subject)]
        if not rows:
            import difflib

            near = difflib.get_close_matches(subject, self.subjects, n=3)
            hint = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?" if near else ""
            raise DatabaseError(
                f"no subject '{printable(subject)}' with a template among the {len(self.subjects)} enrolled",
                path=self.root,
                hint=hint,
            )
        return np.array(self.templates[rows])

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.fromiter((sample.row for sample in self.samples), np.int64, len(self.samples))

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where the samples of each subject start, and the number of all samples: [subjects + 1]."""
        names = [sample.subject for sample in self.samples]
        starts = [0, *(at for at in range(1, len(names)) if names[at] != names[at - 1])]
        return np.array([*starts, len(names)], np.int64)

    def _check(self, probes: NDArray[np.float32], top: int) -> None:
        if top < 1:
            raise UsageError(f"cannot return the best {top} subjects", hint="ask for 1 or more")
        dim = self.templates.shape[1]
        if probes.ndim != 2 or probes.shape[1] != dim:
            shape = " x ".join(str(n) for n in probes.shape)
            raise EmbedderMismatch(
                f"probes of shape {shape} cannot be compared with templates of {dim} numbers",
                path=self.root,
                hint="make them with the embedder of this database",
            )
        if not np.isfinite(probes).all():
            raise BadInput("a probe's template holds numbers that are not finite")

    def _rank(
        self,
        probe: NDArray[np.float32],
        by_sample: NDArray[np.float32],
        by_subject: NDArray[np.float32],
        top: int,
    ) -> list[Candidate]:
        k = min(top, len(by_subject))
        # All that tie with the k-th best stand for election, so that names and not memory order decide.
        cut = np.partition(by_subject, len(by_subject) - k)[len(by_subject) - k]
        chosen = []
        for subject in np.flatnonzero((by_subject >= cut) & (by_subject > -np.inf)):
            first, end = self._starts[subject], self._starts[subject + 1]
            sample = self.samples[first + int(np.argmax(by_sample[first:end]))]
            chosen.append((self._similarity(probe, sample.row), sample))
        chosen.sort(key=lambda scored: -scored[0])
        return [
            Candidate(rank, sample.subject, printable(sample.path), similarity)
            for rank, (similarity, sample) in enumerate(chosen[:k], start=1)
        ]

    def _similarity(self, probe: NDArray[np.float32], row: int) -> float:
        return float(np.dot(probe.astype(np.float64), self.templates[row].astype(np.float64)))


def refresh(
    root: Path | str,
    enroller: Enroller,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> tuple[Gallery, Refresh]:
    """Bring the database in `root` up to date with its photos; return it and what was done.

    The images at any depth below `root/NAME` are the samples of NAME. Only content that was never seen is
    handed to `enroller`; what it finishes is kept every few seconds, whatever happens later. One process
    enrols at a time, and a second one waits after telling `notify`; if nothing has changed, nobody waits.

    Raises `NoSuchFile` or `DatabaseError` for a `root` that is missing, not a folder, or without photos in
    folders, and when templates can be kept nowhere.
    """
    top = _absolute(root)
    _check_folder(top)
    place = places(top, enroller.id, cache_dir)
    try:
        return _refresh(top, place, enroller, progress, notify)
    except index.Damaged as error:
        if notify is not None:
            notify(f"{error}; it is set aside and the photos are enrolled again")
        index.set_aside(place.current(), notify)
        return _refresh(top, place, enroller, progress, notify)


def _refresh(
    root: Path, place: Places, enroller: Enroller, progress: Progress | None, notify: Notify | None
) -> tuple[Gallery, Refresh]:
    limits = limits_of(enroller)
    folder = place.current()
    seen, generation = None, -1
    if index.exists(folder):
        with Store.reading(folder, enroller.dim) as kept:
            generation = kept.generation()
            seen = survey(root, kept, limits)
            _check_photos(root, kept, seen)
            if kept.complete() and not seen.changed and not seen.removed:
                return _result(root, enroller, kept, seen)
    else:
        _check_photos(root, None, survey(root, None, limits))
    folder = place.to_write(enroller.dim, notify)
    with Store.writing(folder, enroller.dim, notify) as kept:
        if seen is None or kept.generation() != generation:
            # Another process has enrolled while this one waited.
            seen = survey(root, kept, limits)
            _check_photos(root, kept, seen)
        embedded, failures = enrol(root, kept, enroller, seen, progress)
        return _result(root, enroller, kept, seen, embedded, failures)


def _result(
    root: Path,
    enroller: Enroller,
    kept: Store,
    seen: Survey,
    embedded: int = 0,
    unread: list[Failure] | None = None,
) -> tuple[Gallery, Refresh]:
    gallery = _gallery(root, enroller.id, kept)
    snapshot = kept.snapshot()
    failures = [
        Failure(relative(subject, path), code, message) for subject, path, code, message in kept.failures()
    ]
    failures += seen.failures + (unread if unread is not None else [])
    found = set(kept.subjects())
    shown = {*seen.subjects, *found}
    report = Refresh(
        n_samples=snapshot.n_samples,
        n_subjects=len(shown),
        embedded=embedded,
        reused=snapshot.n_samples - embedded,
        removed=len(seen.removed),
        several=snapshot.n_several,
        failures=tuple(sorted(failures)),
        without_template=tuple(_name(subject) for subject in sorted(shown - found)),
        ignored=tuple(seen.loose),
    )
    return gallery, report


def _gallery(root: Path, embedder_id: str, kept: Store) -> Gallery:
    snapshot, shown = kept.snapshot(), kept.samples()
    names = {subject: _name(subject) for subject, _, _ in shown}
    samples = tuple(
        Sample(names[subject], os.fsdecode(subject + b"/" + path), row) for subject, path, row in shown
    )
    subjects = tuple(dict.fromkeys(names.values()))
    return Gallery(root, embedder_id, subjects, samples, snapshot.templates, snapshot.complete)


def _name(subject: bytes) -> str:
    return printable(os.fsdecode(subject))


def _absolute(root: Path | str) -> Path:
    return Path(os.path.abspath(root))


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise NoSuchFile("no such folder", path=root, hint=_LAYOUT)
    if not root.is_dir():
        raise DatabaseError("not a folder", path=root, hint=_LAYOUT)
    if not os.access(root, os.R_OK | os.X_OK):
        raise DatabaseError("you may not list this folder", path=root, hint="change its permissions")


def _check_photos(root: Path, kept: Store | None, seen: Survey) -> None:
    if seen.n_photos or (kept is not None and kept.subjects() and not seen.removed):
        return
    advice = ""
    if (root / ".facecli").is_dir():
        advice = "; --no-refresh uses the templates that are kept"
    if seen.loose:
        raise DatabaseError(
            f"holds {len(seen.loose)} images but no folder of a person, so nobody can be named",
            path=root,
            hint=f"{_LAYOUT}{advice}",
        )
    raise DatabaseError("no photos in this folder", path=root, hint=f"{_LAYOUT}{advice}")
