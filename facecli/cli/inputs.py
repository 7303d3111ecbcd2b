"""What commands are pointed at: photos, folders, globs, lists on stdin, templates made before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from facecli.cli.streams import stdin_lines
from facecli.errors import BadInput, FaceError, UsageError, printable
from facecli.photos.find import find_images
from facecli.templates.embedder import Embedder
from facecli.templates.reading import parse_record, read_templates
from facecli.templates.records import is_templates
from facecli.templates.template import Embedded, FailedProbe, Probe, probes_of

LONGEST_PATH = 4096
"""Of Linux, in bytes; elsewhere they are shorter."""


def probes_from(sources: list[str], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield the faces of photos, and templates made before, in the order in which they are named.

    Raises `UsageError` when there is none at all, unless it is stdin that had none.
    """
    nothing = True
    for probe in _in_order(sources, embedder):
        nothing = False
        yield probe
    if nothing and "-" not in sources:
        raise no_images(sources)


def no_images(sources: list[str]) -> UsageError:
    """Return the error of `sources` in which no photo lies."""
    return UsageError("no images there", path=sources[0], hint="give photos, or folders that hold some")


def _in_order(sources: list[str], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    photos: list[str] = []
    for source in sources:
        if source != "-" and not is_templates(source):
            photos.append(source)
            continue
        yield from _photo_probes(find_images(photos), embedder)
        photos = []
        if source == "-":
            yield from _stdin_probes(embedder)
        else:
            yield from read_templates(Path(source), embedder_id=embedder.id, dim=embedder.dim)
    yield from _photo_probes(find_images(photos), embedder)


def _photo_probes(photos: Iterable[Path], embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    for path, found in embedded(photos, embedder):
        if isinstance(found, FaceError):
            yield FailedProbe(printable(path), found.record())
        else:
            yield from probes_of(found)


def _stdin_probes(embedder: Embedder) -> Iterator[Probe | FailedProbe]:
    """Yield what comes in on stdin: JSON Lines of embed, or paths of photos."""
    numbered = enumerate(stdin_lines(), start=1)
    lines: Iterator[tuple[int, str]] = ((number, line) for number, line in numbered if line.strip())
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if first[1].lstrip().startswith("{"):
        for number, line in lines:
            yield parse_record(line, source="stdin", number=number, embedder_id=embedder.id, dim=embedder.dim)
    else:
        yield from _photo_probes((_named(number, line) for number, line in lines), embedder)


def _named(number: int, line: str) -> Path:
    """Return the photo that a line of stdin names; raises `BadInput` for what names no file anywhere."""
    if len(line) > LONGEST_PATH:
        raise BadInput(
            f"line {number}: is neither the path of a photo nor a record",
            path="stdin",
            hint="give paths, or what 'facecli embed' writes",
        )
    return Path(line)


def photos_from(sources: Iterable[str]) -> Iterator[Path]:
    """Yield the photos that files, folders and globs stand for, and those that stdin lists for '-'."""
    for source in sources:
        if source == "-":
            yield from (_named(number, line) for number, line in enumerate(stdin_lines(), start=1) if line)
        else:
            yield from find_images([source])


def one_photo(sources: list[str]) -> Path:
    """Return the only photo that `sources` stand for; raises `UsageError` when it is not one photo."""
    made = [source for source in sources if source == "-" or is_templates(source)]
    photos = [] if made else list(islice(find_images(sources), 2))
    if len(photos) != 1:
        raise UsageError("--draw writes one photo", hint="give one photo as the probe")
    return photos[0]


def embedded(photos: Iterable[Path], embedder: Embedder) -> Iterator[tuple[Path, Embedded | FaceError]]:
    """Yield each photo with what was found in it; the embedder reads ahead, so paths are kept in between."""
    ahead: deque[Path] = deque()

    def named() -> Iterator[tuple[Path, None]]:
        for path in photos:
            ahead.append(path)
            yield path, None

    for found in embedder.embed(named()):
        yield ahead.popleft(), found
