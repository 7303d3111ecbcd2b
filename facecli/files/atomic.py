"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

_unfinished: set[Path] = set()
_numbers = count()


def aside(path: Path) -> Path:
    """Return a name beside `path` for what is made to replace it; nothing lies there, and nobody else gets it.

    Open it with mode "x", which follows no link. `remove_unfinished` removes what was neither moved nor removed.
    """
    name = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.part")
    _unfinished.add(name)
    _remove(name)
    return name


def remove_unfinished() -> None:
    """Remove whatever lies under the names that `aside` gave: for the end of a process that was cut off."""
    for name in tuple(_unfinished):
        _remove(name)


def write_atomic(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a crash, sees the old file or the new one and nothing between.

    Without `synced` a power cut may tear it: for what is checked when it is read.
    """
    part = aside(path)
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        _unfinished.discard(part)


def _remove(name: Path) -> None:
    # Where it cannot be removed, it cannot be made either, and whoever tries says so.
    with suppress(OSError):
        if name.is_dir() and not name.is_symlink():
            import shutil

            shutil.rmtree(name)
        else:
            name.unlink(missing_ok=True)
