"""Finds and reads the image files that a user names: files, folders, globs. Knows nothing of formats.

Order is the same on every run: a folder's files by name, then its subfolders by name. Whatever cannot be
looked into is still yielded, so that reading it later gives one error record instead of a silent gap.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from facecli.errors import EmptyFile, NoSuchFile, UnreadableImage, did_you_mean, printable, reason

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"}
    | {".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".heic", ".heif"}
    | {".hif", ".avif"}
)
"""Endings, in lower case, that count as an image inside a folder.

The list is fixed: .heic counts even where its decoder is not installed, or photos would vanish unseen.
"""


MAX_FILE_BYTES = 1 << 30

_BY_NUMBER = os.scandir in os.supports_fd and hasattr(os, "O_DIRECTORY")

NAMES_COMPARED = 500
"""Names of a folder that are compared to find what a missing file may have been meant to be."""


class FileEntry(NamedTuple):
    """A file that `walk` saw, and the `stat` of what it is or links to.

    `path` is text: making a Path of each would double the cost of a walk.
    """

    path: str
    stat: os.stat_result


class Folder(NamedTuple):
    """A folder that a walk came to. `images` are its entries with an image's name; None: it cannot be listed."""

    path: str
    images: list[os.DirEntry[str]] | None


def find_images(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the image files that `paths` stand for, in their order.

    A file is yielded whatever its ending, and so is a path that does not exist: reading it will say so. A
    folder is walked (see `walk`). A pattern that the shell left alone is expanded when no file has that name.
    """
    for path in paths:
        for named in _expand(os.fspath(path)):
            if os.path.isdir(named):
                for entry in walk(named):
                    yield Path(entry.path)
            else:
                yield Path(named)


def walk(folder: str | os.PathLike[str]) -> Iterator[FileEntry]:
    """Yield the image files in `folder` and below, by name, as paths that begin with `folder`.

    Only regular files with one of `IMAGE_ENDINGS` count (in any case); hidden files and folders do not. Links
    are followed; a folder is visited once, however many links or loops lead to it. A subfolder that cannot be
    listed and a dangling link named like an image are yielded too. Memory grows with the names in one folder
    and the number of folders, not with the number of files.

    Raises `NoSuchFile` or `UnreadableImage` when `folder` is not a folder.
    """
    top = os.fspath(folder)
    try:
        os.stat(top)
    except (OSError, ValueError) as error:
        raise NoSuchFile("no such folder", path=top) from error
    if not os.path.isdir(top):
        raise UnreadableImage("is a file, not a folder", path=top)
    for here in folders(top):
        if here.images is None:
            yield from _out_of_reach(here.path)
            continue
        prefix = os.path.join(here.path, "")
        here.images.sort(key=lambda entry: entry.name, reverse=True)
        while here.images:
            entry = here.images.pop()
            path = prefix + entry.name
            try:
                status = entry.stat()
            except OSError:
                yield from _out_of_reach(path)
                continue
            # Opening a named pipe would wait for ever.
            if stat.S_ISREG(status.st_mode):
                yield FileEntry(path, status)


def folders(top: str) -> Iterator[Folder]:
    """Yield `top` and the folders below it that `walk` visits, in its order.

    The entries can be asked for their `stat` until the next folder is.
    """
    seen: set[tuple[int, int]] = set()
    pending = [top]
    while pending:
        here = pending.pop()
        try:
            # What is opened by its number is spared the way from the root of the file system for each file.
            opened = os.open(here, os.O_RDONLY | os.O_DIRECTORY) if _BY_NUMBER else here
        except OSError:
            yield Folder(here, None)
            continue
        try:
            status = os.stat(opened)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            images, below = _list(opened)
        except OSError:
            yield Folder(here, None)
        else:
            yield Folder(here, images)
            if below:
                prefix = os.path.join(here, "")
                pending.extend(prefix + name for name in sorted(below, reverse=True))
        finally:
            if isinstance(opened, int):
                os.close(opened)


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of the file at `path`.

    Raises `NoSuchFile`, naming what is there under a similar name, `EmptyFile`, and `UnreadableImage` for a
    folder, a file of more than `MAX_FILE_BYTES`, and one that the user may not read.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_FILE_BYTES:
                raise _too_large(path)
            # A pipe or a device states no size and may never end.
            data = file.read() if stat.S_ISREG(status.st_mode) else file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _no_such_file(os.fspath(path)) from error
    except OSError as error:
        # Windows answers "permission denied" for a folder.
        if os.path.isdir(path):
            listed = os.access(path, os.R_OK | os.X_OK)
            what = "is a folder, not an image" if listed else "is a folder that you may not list"
            raise UnreadableImage(what, path=path) from error
        raise UnreadableImage(f"cannot be read ({reason(error)})", path=path) from error
    if not data:
        raise EmptyFile("is empty (0 bytes)", path=path)
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(path)
    return data


def digest(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes in hex: the key of a sample, whatever its name and date."""
    return hashlib.sha256(data).hexdigest()


def _list(folder: str | int) -> tuple[list[os.DirEntry[str]], list[str]]:
    """Return the images, by name, and the names of the subfolders of `folder`, in no order."""
    images, below = [], []
    with os.scandir(folder) as entries:
        # Spelt out, and the common case first: this is done for each of a million files.
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                # A link that leads to itself.
                is_folder = False
            if is_folder:
                below.append(name)
            elif name[-4:] in IMAGE_ENDINGS or os.path.splitext(name)[1].lower() in IMAGE_ENDINGS:
                images.append(entry)
    return images, below


def _out_of_reach(path: str) -> Iterator[FileEntry]:
    """Yield the entry of a link or folder that cannot be entered; nothing for one that is gone by now."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    yield FileEntry(path, status)


def _expand(path: str) -> list[str]:
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    return sorted(glob.glob(path)) or [path]


def _too_large(path: str | os.PathLike[str]) -> UnreadableImage:
    return UnreadableImage(f"is larger than {MAX_FILE_BYTES >> 20} MiB and was not read", path=path)


def _no_such_file(path: str) -> NoSuchFile:
    """Return the error for a path that is not there, with the nearest name that is."""
    if os.path.islink(path):
        return NoSuchFile(f"is a link to '{printable(os.readlink(path))}', which does not exist", path=path)
    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for entry in itertools.islice(entries, NAMES_COMPARED)]
    except (OSError, ValueError):
        return NoSuchFile("no such file", path=path, hint="its folder does not exist or cannot be listed")
    if glob.has_magic(name):
        return NoSuchFile("no file matches this pattern", path=path)
    return NoSuchFile("no such file", path=path, hint=did_you_mean(name, names, cutoff=0.75, folder=folder))
