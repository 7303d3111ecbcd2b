"""Has enrolled what a survey of the photos found to be changed: content that was never seen, and only that.

What is known already, under whatever name, is never enrolled again.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import PIL

from facecli.errors import EmptyFile, FaceError
from facecli.gallery.store.fingerprint import state
from facecli.gallery.store.names import Photo, failure, locate
from facecli.gallery.store.writer import Store
from facecli.gallery.survey import Survey, look
from facecli.hooks import Progress
from facecli.photos.find import digest, read
from facecli.templates.template import Enrolled, Failure

BATCH_PHOTOS = 32
BATCH_SECONDS = 2.0
"""Results are committed when there are this many or the last commit is this old: what a kill can cost."""

BATCH_SAMPLES = 1000
"""The same for photos whose content is known: only reading them again can be lost."""

BATCH_COMMITS = 4
"""A commit waits for this many times what the last one took, so that syncing the disk stays a fifth of the work."""

COARSEST_CLOCK_NS = 2_000_000_000
"""The coarsest time stamps of any file system in use (FAT, 2 s)."""


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


def limits_of(enroller: Enroller) -> str:
    """Return what decides, beside the embedder's id, whether a photo can be enrolled: search and decoders."""
    heic = importlib.util.find_spec("pillow_heif") is not None
    return f"{enroller.limits!r}, Pillow {PIL.__version__}, HEIC {'yes' if heic else 'no'}"


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
        run.finish(complete=finished)
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
        self.removed: Iterator[tuple[bytes, bytes]] = iter(seen.removed)
        self.unread: list[tuple[bytes, bytes]] = []
        self.committed_at = time.monotonic()
        self.commit_seconds = 0.0
        # The enroller may pull photos in one thread while results are taken in another.
        self.lock = threading.RLock()

    def photos(self) -> Iterator[tuple[Path, bytes]]:
        """Yield what must be enrolled; settle everything else on the way."""
        for subject, name in self.changed:
            # Before it is read: if it changes meanwhile, it will differ from this.
            photo = look(self.root, subject, name)
            path = locate(self.root, subject, name)
            try:
                data = read(path)
            except EmptyFile as error:
                # A content like any other, whose result is known.
                data = b""
                with self.lock:
                    self.results[bytes.fromhex(digest(data))] = error
            except FaceError as error:
                self._skip(photo, error)
                continue
            if self._must_enrol(photo, bytes.fromhex(digest(data))):
                yield Path(path), data

    def take(self, result: Enrolled | FaceError) -> None:
        """Note the result for the photo that has waited longest; commit when it is time."""
        with self.lock:
            content = next(iter(self.waiting))
            photos = self.waiting.pop(content)
            self.results[content] = result
            self.n_enrolled += isinstance(result, Enrolled)
            for photo in photos:
                self._settle(photo, content)

    def finish(self, *, complete: bool) -> None:
        """Make all results durable, with everything that is left to be forgotten."""
        with self.lock:
            removed = self._to_forget()
            while len(removed) == BATCH_SAMPLES:
                self._commit(removed, complete=False)
                removed = self._to_forget()
            self._commit(removed, complete=complete)

    def _to_forget(self) -> list[tuple[bytes, bytes]]:
        return list(islice(self.removed, BATCH_SAMPLES))

    def _commit(self, removed: list[tuple[bytes, bytes]], *, complete: bool) -> None:
        started = time.monotonic()
        removed += self.unread
        self.store.commit(self.results, self.samples, removed, limits=self.limits, complete=complete)
        self.results, self.samples, self.unread = {}, [], []
        self.committed_at = time.monotonic()
        self.commit_seconds = self.committed_at - started

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
        if self._is_young(photo):
            photo = photo._replace(stat="")
        self.samples.append((photo, content))
        self._count()
        age = time.monotonic() - self.committed_at
        full = len(self.results) >= BATCH_PHOTOS or len(self.samples) >= BATCH_SAMPLES
        if (full and age >= BATCH_COMMITS * self.commit_seconds) or age >= BATCH_SECONDS:
            self._commit(self._to_forget(), complete=False)

    def _is_young(self, photo: Photo) -> bool:
        """Say whether a later change could leave the same times behind. It could not for times in the future."""
        if not photo.stat:
            return True
        _, _, *times_ns, _ = state(photo.path, photo.stat)
        if max(times_ns) < self.trusted_before_ns:
            return False
        latest_ns = _file_system_time_ns(self.store.folder) + COARSEST_CLOCK_NS
        return any(self.trusted_before_ns <= time_ns <= latest_ns for time_ns in times_ns)

    def _skip(self, photo: Photo, error: FaceError) -> None:
        with self.lock:
            self.unread.append((photo.subject, photo.path))
            self.failures.append(failure(photo.subject, photo.path, error.record()))
            self._count()

    def _count(self) -> None:
        self.n_done += 1
        if self.progress is not None:
            self.progress(self.n_done, len(self.changed))


def _file_system_time_ns(folder: Path) -> int:
    """Return the time by the clock that stamps the files in `folder`: a server's may differ from ours."""
    os.utime(folder / "lock")
    return os.stat(folder / "lock").st_mtime_ns
