"""Files and folders of our own, in a place that somebody else may have filled.

No link is followed, nothing waits for a pipe, and what is made can be read by its owner alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import IO

_NO_LINKS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def open_own(path: Path, *, write: bool = False) -> IO[bytes]:
    """Open a regular file to read, or to change it in place. Raises `OSError`, for a link and a pipe too."""
    number = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _NO_LINKS)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return os.fdopen(number, "r+b" if write else "rb")


def create_own(path: Path) -> IO[bytes]:
    """Make a new file to write, in place of whatever has this name. Raises `OSError`."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600), "wb")


def is_own(path: Path) -> bool:
    """Say whether a regular file is there, and no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def unshare(path: Path) -> None:
    """Let a file that other names stand for as well (hard links) have a copy of its own. Raises `OSError`."""
    if not is_own(path) or os.lstat(path).st_nlink < 2:
        return
    aside = path.with_name(f"{path.name}.part")
    with open_own(path) as source, create_own(aside) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
    os.replace(aside, path)


def close_to_others(path: Path) -> None:
    """Take from everybody but the owner what they may do with a file or folder, where that is ours to take."""
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if mode & 0o077:
        # Of another user, or on a file system without permissions.
        with contextlib.suppress(OSError):
            os.chmod(path, mode & 0o700)
