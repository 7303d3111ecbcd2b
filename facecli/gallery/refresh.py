"""Brings a database up to date with the photos in its folders, and says what was done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facecli.gallery.enrolment import Enroller, enrol, limits_of
from facecli.gallery.gallery import Gallery
from facecli.gallery.store import index
from facecli.gallery.store.files import Damaged
from facecli.gallery.store.folder import advised, store_folders
from facecli.gallery.store.location import Places, places
from facecli.gallery.store.names import absolute, printable_name, relative
from facecli.gallery.store.writer import Store
from facecli.gallery.survey import Survey, check_folder, check_photos, survey
from facecli.hooks import Notify, Progress
from facecli.templates.template import Failure


@dataclass(frozen=True)
class Refresh:
    """What `refresh` found and did."""

    n_samples: int
    """Photos with a template."""
    n_subjects: int
    """Subjects with photos or templates."""
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
    top = absolute(root)
    check_folder(top)
    place = places(top, enroller.id, cache_dir)
    try:
        return _refresh(top, place, enroller, progress, notify)
    except Damaged as error:
        if index.set_aside(place.current(), notify) and notify is not None:
            notify(f"{error}; it is set aside and the photos are enrolled again")
        with advised(top):
            return _refresh(top, place, enroller, progress, notify)


def enrolled_by_others(root: Path, embedder_id: str, *, cache_dir: Path) -> list[str]:
    """Return the embedders that have enrolled the database in `root`, where this one has not."""
    stores = [store.embedder_id for store in store_folders(absolute(root), cache_dir)]
    return [] if embedder_id in stores else sorted(set(stores))


def _refresh(
    root: Path, place: Places, enroller: Enroller, progress: Progress | None, notify: Notify | None
) -> tuple[Gallery, Refresh]:
    limits = limits_of(enroller)
    folder = place.current()
    if index.exists(folder):
        with Store.reading(folder, enroller.dim) as kept:
            generation = kept.generation()
            seen = survey(root, kept, limits)
            check_photos(root, kept, seen)
            if kept.complete() and not seen.changed and not seen.removed:
                return _result(root, enroller, kept, seen)
    else:
        # As a store will be that is made now.
        generation = 0
        seen = survey(root, None, limits)
        check_photos(root, None, seen)
    folder = place.to_write(enroller.dim, notify)
    with Store.writing(folder, enroller.dim, notify) as kept:
        if kept.generation() != generation:
            # Another process has enrolled while this one waited.
            seen = survey(root, kept, limits)
            check_photos(root, kept, seen)
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
    gallery = Gallery(root, enroller.id, kept.folder, enroller.dim)
    n_samples = gallery.n_samples
    failures = [
        Failure(relative(subject, path), code, message) for subject, path, code, message in kept.failures()
    ]
    failures += seen.failures + (unread if unread is not None else [])
    found = set(kept.subjects())
    shown = {*seen.subjects, *found}
    report = Refresh(
        n_samples=n_samples,
        n_subjects=len(shown),
        embedded=embedded,
        reused=n_samples - embedded,
        removed=len(seen.removed),
        several=gallery.n_several,
        failures=tuple(sorted(failures)),
        without_template=tuple(printable_name(subject) for subject in sorted(shown - found)),
        ignored=tuple(seen.loose),
    )
    return gallery, report
