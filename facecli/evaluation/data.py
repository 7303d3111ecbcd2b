"""What is evaluated: comparisons and searches, from pairs, a database, a gallery with probes, or scores.

The data do not depend on the system but for the templates, so that another system can be tried on the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facecli.calibration.calibration import Calibration, data_digest, marks
from facecli.errors import BadInput, UsageError, printable
from facecli.evaluation.figures import Ints
from facecli.hooks import Progress
from facecli.templates.embedder import Embedder
from facecli.templates.records import is_templates
from facecli.templates.template import Failure
from facecli.trials.database import samples_of_database
from facecli.trials.evidence import identical
from facecli.trials.pairs import PairSet, images
from facecli.trials.samples import (
    Samples,
    embed_pairs,
    samples_of_templates,
    subjects_where_known,
    wrong_input,
)
from facecli.trials.score_table import ScoreTable
from facecli.trials.scored import Scored, cross_of, listed_scores, table_scores

NO_TEMPLATE = "no_template"


@dataclass(frozen=True, eq=False)
class EvalData:
    """One system's view of the data.

    `scored` is None where only searches are made; `gallery` and `probes` None where none are, the same object
    for a database that is searched with its own samples. Samples lie in `root`, None where there are no photos
    to show. `columns` are the pairs' further columns, `errors` the rows left out, `remarks` doubts in whole
    sentences.
    """

    protocol: str
    digest: str
    scored: Scored | None
    samples: Samples | None = None
    gallery: Samples | None = None
    probes: Samples | None = None
    root: Path | None = None
    fold: Ints | None = None
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    errors: tuple[BadInput, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Samples]:
        """The sets of samples, each once."""
        found: list[Samples] = []
        for part in (self.samples, self.gallery, self.probes):
            if part is not None and all(part is not other for other in found):
                found.append(part)
        return found

    @property
    def failures(self) -> list[Failure]:
        """Samples that could not be embedded."""
        return [failure for part in self.parts for failure in part.failures]

    @property
    def wrong_input(self) -> bool:
        """Whether something asked for was not there, rather than without a usable face."""
        return wrong_input(self.errors, self.failures)


def from_pairs(
    embedder: Embedder,
    pairs: PairSet,
    *,
    every: bool,
    templates: Path | None = None,
    progress: Progress | None = None,
) -> EvalData:
    """Return the comparisons that `pairs` lists or, with `every`, all those of its images.

    With `templates`, a file of `facecli embed`, no photo is read; an image without one is a failure.
    """
    if templates is None:
        samples = embed_pairs(embedder, pairs, progress=progress)
    else:
        samples = _looked_up(embedder, pairs, templates)
    order = [f"pair {k} {a}\t{b}" for k, (a, b) in enumerate(zip(pairs.left, pairs.right, strict=True))]
    if every:
        scored: Scored = cross_of(samples)
        order = []
    else:
        scored = listed_scores(samples, pairs)
    remarks = [] if every else _repeated(pairs)
    fold = None if every else pairs.fold
    if fold is not None and np.unique(fold).size > 1:
        remarks += _shared_between_folds(pairs, fold)
    return EvalData(
        protocol="all images of the pairs with one another" if every else "listed pairs",
        digest=_digest(samples, order),
        scored=scored,
        samples=samples,
        root=pairs.root,
        fold=fold,
        columns={} if every else pairs.extra,
        errors=pairs.errors,
        remarks=tuple(remarks + identical(samples)),
    )


def from_database(samples: Samples, root: Path | None) -> EvalData:
    """Return all comparisons of a database's samples, and its searches with each of them left out."""
    return EvalData(
        protocol="all images of a database with one another",
        digest=_digest(samples, []),
        scored=cross_of(samples),
        samples=samples,
        gallery=samples,
        probes=samples,
        root=root,
        remarks=tuple(identical(samples)),
    )


def from_gallery(gallery: Samples, probes: Samples) -> EvalData:
    """Return the searches of `gallery` with `probes`."""
    enrolled = set(gallery.subjects)
    strangers = len(set(probes.subjects) - enrolled)
    remarks = identical(gallery)
    twins = {content for content in gallery.digests if content} & set(probes.digests)
    if twins:
        remarks.append(
            f"{len(twins):,} probes are files of the gallery byte for byte: finding them proves nothing"
        )
    if strangers == 0:
        remarks.append("every probe's subject is enrolled (closed set): there is no FPIR without strangers")
    return EvalData(
        protocol="probes in a gallery",
        digest=data_digest([f"gallery {_digest(gallery, [])}", f"probes {_digest(probes, [])}"]),
        scored=None,
        gallery=gallery,
        probes=probes,
        remarks=tuple(remarks),
    )


def from_scores(table: ScoreTable) -> EvalData:
    """Return comparisons that another tool made."""
    found = table.comparisons
    lines = [f"{k} {int(mated)}" for k, mated in enumerate(found.mated)]
    if table.people:
        left, right = found.known()
        pairs = zip(left, right, strict=True)
        lines = [f"{k} {table.people[a]}\t{table.people[b]}" for k, (a, b) in enumerate(pairs)]
    return EvalData(
        protocol="scores", digest=data_digest(lines), scored=table_scores(table), errors=table.errors
    )


def people_from(
    source: Path,
    embedder: Embedder,
    *,
    cache_dir: Path,
    progress: Progress | None,
    notify: Callable[[str], None],
) -> tuple[Samples, Path | None]:
    """Return the samples of a database or of a file of templates, and the folder that its photos lie in."""
    if is_templates(source):
        return samples_of_templates(source, embedder_id=embedder.id, dim=embedder.dim), None
    samples = samples_of_database(source, embedder, cache_dir=cache_dir, progress=progress, notify=notify)
    return samples, source


def seen_before(data: EvalData, calibration: Calibration | None, training: dict[str, set[str]]) -> list[str]:
    """Return warnings about images and people that a calibration, or training, has already seen.

    `training` has the marks of `image_marks` and `subject_marks` that a checkpoint remembers.
    """
    mine = {
        "images": set(marks(c for part in data.parts for c in part.digests if c)),
        "people": set(marks(s for part in data.parts for s in part.subjects if s)),
    }
    flattered = "the rates are too good to be true for new people"
    theirs = [("training data", training["image_marks"], training["subject_marks"], flattered)]
    if calibration is not None:
        chosen, reported = calibration.chosen_on, calibration.reported_on
        theirs.append(
            ("data the thresholds were chosen on", {*chosen.image_marks}, {*chosen.subject_marks}, flattered)
        )
        if reported is not None:
            repeated = "this repeats them and is no new evidence"
            theirs.append(
                (
                    "data the calibration reports its rates from",
                    {*reported.image_marks},
                    {*reported.subject_marks},
                    repeated,
                )
            )
    found = []
    for where, their_images, their_people, moral in theirs:
        for kind, known, marked, how in (
            ("images", mine["images"], their_images, "by their bytes"),
            ("people", mine["people"], their_people, "by name"),
        ):
            again = len(known & marked)
            if again:
                found.append(
                    f"{again:,} of {len(known):,} {kind} were in the {where} already ({how}): {moral}"
                )
    return found


def training_marks(model: str) -> dict[str, set[str]]:
    """Return the marks of images and people that the checkpoint `model` was trained on, empty for other models.

    A checkpoint keeps them under `training` as `image_marks` and `subject_marks`, separated by spaces.
    """
    from facecli.models import checkpoint

    place = Path(model)
    training = checkpoint.read_training(place) if checkpoint.is_checkpoint(place) else {}
    found = {}
    for key in ("image_marks", "subject_marks"):
        value = training.get(key, "")
        found[key] = set(value.split() if isinstance(value, str) else value)
    return found


def _looked_up(embedder: Embedder, pairs: PairSet, templates: Path) -> Samples:
    made = samples_of_templates(templates, embedder_id=embedder.id, dim=embedder.dim)
    subjects = subjects_where_known(pairs)
    names = images(pairs)
    rows = np.full((len(names), embedder.dim), np.nan, np.float32)
    failed = {failure.path: failure for failure in made.failures}
    failures = []
    for row, name in enumerate(names):
        # `embed` writes paths as it was given them: from here, where a list writes them from its own folder.
        path = name if name in made.index else str(pairs.root / name)
        at = made.index.get(path)
        if at is None:
            failures.append(Failure(printable(name), NO_TEMPLATE, f"has no template in {templates}"))
        elif path in failed:
            failures.append(failed[path]._replace(path=printable(name)))
        else:
            rows[row] = made.templates[at]
    if len(failures) == len(names):
        raise UsageError(
            "holds none of the images of the pairs",
            path=templates,
            hint=f"paths must agree: the pairs say '{names[0]}', the templates '{made.paths[0]}'",
        )
    return Samples(
        tuple(names), tuple(subjects[name] for name in names), ("",) * len(names), rows, tuple(failures)
    )


def _digest(samples: Samples, order: Sequence[str]) -> str:
    """Return the digest of the data, in their order, whatever the templates are."""
    lines = [
        f"sample {k} {content if content else path} {subject}"
        for k, (path, content, subject) in enumerate(
            zip(samples.paths, samples.digests, samples.subjects, strict=True)
        )
    ]
    return data_digest([*lines, *order])


def _repeated(pairs: PairSet) -> list[str]:
    again = pairs.duplicates()
    if not again:
        return []
    line, first = again[0]
    return [
        f"{len(again):,} pairs are listed more than once, such as line {line} and line {first}: all are counted"
    ]


def _shared_between_folds(pairs: PairSet, fold: Ints) -> list[str]:
    people = subjects_where_known(pairs)
    folds: dict[str, set[int]] = {}
    for a, b, k in zip(pairs.left, pairs.right, fold, strict=True):
        for path in (a, b):
            folds.setdefault(people[path], set()).add(int(k))
    several = sum(len(found) > 1 for name, found in folds.items() if name)
    if not several:
        return []
    return [f"{several:,} people are in more than one fold: the threshold of a fold has seen them"]


def check_column(column: str, there: Iterable[str]) -> None:
    """Raise `UsageError` unless `column` is among the further columns of the pairs."""
    if column not in there:
        names = ", ".join(f"'{name}'" for name in there)
        raise UsageError(
            f"the pairs have no column '{column}'" + (f" among {names}" if names else ""),
            hint="name one, or give a csv of subject and that column",
            advice="group_column",
        )


def lfw_pairs(path: Path) -> Path:
    """Return the `pairs.txt` of a folder in LFW's layout; raises `UsageError` without one."""
    pairs = path / "pairs.txt"
    if not pairs.is_file():
        raise UsageError(
            "has no pairs.txt", path=path, hint="LFW's layout is NAME/NAME_0001.jpg with pairs.txt beside"
        )
    return pairs
