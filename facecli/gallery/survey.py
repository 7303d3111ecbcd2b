"""Looks at a folder of photos: is it a database of people, and what changed since the last time?

A file is taken as unchanged while its size, both its times and its inode are. When they change, its bytes will
decide. What stays unseen is a file changed in place whose size, times and inode were all put back.

A subject whose photos all look as they did costs one digest; what is held of others is their names alone, so a
million photos, changed or not, fit into little memory.
"""

from __future__ import annotations

import os
import stat as stat_module
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from facecli.errors import DatabaseError, FaceError, NoSuchFile, UnreadableImage, printable
from facecli.gallery.store.fingerprint import NO_PHOTOS, fingerprint, stat_text
from facecli.gallery.store.names import Photo, failure, locate, relative
from facecli.gallery.store.writer import Store
from facecli.photos.find import Folder, folders, read
from facecli.templates.template import Failure

_KIND, _REGULAR = 0o170000, stat_module.S_IFREG
_State = tuple[bytes, int, int, int, int]

_LAYOUT = "a database is a folder per person, e.g. people/Ada/1.jpg"


class Names:
    """Photos of many subjects, by name alone."""

    def __init__(self) -> None:
        self._paths: list[tuple[bytes, bytes]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (subject, path)."""
        for subject, paths in self._paths:
            for path in paths.split(b"\0"):
                yield subject, path

    def add(self, subject: bytes, paths: list[bytes]) -> None:
        """Add photos of a subject. No file system has a zero byte in a name."""
        if paths:
            self._paths.append((subject, b"\0".join(paths)))
            self._count += len(paths)


@dataclass
class Survey:
    """What a walk over the photos saw, compared with a store."""

    n_photos: int = 0
    subjects: list[bytes] = field(default_factory=list)
    """Folders with photos."""
    changed: Names = field(default_factory=Names)
    """Photos that are new or may have changed."""
    removed: Names = field(default_factory=Names)
    """Samples whose photo is gone, or can no longer be read."""
    failures: list[Failure] = field(default_factory=list)
    """What could not be read at all. It is tried again each time: the reason lies outside the file."""
    loose: list[str] = field(default_factory=list)
    """Images that lie beside the subjects' folders and so show nobody in particular."""


def check_folder(root: Path) -> None:
    """Raise `NoSuchFile` or `DatabaseError` for what is no folder that can be listed."""
    if not root.exists():
        raise NoSuchFile("no such folder", path=root, hint=_LAYOUT)
    if not root.is_dir():
        raise DatabaseError("not a folder", path=root, hint=_LAYOUT)
    if not os.access(root, os.R_OK | os.X_OK):
        raise DatabaseError("you may not list this folder", path=root, hint="change its permissions")


def survey(root: Path, store: Store | None, limits: str) -> Survey:
    """Walk over the database in `root` and compare it with `store`; None where nothing is known yet."""
    seen = Survey()
    kept = store.fingerprints(limits) if store is not None else {}
    prefix = len(os.path.join(root, ""))
    for name, group in groupby(folders(os.fspath(root)), lambda folder: _subject(folder.path[prefix:])):
        if not name:
            for folder in group:
                seen.loose += [printable(entry.name) for entry in folder.images or []]
            seen.loose.sort()
            continue
        subject = os.fsencode(name)
        states, lost = _look(group, prefix + len(name) + 1)
        if not states and not lost:
            continue
        states.sort()
        seen.subjects.append(subject)
        seen.n_photos += len(states) + len(lost)
        enrolled = subject in kept
        if lost or not enrolled or kept[subject] != fingerprint(states):
            before = store.known(subject, limits) if store is not None and enrolled else {}
            _compare(root, seen, subject, states, before)
            seen.failures += [_unreadable(root, subject, path) for path in lost]
        kept.pop(subject, None)
    if store is not None:
        for subject in sorted(name for name, print_ in kept.items() if print_ != NO_PHOTOS):
            seen.removed.add(subject, list(store.known(subject, limits)))
    return seen


def check_photos(root: Path, kept: Store | None, seen: Survey) -> None:
    """Raise `DatabaseError` where nobody is enrolled, or could be.

    That photos were there and all of them are gone is an unmounted disk more often than a wish to forget
    everybody.
    """
    if seen.n_photos or (kept is not None and kept.subjects() and not seen.removed):
        return
    what = "no photos in this folder"
    if seen.loose:
        what = f"holds {len(seen.loose)} images but no folder of a person, so nobody can be named"
    if (root / ".facecli").is_dir():
        raise DatabaseError(
            what,
            path=root,
            hint=f"{_LAYOUT}; the templates that are kept can be opened without the photos",
            advice="open_kept",
            values={"layout": _LAYOUT},
        )
    raise DatabaseError(what, path=root, hint=_LAYOUT)


def look(root: Path, subject: bytes, path: bytes) -> Photo:
    """Return what a photo looks like now, its `stat` empty if it is gone."""
    try:
        status = os.stat(locate(root, subject, path))
    except OSError:
        return Photo(subject, path, "", 0)
    stat = stat_text(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return Photo(subject, path, stat, status.st_size)


def _subject(path: str) -> str:
    return path.partition(os.sep)[0]


def _look(group: Iterator[Folder], prefix: int) -> tuple[list[_State], list[bytes]]:
    """Return the states of a subject's photos, and the paths of what cannot be looked into.

    `prefix` is the length of the path of the subject's folder, with the separator.
    """
    states: list[_State] = []
    lost = []
    codec, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    for folder in group:
        below = b""
        if len(folder.path) > prefix:
            below = os.fsencode(folder.path[prefix:].replace(os.sep, "/")) + b"/"
        if folder.images is None:
            if not _is_gone(folder.path):
                lost.append(below[:-1])
            continue
        # Spelt out: this is all the work for a photo that did not change. An entry keeps what it was asked for.
        while folder.images:
            entry = folder.images.pop()
            name = entry.name.encode(codec, errors)
            try:
                status = entry.stat()
            except OSError:
                # A link that leads nowhere, or in a folder that may be listed and no more.
                if not _is_gone(os.path.join(folder.path, entry.name)):
                    lost.append(below + name)
                continue
            if status.st_mode & _KIND == _REGULAR:
                states.append(
                    (below + name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                )
    return states, lost


def _is_gone(path: str) -> bool:
    """Say whether nothing is there. Where that cannot be told, there was something a moment ago."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _compare(
    root: Path, seen: Survey, subject: bytes, states: list[_State], before: dict[bytes, str]
) -> None:
    changed = []
    for path, *state in states:
        if before.get(path) != stat_text(*state):
            if os.access(locate(root, subject, path), os.R_OK):
                changed.append(path)
            else:
                seen.failures.append(_unreadable(root, subject, path))
                continue
        before.pop(path, None)
    seen.changed.add(subject, changed)
    seen.removed.add(subject, list(before))


def _unreadable(root: Path, subject: bytes, path: bytes) -> Failure:
    try:
        read(locate(root, subject, path))
    except FaceError as error:
        return failure(subject, path, error.record())
    # Somebody has just mended it; the next run will see.
    return Failure(relative(subject, path), UnreadableImage.code, "could not be read a moment ago")
