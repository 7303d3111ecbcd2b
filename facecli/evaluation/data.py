"""What is evaluated: comparisons and searches, from pairs, a database, a gallery with probes, or scores.

The data do not depend on the system but for the templates, so that another system can be tried on the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facecli.calibration.calibration import Calibration, data_digest, marks
from facecli.errors import BadInput, UsageError
from facecli.evaluation.figures import Ints
from facecli.templates.template import Failure
from facecli.trials.labelled import LabelledComparisons, identical
from facecli.trials.pairs import PairSet
from facecli.trials.samples import Samples, subjects_where_known, wrong_input


@dataclass(frozen=True, eq=False)
class EvalData:
    """One system's view of the data.

    `labelled` is None where only searches are made; `gallery` and `probes` None where none are, the same object
    for a database that is searched with its own samples. `fold` and `columns` are those of the listed pairs,
    `remarks` doubts in whole sentences.
    """

    protocol: str
    digest: str
    labelled: LabelledComparisons | None
    gallery: Samples | None = None
    probes: Samples | None = None
    fold: Ints | None = None
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Samples]:
        """The sets of samples, each once."""
        parts: list[Samples] = []
        compared = None if self.labelled is None else self.labelled.samples
        for part in (compared, self.gallery, self.probes):
            if part is not None and len(part) and all(part is not other for other in parts):
                parts.append(part)
        return parts

    @property
    def failures(self) -> list[Failure]:
        """Samples that could not be embedded."""
        return [failure for part in self.parts for failure in part.failures]

    @property
    def errors(self) -> tuple[BadInput, ...]:
        """The rows left out."""
        return () if self.labelled is None else self.labelled.errors

    @property
    def wrong_input(self) -> bool:
        """Whether something asked for was not there, rather than without a usable face."""
        return wrong_input(self.errors, self.failures)


def from_pairs(labelled: LabelledComparisons) -> EvalData:
    """Return the data of a list of pairs, or of all its images."""
    pairs = labelled.pairs
    if pairs is None:
        protocol = "all images of the pairs with one another"
        return EvalData(protocol, _digest(labelled.samples), labelled, remarks=labelled.remarks)
    order = [f"pair {k} {a}\t{b}" for k, (a, b) in enumerate(zip(pairs.left, pairs.right, strict=True))]
    return EvalData(
        protocol="listed pairs",
        digest=_digest(labelled.samples, order),
        labelled=labelled,
        fold=pairs.fold,
        columns=pairs.extra,
        remarks=(*_repeated(pairs), *_shared_between_folds(pairs), *identical(labelled.samples)),
    )


def from_database(labelled: LabelledComparisons) -> EvalData:
    """Return all comparisons of a database's samples, and its searches with each of them left out."""
    return EvalData(
        protocol="all images of a database with one another",
        digest=_digest(labelled.samples),
        labelled=labelled,
        gallery=labelled.samples,
        probes=labelled.samples,
        remarks=labelled.remarks,
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
        digest=data_digest([f"gallery {_digest(gallery)}", f"probes {_digest(probes)}"]),
        labelled=None,
        gallery=gallery,
        probes=probes,
        remarks=tuple(remarks),
    )


def from_scores(labelled: LabelledComparisons) -> EvalData:
    """Return the data of scores that another tool made."""
    comparisons, people = labelled.comparisons, labelled.scored.people
    lines = [f"{k} {int(mated)}" for k, mated in enumerate(comparisons.mated)]
    if people:
        pairs = zip(*comparisons.known(), strict=True)
        lines = [f"{k} {people[a]}\t{people[b]}" for k, (a, b) in enumerate(pairs)]
    return EvalData("scores", data_digest(lines), labelled, remarks=labelled.remarks)


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
    warnings = []
    for where, their_images, their_people, moral in theirs:
        for kind, known, marked, how in (
            ("images", mine["images"], their_images, "by their bytes"),
            ("people", mine["people"], their_people, "by name"),
        ):
            again = len(known & marked)
            if again:
                warnings.append(
                    f"{again:,} of {len(known):,} {kind} were in the {where} already ({how}): {moral}"
                )
    return warnings


def training_marks(model: str) -> dict[str, set[str]]:
    """Return the marks of images and people that the checkpoint `model` was trained on, empty for other models.

    A checkpoint keeps them under `training` as `image_marks` and `subject_marks`, separated by spaces.
    """
    from facecli.models import checkpoint

    place = Path(model)
    training = checkpoint.read_training(place) if checkpoint.is_checkpoint(place) else {}
    marks_by_kind = {}
    for key in ("image_marks", "subject_marks"):
        value = training.get(key, "")
        marks_by_kind[key] = set(value.split() if isinstance(value, str) else value)
    return marks_by_kind


def _digest(samples: Samples, order: Sequence[str] = ()) -> str:
    """Return the digest of the data, in their order, whatever the templates are."""
    lines = [
        f"sample {k} {content if content else path} {subject}"
        for k, (path, content, subject) in enumerate(
            zip(samples.paths, samples.digests, samples.subjects, strict=True)
        )
    ]
    return data_digest([*lines, *order])


def _repeated(pairs: PairSet) -> list[str]:
    # A list may hold thousands: one sentence, where calibration names the first few lines.
    again = pairs.duplicates()
    if not again:
        return []
    line, first = again[0]
    return [
        f"{len(again):,} pairs are listed more than once, such as line {line} and line {first}: all are counted"
    ]


def _shared_between_folds(pairs: PairSet) -> list[str]:
    if pairs.fold is None:
        return []
    subjects = subjects_where_known(pairs)
    folds: dict[str, set[int]] = {}
    for a, b, k in zip(pairs.left, pairs.right, pairs.fold, strict=True):
        for path in (a, b):
            folds.setdefault(subjects[path], set()).add(int(k))
    several = sum(len(numbers) > 1 for subject, numbers in folds.items() if subject)
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
