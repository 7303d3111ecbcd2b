"""A file that is to be had in several places, some of them ZIP archives that hold it among others."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from facecli.errors import WeightsMissing, reason

if TYPE_CHECKING:
    import zipfile

    from facecli.hooks import Notify, Progress

RETRIES = (1.0, 3.0, 9.0)
"""Pauses in seconds after which a transfer that broke off goes on."""


@dataclass(frozen=True)
class Place:
    """An address; where `member` is given it is a ZIP archive, and the file is the one of that name in it.

    `sha256` is the archive's digest; None for a file, whose digest does not depend on the place.
    """

    url: str
    member: str = ""
    sha256: str | None = None


def fetch_any(
    places: tuple[Place, ...],
    target: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    backoff_seconds: tuple[float, ...] = RETRIES,
) -> Path:
    """Fetch `target` from the first of `places` that has it whole; see `download.fetch`.

    Raises the `WeightsMissing` of the first place when none has it.
    """
    from facecli.files import download

    failures: list[WeightsMissing] = []
    for place in places:
        if failures and notify is not None:
            notify(f"{failures[-1].what}; trying {place.url}")
        fetch = partial(_fetch_member, place) if place.member else partial(download.fetch, place.url)
        try:
            return fetch(
                target,
                sha256=sha256,
                size=size,
                progress=progress,
                notify=notify,
                backoff_seconds=backoff_seconds,
            )
        except WeightsMissing as error:
            failures.append(error)
    raise failures[0]


def _fetch_member(
    place: Place,
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    progress: Progress | None,
    notify: Notify | None,
    backoff_seconds: tuple[float, ...],
) -> Path:
    """Fetch the archive beside `target`, take the member out of it and remove it: others of it are fetched apart."""
    from filelock import FileLock

    from facecli.files import download

    archive = target.with_name(f"{target.name}.zip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{archive}.member.lock"):
            if not target.exists():
                download.fetch(
                    place.url,
                    archive,
                    sha256=place.sha256,
                    progress=progress,
                    notify=notify,
                    backoff_seconds=backoff_seconds,
                )
                _take(archive, place, target, sha256, size)
    except OSError as error:
        raise WeightsMissing(f"cannot write the weights ({reason(error)})", path=target) from error
    download.check(target, sha256)
    return target


def _take(archive: Path, place: Place, target: Path, sha256: str | None, size: int | None) -> None:
    """Write the member of an archive to `target`, whole or not at all, and remove the archive."""
    import zipfile
    import zlib

    aside = target.with_name(f"{target.name}.{os.getpid()}.member")
    try:
        with zipfile.ZipFile(archive) as file:
            info = _member(file, place)
            if size is not None and info.file_size != size:
                raise _unfit(place, f"has {info.file_size} bytes where {size} are expected")
            with file.open(info) as source, open(aside, "wb") as sink:
                digest = _copy(source, sink, info.file_size)
        if sha256 is not None and digest != sha256:
            raise _unfit(place, f"has SHA-256 {digest} where {sha256} is expected")
        os.replace(aside, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise _unfit(place, f"cannot be read ({error})") from error
    finally:
        aside.unlink(missing_ok=True)
        archive.unlink(missing_ok=True)


def _member(file: zipfile.ZipFile, place: Place) -> zipfile.ZipInfo:
    """Return the one member of that name; packs hold their files in a folder or not. Its own path is never used."""
    members = [info for info in file.infolist() if info.filename.split("/")[-1] == place.member]
    if len(members) != 1:
        raise _unfit(place, f"is there {len(members)} times")
    return members[0]


def _copy(source: IO[bytes], sink: IO[bytes], size: int) -> str:
    """Copy at most `size` bytes, which is what the archive says; return their SHA-256."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := source.read(min(size, 1 << 18))):
        sink.write(chunk)
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _unfit(place: Place, what: str) -> WeightsMissing:
    return WeightsMissing(f"cannot fetch the weights: '{place.member}' in {place.url} {what}")
