"""The state of a folder of photos in 16 bytes: equal as long as no file in it may have changed.

The state of a photo is its path below the subject's folder (bytes, with `/`), its size, mtime and ctime in ns,
and inode (0 on Windows).
"""

from __future__ import annotations

import marshal
import os
from hashlib import blake2b

_INODES = os.name != "nt"
"""Whether listing a folder tells them: that of Windows says 0, and asking for each file takes as long as reading it."""


def fingerprint(photos: list[tuple[bytes, int, int, int, int]]) -> bytes:
    """Return the digest (BLAKE2b, 16 bytes) of the states of photos, in the order of their paths."""
    # Version 2 of this format depends on the values alone, later ones also on how they are held.
    return blake2b(marshal.dumps(photos, 2), digest_size=16).digest()


NO_PHOTOS = fingerprint([])
"""Of a subject all of whose samples came without photos."""


def stat_text(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    """Return the text that stands in the index for the state of one photo."""
    return f"{size} {mtime_ns} {ctime_ns} {inode if _INODES else 0}"


def state(path: bytes, stat: str) -> tuple[bytes, int, int, int, int]:
    """Return the state of a photo that `stat_text` wrote down: text of the kind `values.STAT`, not empty."""
    size, mtime_ns, ctime_ns, inode = map(int, stat.split())
    return path, size, mtime_ns, ctime_ns, inode
