"""Samples for calibration and evaluation, and the comparisons made of them.

Whatever the samples come from (photos in a list of pairs, a database, templates made before), a sample that
failed keeps its place with a template of NaN, so that its comparisons become failures and stay counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facecli.calibration.calibration import Provenance
from facecli.calibration.fit import describe
from facecli.errors import BadInput, FaceError, NoFace, SeveralFaces, printable
from facecli.hooks import Progress
from facecli.photos.find import digest, read
from facecli.photos.source import NamedPhoto
from facecli.stats.comparisons import Comparisons
from facecli.stats.cross import cross_comparisons
from facecli.templates.reading import OF_FACECLI, read_templates
from facecli.templates.template import Embedded, FailedProbe, Failure, Probe
from facecli.trials.pairs import PairSet, images, subjects_of

BLOCK = 65_536
"""Listed pairs whose templates are gathered at once."""


class PhotoEmbedder(Protocol):
    """What `embed_samples` asks of an `Embedder`."""

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
        found = []
        for path, content in zip(self.paths, self.digests, strict=True):
            if content and first.setdefault(content, path) != path:
                found.append((path, first[content]))
        return found


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
    failures = []
    for row, result in enumerate(embedder.embed(photos())):
        if isinstance(result, FaceError):
            failures.append(Failure(printable(paths[row]), **result.record()))
        else:
            templates[row] = result.faces[0].embedding
        if progress is not None:
            progress(row + 1, len(paths))
    return Samples(tuple(paths), tuple(subjects), tuple(digests), templates, tuple(failures))


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
    made: dict[str, Probe | FailedProbe] = {}
    for probe in read_templates(source, embedder_id=embedder_id, dim=dim):
        before = made.get(probe.path)
        if before is None or _face(probe) < _face(before):
            made[probe.path] = probe
    if not made:
        raise BadInput("holds no templates", path=source, hint=OF_FACECLI, advice="make_templates_of")
    templates = np.full((len(made), dim), np.nan, np.float32)
    failures = []
    for row, probe in enumerate(made.values()):
        if isinstance(probe, FailedProbe):
            failures.append(Failure(probe.path, **probe.error))
        else:
            templates[row] = probe.embedding
    subjects = tuple(Path(path).parent.name for path in made)
    return Samples(tuple(made), subjects, ("",) * len(made), templates, tuple(failures))


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


def listed(samples: Samples, pairs: PairSet) -> Comparisons:
    """Return the comparisons that `pairs` lists, in its order, -inf where a sample failed.

    People are known when the subject of every image is. Raises `BadInput` for pairs without labels, or with an
    image that is not among the samples.
    """
    try:
        left = np.array([samples.index[path] for path in pairs.left], dtype=np.int64)
        right = np.array([samples.index[path] for path in pairs.right], dtype=np.int64)
    except KeyError as error:
        raise BadInput("is in the list of pairs and not among the samples", path=error.args[0]) from error
    similarity = np.empty(len(pairs), dtype=np.float64)
    for start in range(0, len(pairs), BLOCK):
        here = slice(start, start + BLOCK)
        # In double precision, as `verify` compares.
        a, b = (samples.templates[rows[here]].astype(np.float64) for rows in (left, right))
        similarity[here] = np.einsum("pd,pd->p", a, b)
    similarity[np.isnan(similarity)] = -np.inf
    subjects = np.array(samples.subjects)
    if not (subjects[np.concatenate([left, right])] == "").any():
        found = Comparisons.of(similarity, subjects[left].tolist(), subjects[right].tolist())
        if pairs.mated is not None and (found.mated != pairs.mated).any():
            wrong = int(np.argmax(found.mated != pairs.mated))
            raise BadInput(f"pair {wrong + 1} is labelled against its subjects", path=pairs.left[wrong])
        return found
    if pairs.mated is None:
        raise BadInput(
            "the pairs do not say which of them are mated",
            path=pairs.root,
            hint="add the column mated, or left_subject and right_subject",
        )
    return Comparisons(similarity, pairs.mated)


def cross(samples: Samples) -> Comparisons:
    """Return the comparisons of every sample with every other, -inf where one failed: N (N - 1) / 2 of them.

    Raises `BadInput` where the subject of a sample is not known.
    """
    if "" in samples.subjects:
        raise BadInput(
            "nobody knows who is shown, so it cannot be compared with every other image",
            path=samples.paths[samples.subjects.index("")],
            hint="put photos into a folder for each person, or add the columns left_subject and right_subject",
        )
    return cross_comparisons(samples.templates, samples.subjects)


def provenance(samples: Samples, comparisons: Comparisons, description: str) -> Provenance:
    """Return the provenance of comparisons of `samples`; an image that was not read leaves no mark."""
    read_here = [k for k, content in enumerate(samples.digests) if content]
    found = describe(
        comparisons,
        description,
        image_digests=[samples.digests[k] for k in read_here],
        subjects=[samples.subjects[k] for k in read_here],
    )
    # A mark of "nobody knows" would be found again everywhere.
    subject_marks = found.subject_marks if samples.people else ()
    return replace(found, n_images=len(samples), subject_marks=subject_marks)


def shared(one: Provenance, other: Provenance) -> tuple[int, int]:
    """Return how many images, by content, and how many people, by name, two sets of data have in common."""
    return (
        len(set(one.image_marks) & set(other.image_marks)),
        len(set(one.subject_marks) & set(other.subject_marks)),
    )


def wrong_input(errors: Sequence[BadInput], failures: Sequence[Failure]) -> bool:
    """Say whether something asked for was not there, rather than without a usable face."""
    return bool(errors) or any(f.code not in (NoFace.code, SeveralFaces.code) for f in failures)


def _face(probe: Probe | FailedProbe) -> int:
    index = None if isinstance(probe, FailedProbe) else probe.place.face
    return index if isinstance(index, int) else 0
