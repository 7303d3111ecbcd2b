"""What commands are pointed at: photos, folders, globs, lists on stdin, templates made before."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from facecli.embedder import Embedded, Embedder
from facecli.errors import FaceError, UsageError, printable
from facecli.files import find_images
from facecli.records import FailedProbe, Probe, parse_record, probes_of, read_npy


def probes_from(sources: list[str], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield the faces of photos, and templates made before, in the order in which they are named."""
    photos: list[str] = []
    for source in sources:
        if source != "-" and not source.endswith(".npy"):
            photos.append(source)
            continue
        yield from _photo_probes(photos_from(photos), embedder)
        photos = []
        if source == "-":
            yield from _stdin_probes(embedder)
        else:
            yield from read_npy(Path(source), embedder_id=embedder.id, dim=embedder.dim)
    yield from _photo_probes(photos_from(photos), embedder)


def _photo_probes(photos: Iterable[Path], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    for path, found in embedded(photos, embedder):
        if isinstance(found, FaceError):
            yield FailedProbe(printable(path), found.record())
        else:
            yield from probes_of(found)


def _stdin_probes(embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield what comes in on stdin: JSON Lines of embed, or paths of photos."""
    lines = stdin_lines()
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if first.lstrip().startswith("{"):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield parse_record(
                    line, source="stdin", number=number, embedder_id=embedder.id, dim=embedder.dim
                )
    else:
        yield from _photo_probes((Path(line) for line in lines if line), embedder)


def of_one_photo(source: Iterator[Probe | FailedProbe]) -> Iterator[Probe | FailedProbe]:
    """Pass on the faces of one photo; raise `UsageError` when there is a second."""
    first = None
    for probe in source:
        first = first if first is not None else probe.path
        if probe.path != first:
            raise UsageError("--draw writes one photo", hint="give one probe")
        yield probe


def photos_from(sources: Iterable[str]) -> Iterator[Path]:
    return find_images(sources)


def stdin_lines() -> Iterator[str]:
    """Yield the lines of stdin; bytes that are not UTF-8 stay as file names have them."""
    for line in sys.stdin.buffer:
        yield os.fsdecode(line.rstrip(b"\r\n"))


def embedded(photos: Iterable[Path], embedder: Embedder) -> Iterator[tuple[Path, Embedded | FaceError]]:
    """Yield each photo with what was found in it; the embedder reads ahead, so paths are kept in between."""
    ahead: deque[Path] = deque()

    def named() -> Iterator[tuple[Path, None]]:
        for path in photos:
            ahead.append(path)
            yield path, None

    for found in embedder.embed(named()):
        yield ahead.popleft(), found
