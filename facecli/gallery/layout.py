"""What a folder must look like to be a database of people."""

from __future__ import annotations

import os
from pathlib import Path

from facecli.errors import DatabaseError, NoSuchFile
from facecli.gallery.store.writer import Store
from facecli.gallery.survey import Survey

_LAYOUT = "a database is a folder per person, e.g. people/Ada/1.jpg"


def check_folder(root: Path) -> None:
    """Raise `NoSuchFile` or `DatabaseError` for what is no folder that can be listed."""
    if not root.exists():
        raise NoSuchFile("no such folder", path=root, hint=_LAYOUT)
    if not root.is_dir():
        raise DatabaseError("not a folder", path=root, hint=_LAYOUT)
    if not os.access(root, os.R_OK | os.X_OK):
        raise DatabaseError("you may not list this folder", path=root, hint="change its permissions")


def check_photos(root: Path, kept: Store | None, seen: Survey) -> None:
    """Raise `DatabaseError` where nobody is enrolled, or could be.

    That photos were there and all of them are gone is an unmounted disk more often than a wish to forget
    everybody.
    """
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
