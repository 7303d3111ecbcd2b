"""How a photo of a database is named: in the bytes of the file system, and for people to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from facecli.errors import printable
from facecli.templates.template import Failure


def locate(root: Path, subject: bytes, path: bytes) -> str:
    """Return the file of a sample."""
    return os.path.join(root, os.fsdecode(subject), os.fsdecode(path))


def failure(subject: bytes, path: bytes, record: dict[str, str]) -> Failure:
    """Return the failure of a photo for the record of an error."""
    return Failure(relative(subject, path), record["code"], record["message"])


def relative(subject: bytes, path: bytes) -> str:
    """Return the printable path of a sample below the database's folder."""
    return printable(os.fsdecode(subject + b"/" + path))


class Photo(NamedTuple):
    """A file of a subject. `path` is below the subject's folder, with `/`, in the bytes of the file system.

    `stat` is text that changes when the file may have; empty where that could not be trusted, None where
    there is no file.
    """

    subject: bytes
    path: bytes
    stat: str | None
    size: int


def printable_name(subject: bytes) -> str:
    """Return the name of a person as people read it."""
    return printable(os.fsdecode(subject))


def absolute(root: Path | str) -> Path:
    """Return the path of a database from the root of the file system, links kept."""
    return Path(os.path.abspath(root))
