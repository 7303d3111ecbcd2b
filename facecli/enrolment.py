"""Finds out what changed in a folder of photos since the last time, and has only that enrolled.

A file is taken as unchanged while its size, both its times and its inode are. When they change, its bytes
decide: content that is known already, under whatever name, is never enrolled again. What stays unseen is a
file changed in place whose size, times and inode were all put back.
"""

from __future__ import annotations

import importlib.util
import os
import stat as stat_module
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import PIL

from facecli.errors import FaceError, UnreadableImage, printable
from facecli.files import digest, read, walk
from facecli.fingerprint import stat_text
from facecli.store import Enrolled, Photo, Store

BATCH_PHOTOS = 32
BATCH_SECONDS = 2.0
"""Results are committed when there are this many or the last commit is this old: what a kill can cost."""

BATCH_SAMPLES = 1000
"""The same for photos whose content is known: only reading them again can be lost."""

COARSEST_CLOCK_NS = 2_000_000_000
"""The coarsest time stamps of any file system in use (FAT, 2 s)."""

Progress = Callable[[int, int], None]
"""Told how many of how many changed photos are dealt with; may be called from the enroller's threads."""


class Enroller(Protocol):
    """Makes templates of photos. `id` names everything that changes a template, `dim` is its length.

    The repr of `limits` tells what else decides whether a face is found, such as the smallest one searched
    for: what failed under other limits is tried again.
    """

    @property
    def id(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def limits(self) -> object: ...

    def enrol(self, photos: Iterable[tuple[Path, bytes]]) -> Iterator[Enrolled | FaceError]:
        """Yield one result for each (path, contents), in order.

        May read ahead, also from another thread. A generator is closed when the run ends early.
        """


class Failure(NamedTuple):
    """A photo without a template. `path` is relative to the database, printable."""

    path: str
    code: str
    message: str


@dataclass
class Survey:
    """What a walk over the photos saw, compared with a store."""

    n_photos: int = 0
    subjects: list[bytes] = field(default_factory=list)
    changed: list[Photo] = field(default_factory=list)
    """Photos that are new or may have changed."""
    removed: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Subject and path of samples whose photo is gone, or can no longer be read."""
    failures: list[Failure] = field(default_factory=list)
    """What could not be read at all. It is tried again each time: the reason lies outside the file."""
    loose: list[str] = field(default_factory=list)
    """Images that lie beside the subjects' folders and so show nobody in particular."""


def limits_of(enroller: Enroller) -> str:
    """Return what decides, beside the embedder's id, whether a photo can be enrolled: search and decoders."""
    heic = importlib.util.find_spec("pillow_heif") is not None
    return f"{enroller.limits!r}, Pillow {PIL.__version__}, HEIC {'yes' if heic else 'no'}"


def survey(root: Path, store: Store | None, limits: str) -> Survey:
    """Walk over the database in `root` and compare it with `store`; None where nothing is known yet."""
    seen = Survey()
    gone = set(store.fingerprints(limits)) if store is not None else set()
    for subject, group in groupby(_walk(root), key=lambda found: found[0].subject):
        known: dict[bytes, str] = {}
        if subject in gone and store is not None:
            gone.remove(subject)
            known = store.known(subject, limits)
        for photo, readable in group:
            if not photo.path and readable:
                seen.loose.append(printable(os.fsdecode(photo.subject)))
                continue
            if seen.subjects[-1:] != [subject]:
                seen.subjects.append(subject)
            seen.n_photos += 1
            if readable:
                stat = known.pop(photo.path, None)
                if stat is None or stat != photo.stat:
                    seen.changed.append(photo)
            else:
                seen.failures.append(_unreadable(root, photo))
        seen.removed += [(subject, path) for path in known]
    if store is not None:
        seen.removed += [(subject, path) for subject in sorted(gone) for path in store.known(subject, limits)]
    return seen


def enrol(
    root: Path, store: Store, enroller: Enroller, seen: Survey, progress: Progress | None
) -> tuple[int, list[Failure]]:
    """Bring `store`, open for writing, up to what `seen` saw.

    Returns how many templates were made, and what could not be read. What was finished stays when this is
    interrupted.
    """
    run = _Run(root, store, limits_of(enroller), seen, progress)
    results = enroller.enrol(run.photos())
    finished = False
    try:
        for result in results:
            run.take(result)
        finished = not run.waiting
    finally:
        # Before the last commit: it stops threads that read ahead.
        if isinstance(results, Generator):
            results.close()
        run.commit(complete=finished)
    if run.waiting:
        raise RuntimeError(f"the enroller gave {len(run.waiting)} results less than it took photos")
    return run.n_enrolled, run.failures


class _Run:
    """The books of one enrolment: which photos wait for the enroller, and which results for a commit."""

    def __init__(
        self, root: Path, store: Store, limits: str, seen: Survey, progress: Progress | None
    ) -> None:
        self.root = root
        self.store = store
        self.limits = limits
        self.changed = seen.changed
        self.progress = progress
        self.trusted_before_ns = _file_system_time_ns(store.folder) - COARSEST_CLOCK_NS
        self.n_enrolled = 0
        self.n_done = 0
        self.failures: list[Failure] = []
        # Photos by content, in the order in which the enroller got them.
        self.waiting: dict[bytes, list[Photo]] = {}
        self.results: dict[bytes, Enrolled | FaceError] = {}
        self.samples: list[tuple[Photo, bytes]] = []
        self.removed = list(seen.removed)
        self.committed_at = time.monotonic()
        # The enroller may pull photos in one thread while results are taken in another.
        self.lock = threading.RLock()

    def photos(self) -> Iterator[tuple[Path, bytes]]:
        """Yield what must be enrolled; settle everything else on the way."""
        for photo in self.changed:
            path = _locate(self.root, photo)
            try:
                data = read(path)
            except FaceError as error:
                if photo.size > 0 or not isinstance(error, UnreadableImage):
                    self._skip(photo, error)
                    continue
                # An empty file is a content like any other, whose result is known.
                data = b""
                with self.lock:
                    self.results[bytes.fromhex(digest(data))] = error
            if self._must_enrol(photo, bytes.fromhex(digest(data))):
                yield path, data

    def take(self, result: Enrolled | FaceError) -> None:
        """Note the result for the photo that has waited longest; commit when a batch is full."""
        with self.lock:
            content = next(iter(self.waiting))
            photos = self.waiting.pop(content)
            self.results[content] = result
            self.n_enrolled += isinstance(result, Enrolled)
            for photo in photos:
                self._settle(photo, content)

    def commit(self, *, complete: bool) -> None:
        """Make all results so far durable."""
        with self.lock:
            self.store.commit(self.results, self.samples, self.removed, limits=self.limits, complete=complete)
            self.results, self.samples, self.removed = {}, [], []
            self.committed_at = time.monotonic()

    def _must_enrol(self, photo: Photo, content: bytes) -> bool:
        with self.lock:
            if content in self.waiting:
                self.waiting[content].append(photo)
                return False
            if content in self.results or self.store.has(content, self.limits):
                self._settle(photo, content)
                return False
            self.waiting[content] = [photo]
            return True

    def _settle(self, photo: Photo, content: bytes) -> None:
        if photo.changed_ns >= self.trusted_before_ns:
            # So young that a later change could leave the same times behind: it is read again next time.
            photo = photo._replace(stat="")
        self.samples.append((photo, content))
        self._count()
        full = len(self.results) >= BATCH_PHOTOS or len(self.samples) >= BATCH_SAMPLES
        if full or time.monotonic() - self.committed_at >= BATCH_SECONDS:
            self.commit(complete=False)

    def _skip(self, photo: Photo, error: FaceError) -> None:
        with self.lock:
            self.removed.append((photo.subject, photo.path))
            self.failures.append(failure(photo, error.record()))
            self._count()

    def _count(self) -> None:
        self.n_done += 1
        if self.progress is not None:
            self.progress(self.n_done, len(self.changed))


def failure(photo: Photo, record: dict[str, str]) -> Failure:
    """Return the failure of `photo` for the record of an error."""
    return Failure(relative(photo.subject, photo.path), record["code"], record["message"])


def relative(subject: bytes, path: bytes) -> str:
    """Return the printable path of a sample below the database's folder."""
    return printable(os.fsdecode(subject + b"/" + path))


def _walk(root: Path) -> Iterator[tuple[Photo, bool]]:
    """Yield every image below `root`, and whether it can be read; a loose one has no path of its own.

    The photos of one subject come one after the other.
    """
    prefix = len(os.path.join(root, ""))
    for entry in walk(root):
        status = entry.stat
        name = os.fsencode(entry.path[prefix:].replace(os.sep, "/"))
        subject, _, path = name.partition(b"/")
        stat = stat_text(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        photo = Photo(subject, path, stat, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))
        # What `walk` could not look into comes as a folder or as a link.
        yield photo, stat_module.S_ISREG(status.st_mode) and os.access(entry.path, os.R_OK)


def _locate(root: Path, photo: Photo) -> Path:
    return root / os.fsdecode(photo.subject) / os.fsdecode(photo.path)


def _unreadable(root: Path, photo: Photo) -> Failure:
    try:
        read(_locate(root, photo))
    except FaceError as error:
        return failure(photo, error.record())
    # Somebody has just mended it; the next run will see.
    return Failure(
        relative(photo.subject, photo.path), UnreadableImage.code, "could not be read a moment ago"
    )


def _file_system_time_ns(folder: Path) -> int:
    """Return the time by the clock that stamps the files in `folder`: a server's may differ from ours."""
    os.utime(folder / "lock")
    return os.stat(folder / "lock").st_mtime_ns
