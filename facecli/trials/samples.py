"""Samples for calibration and evaluation: images with a template each.

Whatever the samples come from (photos in a list of pairs, a database, templates made before), a sample that
failed keeps its place with a template of NaN, so that its comparisons become failures and stay counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput, FaceError, LowQuality, NoFace, SeveralFaces, UsageError, printable
from facecli.hooks import Progress
from facecli.photos.find import digest, read
from facecli.photos.source import NamedPhoto
from facecli.templates.reading import OF_FACECLI, read_templates
from facecli.templates.template import Embedded, FailedProbe, Failure, Probe
from facecli.trials.pairs import PairSet, images, subjects_of

NO_TEMPLATE = "no_template"
"""The code of an image that a file of templates does not have."""


class PhotoEmbedder(Protocol):
    """What is asked of an `Embedder` here."""

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, photos: Iterator[NamedPhoto]) -> Iterator[Embedded | FaceError]: ...


@dataclass(frozen=True, eq=False)
class Samples:
    """N images with one template each, or a failure.

    `paths` are as their source writes them; `subjects` [N] are "" where nobody knows who is shown; `digests` [N]
    are the SHA-256 of the files' bytes in hex, "" where they were not read. `templates` is float32 [N, D], unit
    rows, the row of a failure NaN. `failures` are in the order of the samples.
    """

    paths: tuple[str, ...]
    subjects: tuple[str, ...]
    digests: tuple[str, ...]
    templates: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()
    strictness: NDArray[np.float32] | None = None
    """[N] of each face (see `faces.quality`), None where all are 0."""

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each path."""
        return {path: row for row, path in enumerate(self.paths)}

    @property
    def people(self) -> int:
        """How many different people are shown; 0 when somebody is not known."""
        return 0 if "" in self.subjects else len(set(self.subjects))

    def identical(self) -> list[tuple[str, str]]:
        """Return (path, path of the first) for each image whose bytes were there before."""
        first: dict[str, str] = {}
        twins = []
        for path, content in zip(self.paths, self.digests, strict=True):
            if content and first.setdefault(content, path) != path:
                twins.append((path, first[content]))
        return twins


def embed_samples(
    embedder: PhotoEmbedder,
    paths: Sequence[str],
    subjects: Sequence[str],
    *,
    root: Path,
    progress: Progress | None = None,
) -> Samples:
    """Embed the images `paths`, relative to `root`, of which `subjects` says who is shown.

    The first of the faces that the embedder chooses counts. Nothing is raised for an image: it is a failure.
    """
    digests: list[str] = []

    def photos() -> Iterator[NamedPhoto]:
        for path in paths:
            data: bytes | None
            try:
                data = read(root / path)
            except FaceError:
                # The embedder fails in the same way and says so in the right place.
                data = None
            digests.append("" if data is None else digest(data))
            yield root / path, data

    templates = np.full((len(paths), embedder.dim), np.nan, np.float32)
    strictness = np.zeros(len(paths), np.float32)
    failures = []
    for row, result in enumerate(embedder.embed(photos())):
        if isinstance(result, FaceError):
            failures.append(Failure(printable(paths[row]), **result.record()))
        else:
            templates[row] = result.faces[0].embedding
            strictness[row] = result.faces[0].strictness
        if progress is not None:
            progress(row + 1, len(paths))
    return Samples(tuple(paths), tuple(subjects), tuple(digests), templates, tuple(failures), strictness)


def embed_pairs(embedder: PhotoEmbedder, pairs: PairSet, *, progress: Progress | None = None) -> Samples:
    """Embed each image of `pairs` once; see `subjects_where_known` for who is who."""
    subjects = subjects_where_known(pairs)
    names = images(pairs)
    return embed_samples(
        embedder, names, [subjects[name] for name in names], root=pairs.root, progress=progress
    )


def samples_of_templates(source: Path, *, embedder_id: str, dim: int) -> Samples:
    """Return what `facecli embed` wrote: `x.npy` with its table `x.csv`, or JSON Lines.

    The subject is the name of the folder that the photo lay in. Of a photo with several faces the largest
    counts, as when it is enrolled. The photos themselves are not looked at, so digests are empty.

    Raises `NoSuchFile`, `BadInput` and `EmbedderMismatch` (see `records`).
    """
    probes: dict[str, Probe | FailedProbe] = {}
    for probe in read_templates(source, embedder_id=embedder_id, dim=dim):
        before = probes.get(probe.path)
        if before is None or _face(probe) < _face(before):
            probes[probe.path] = probe
    if not probes:
        raise BadInput("holds no templates", path=source, hint=OF_FACECLI, advice="make_templates_of")
    templates = np.full((len(probes), dim), np.nan, np.float32)
    strictness = np.zeros(len(probes), np.float32)
    failures = []
    for row, probe in enumerate(probes.values()):
        if isinstance(probe, FailedProbe):
            failures.append(Failure(probe.path, **probe.error))
        else:
            templates[row], strictness[row] = probe.embedding, probe.strictness
    subjects = tuple(Path(path).parent.name for path in probes)
    return Samples(tuple(probes), subjects, ("",) * len(probes), templates, tuple(failures), strictness)


def subjects_where_known(pairs: PairSet) -> dict[str, str]:
    """Return the subject of each image of `pairs`: from its columns, else its folder, else "".

    Folders name subjects only where they explain every label: a folder in common for the mated pairs and no
    others. Raises `BadInput` for an image said to be of two subjects.
    """
    if pairs.left_subject is not None:
        return subjects_of(pairs)
    folders = {path: Path(path).parent.name for path in images(pairs)}
    if "" in folders.values():
        return dict.fromkeys(folders, "")
    if pairs.mated is not None:
        same = np.array([folders[a] == folders[b] for a, b in zip(pairs.left, pairs.right, strict=True)])
        if (same != pairs.mated).any():
            return dict.fromkeys(folders, "")
    return folders


def templates_of_pairs(pairs: PairSet, source: Path, *, embedder_id: str, dim: int) -> Samples:
    """Return each image of `pairs` with its template in `source`, a file of `facecli embed`; no photo is read.

    An image without one is a failure. Raises `UsageError` where all are, and what `samples_of_templates` raises.
    """
    available = samples_of_templates(source, embedder_id=embedder_id, dim=dim)
    subjects = subjects_where_known(pairs)
    names = images(pairs)
    templates = np.full((len(names), dim), np.nan, np.float32)
    strictness = np.zeros(len(names), np.float32)
    failed = {failure.path: failure for failure in available.failures}
    failures = []
    for row, name in enumerate(names):
        # `embed` writes paths as it was given them: from here, where a list writes them from its own folder.
        path = name if name in available.index else str(pairs.root / name)
        available_row = available.index.get(path)
        if available_row is None:
            failures.append(Failure(printable(name), NO_TEMPLATE, f"has no template in {source}"))
        elif path in failed:
            failures.append(failed[path]._replace(path=printable(name)))
        else:
            templates[row] = available.templates[available_row]
            if available.strictness is not None:
                strictness[row] = available.strictness[available_row]
    if len(failures) == len(names):
        raise UsageError(
            "holds none of the images of the pairs",
            path=source,
            hint=f"paths must agree: the pairs say '{names[0]}', the templates '{available.paths[0]}'",
        )
    return Samples(
        tuple(names),
        tuple(subjects[name] for name in names),
        ("",) * len(names),
        templates,
        tuple(failures),
        strictness,
    )


def wrong_input(errors: Sequence[BadInput], failures: Sequence[Failure]) -> bool:
    """Say whether something asked for was not there, rather than without a usable face."""
    return bool(errors) or any(
        f.code not in (NoFace.code, SeveralFaces.code, LowQuality.code) for f in failures
    )


def _face(probe: Probe | FailedProbe) -> int:
    index = None if isinstance(probe, FailedProbe) else probe.place.face
    return index if isinstance(index, int) else 0
