"""Fetches one file over HTTP: resumed where it broke off, checked, once for all processes, whole or not.

While it runs, `NAME.part` holds what has come so far and `NAME.part.version` the server's name for that
version of the file (ETag or date), so that the halves of two different files are never glued together. Where
the digest of a file is not known beforehand, the first one seen is kept in `NAME.sha256` (the format of
sha256sum) and holds from then on.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from facecli.errors import WeightsMissing, reason
from facecli.files.http_answer import length_of, opened, total_of, version_of
from facecli.files.impostors import HEAD_BYTES, impostor
from facecli.hooks import Progress

if TYPE_CHECKING:
    from facecli.hooks import Notify


CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 33
"""Of a file whose length nobody knows: a server that never ends must not fill the disk."""
LEAST_BYTES_A_SECOND = 1 << 10
"""A server that gives less, for as long as the timeout, has broken off."""


class _BrokenOff(Exception):
    """A transfer that ended early and may go on; the part file holds what came."""


def weights_path(url: str, cache_dir: Path) -> Path:
    """Return where the file behind `url` is kept."""
    return cache_dir / "weights" / url.rsplit("/", 1)[-1]


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
    timeout_seconds: float = 30.0,
    backoff_seconds: tuple[float, ...] = (1.0, 3.0, 9.0),
) -> Path:
    """Fetch `url` to `target` unless it is there, check it and return `target`.

    `sha256` is the digest in hex, or its first digits where only those are known; None trusts the first
    download and records its digest. A broken-off transfer goes on after each of `backoff_seconds`; when the
    last has failed too, the part stays for the next call. Processes that ask at the same time fetch once.
    Redirects are followed to http and https, and never from https to http.

    Raises `WeightsMissing` saying what to do: no network, an answer that is an error, another file or a page in
    its place, a wrong length or checksum (the part is removed), a disk that is full or not writable.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error, url, target) from error
    with _locked(target, notify):
        if not target.exists():
            if notify is not None:
                notify(f"fetching {target.name} from {url}")
            _Transfer(url, target, sha256, size, progress, timeout_seconds).run(backoff_seconds)
            return target
    check(target, sha256)
    return target


def check(path: Path, sha256: str | None) -> str:
    """Return the SHA-256 of the file at `path` in hex if it is the right one.

    Right is `sha256` (or its first digits), else what `NAME.sha256` recorded, else whatever is there, which
    is recorded. Raises `WeightsMissing` naming both digests.
    """
    found = file_digest(path)
    wanted = sha256 if sha256 is not None else recorded_digest(path)
    if wanted is None:
        # A file in a folder that cannot be written is used all the same; it is only not remembered.
        with suppress(OSError):
            _record(path, found)
    elif not found.startswith(wanted.lower()):
        record = "" if sha256 is not None else f", and {_record_path(path).name} if the new one is meant"
        raise WeightsMissing(
            f"wrong checksum: expected SHA-256 {wanted}, got {found}",
            path=path,
            hint=f"the file is damaged or another one; delete it to fetch it again{record}",
        )
    return found


def recorded_digest(path: Path) -> str | None:
    """Return the digest kept beside `path` in `NAME.sha256`, or None if there is none."""
    try:
        text = _record_path(path).read_text("utf-8")
    except OSError:
        return None
    digest = text.split(maxsplit=1)[0] if text.strip() else ""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise WeightsMissing("not a SHA-256 record", path=_record_path(path), hint="delete it")
    return digest


def file_digest(path: Path) -> str:
    """Return the SHA-256 of weights in hex. Raises `WeightsMissing` if they cannot be read, or are something else."""
    refuse_impostor(path)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            _feed(digest, file)
    except OSError as error:
        raise WeightsMissing(f"cannot read the weights ({reason(error)})", path=path) from error
    return digest.hexdigest()


def refuse_impostor(path: Path) -> None:
    """Raise `WeightsMissing` for a file that cannot be read, or that lies in the place of weights."""
    try:
        with open(path, "rb") as file:
            what = impostor(file.read(HEAD_BYTES))
    except OSError as error:
        raise WeightsMissing(f"cannot read the weights ({reason(error)})", path=path) from error
    if what:
        way_out = "'git lfs pull' fetches the file itself" if "LFS" in what else "fetch the file itself"
        raise WeightsMissing(f"is {what} and no weights", path=path, hint=way_out)


@contextmanager
def _locked(target: Path, notify: Notify | None) -> Iterator[None]:
    """Hold the lock of `target`; say so when another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if notify is not None:
            notify(f"another process is fetching {target.name}; waiting for it")
        lock.acquire()
    except OSError as error:
        raise WeightsMissing(f"cannot lock the weights ({reason(error)})", path=target) from error
    try:
        yield
    finally:
        lock.release()


class _Transfer:
    """One download under the lock."""

    def __init__(
        self,
        url: str,
        target: Path,
        sha256: str | None,
        size: int | None,
        progress: Progress | None,
        timeout_seconds: float,
    ) -> None:
        self.url = url
        self.target = target
        self.sha256 = sha256
        self.size = size
        self.progress = progress
        self.timeout_seconds = timeout_seconds
        self.part = target.with_name(f"{target.name}.part")
        self.version = target.with_name(f"{target.name}.part.version")

    def run(self, backoff_seconds: tuple[float, ...]) -> None:
        for pause in (*backoff_seconds, None):
            try:
                digest = self._once()
                break
            except _BrokenOff as error:
                if pause is None:
                    raise self._failed(f"the transfer broke off ({error})", keeps_part=True) from error
                time.sleep(pause)
        with open(self.part, "rb") as file:
            what = impostor(file.read(HEAD_BYTES))
        if what:
            self._discard()
            raise self._failed(f"the server sent {what}")
        wanted = self.sha256 if self.sha256 is not None else recorded_digest(self.target)
        if wanted is not None and not digest.startswith(wanted.lower()):
            self._discard()
            raise self._failed(f"wrong checksum: expected SHA-256 {wanted}, got {digest}")
        if wanted is None:
            _record(self.target, digest)
        os.replace(self.part, self.target)
        self.version.unlink(missing_ok=True)

    def _once(self) -> str:
        """Fetch what is missing and return the digest of the whole part file."""
        start, version = self._resumable()
        headers = {"User-Agent": "facecli", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        try:
            answer = opened(self.url, headers, self.timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:
                    # The part is as long as the file or longer: nothing it could be continued with.
                    self._discard()
                    raise _BrokenOff("the part did not fit the file") from error
                if error.code in (408, 429) or error.code >= 500:
                    raise _BrokenOff(f"HTTP {error.code} {error.reason}") from error
                raise self._failed(f"the server answered HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            if start:
                raise _BrokenOff(str(why)) from error
            raise self._failed(f"cannot reach the server ({why})") from error
        with answer:
            return self._receive(answer, start, version)

    def _receive(self, answer: http.client.HTTPResponse, start: int, version: str) -> str:
        named = version_of(answer)
        if answer.status == 206 and start:
            total = total_of(answer, start)
            if total is None or named not in ("", version):
                self._discard()
                raise _BrokenOff("the server continued another file")
        elif answer.status == 200:
            # The whole file: the server has another version now, or does not know ranges.
            start, total = 0, length_of(answer)
        else:
            raise self._failed(f"the server answered HTTP {answer.status}, which is no whole file")
        packed = answer.headers.get("Content-Encoding", "identity")
        if packed.lower() != "identity":
            raise self._failed(f"the server sends the file packed ({packed}), and nobody asked for that")
        if total is not None and self.size is not None and total != self.size:
            self._discard()
            what = impostor(answer.read(HEAD_BYTES))
            said = f" ({what})" if what else ""
            raise self._failed(f"the server offers {total} bytes{said} where {self.size} are expected")
        if total is None:
            total = self.size
        if total is None and self.sha256 is None:
            raise self._failed(
                "the server does not say how long the file is, so it cannot be known to be whole"
            )
        digest = hashlib.sha256()
        try:
            if start == 0:
                self.version.write_text(named, "utf-8")
            with open(self.part, "r+b" if start else "wb") as file:
                if start:
                    _feed(digest, file)
                done = self._stream(answer, file, digest, start, total)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(self.part, error, self.url, self.target) from error
        most = total if total is not None else MOST_BYTES
        if done > most:
            self._discard()
            raise self._failed(f"the server sends more than the {most} bytes that are expected")
        if total is not None and done != total:
            raise _BrokenOff(f"{done} of {total} bytes came")
        return digest.hexdigest()

    def _stream(
        self,
        answer: http.client.HTTPResponse,
        file: BinaryIO,
        digest: hashlib._Hash,
        done: int,
        total: int | None,
    ) -> int:
        """Write what comes to `file`, up to one byte more than `total`; return how much there is then."""
        most = total if total is not None else MOST_BYTES
        since, before = time.monotonic(), done
        while done <= most:
            if self.progress is not None:
                self.progress(done, total)
            try:
                # What is there, and not all of it, or a server that gives a byte now and then is heard for days.
                chunk = answer.read1(min(CHUNK_BYTES, most + 1 - done))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _BrokenOff(f"{done} bytes came, then {error}") from error
            if not chunk:
                break
            seconds = time.monotonic() - since
            if seconds > self.timeout_seconds:
                if done - before < LEAST_BYTES_A_SECOND * seconds:
                    raise _BrokenOff(f"{done} bytes came, the last too slowly")
                since, before = time.monotonic(), done
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
        return done

    def _resumable(self) -> tuple[int, str]:
        """Return how many bytes can be built on, and of which version of the file."""
        try:
            version = self.version.read_text("utf-8")
            return (self.part.stat().st_size, version) if version else (0, "")
        except OSError:
            return 0, ""

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def _failed(self, what: str, *, keeps_part: bool = False) -> WeightsMissing:
        first = "run again to go on where it stopped, or " if keeps_part else ""
        return _missing(f"cannot fetch the weights: {what}", None, first, self.url, self.target)


def not_here(name: str, url: str, target: Path) -> WeightsMissing:
    """Return the error for a model whose weights were never fetched from `url` to `target`."""
    return WeightsMissing(
        f"the weights of '{name}' are not here",
        path=target,
        hint=f"fetch {url} and put it there, or give its path as weights",
        advice="put_weights",
        values={"url": url},
    )


def _cannot_write(path: Path, error: OSError, url: str, target: Path) -> WeightsMissing:
    first = "make room or choose another cache folder, or "
    return _missing(f"cannot write the weights ({reason(error)})", path, first, url, target)


def _missing(what: str, path: Path | None, first: str, url: str, target: Path) -> WeightsMissing:
    return WeightsMissing(
        what,
        path=path,
        hint=f"{first}fetch {url} elsewhere and put it at {target}, or give its path as weights",
        advice="fetch_weights",
        values={"first": first, "url": url, "target": str(target)},
    )


def _feed(digest: hashlib._Hash, file: BinaryIO) -> None:
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _record(path: Path, digest: str) -> None:
    from facecli.files.atomic import write_atomic

    write_atomic(_record_path(path), f"{digest}  {path.name}\n".encode())
