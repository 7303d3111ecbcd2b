"""The tasks on labelled data: choose thresholds with their error rates, and count how often a system errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecli.api.rule import FilePath, rule_of
from facecli.calibration.calibration import Calibration
from facecli.calibration.files import install as install_calibration
from facecli.calibration.fit import calibrate as fit
from facecli.config import DEFAULT_FACES, DEFAULT_REPLICATES, default_user_dir
from facecli.errors import NoCalibration, UsageError
from facecli.evaluation import data
from facecli.evaluation import evaluation as system
from facecli.evaluation.records import records
from facecli.templates.embedder import Embedder
from facecli.trials.database import samples_of_people
from facecli.trials.labelled import (
    LabelledComparisons,
    check_pairs,
    check_targets,
    of_database,
    of_pairs,
    of_scores,
)
from facecli.trials.pairs import read_pairs
from facecli.trials.score_table import read_scores

UNKNOWN = "unknown"
"""The embedder id of scores that nobody says who made: no embedder accepts such a calibration."""


class Evaluation(system.Evaluation):
    """How often a system errs: `figures` with their intervals, `groups`, the worst `pairs`, `warnings`, `signature`."""

    def records(self) -> list[dict[str, Any]]:
        """Return what `eval` prints: a record a figure, then groups, errors and warnings; the signature is the last."""
        return list(records(self))


def calibrate(
    *,
    pairs: FilePath | None = None,
    db: FilePath | None = None,
    scores: FilePath | None = None,
    cross: bool = False,
    root: FilePath | None = None,
    nonmated: int | None = None,
    targets: Sequence[float] = (),
    embedder: Embedder | None = None,
    install: bool = False,
    description: str = "",
    notice: str = "",
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
) -> Calibration:
    """Choose thresholds on one of: the list `pairs`, the photos of the people of `db`, or the table `scores`.

    `pairs` is a csv of left,right,mated or LFW's pairs.txt, its paths relative to `root` (its own folder by default);
    with `cross` all its images are compared with one another. Of the comparisons of different people in `db`,
    `nonmated` are drawn at random. `scores` is a csv of similarity,mated that any tool made, of no embedder.

    The calibration is handed to `verify` and `identify`, or with `install` kept for them for this user. Raises
    `NoCalibration` where the data cannot support one of the false match rates `targets`, `BadInput`, `UsageError`.
    """
    if scores is not None:
        _only_scores(pairs, db, embedder)
        labelled, embedder_id, lowest = of_scores(read_scores(str(scores)), description), UNKNOWN, 0.0
        check_targets(labelled.scored, targets, str(scores))
        if install:
            raise UsageError("nobody says which embedder made the scores, so their calibration has no place")
    else:
        chosen = embedder if embedder is not None else Embedder()
        embedder_id, lowest = chosen.id, chosen.lowest_quality
        labelled = Data(pairs, db, cross, root, nonmated).compared(
            chosen, targets=targets, seed=seed, description=description
        )
    calibration = fit(
        labelled.comparisons,
        labelled.provenance,
        embedder_id=embedder_id,
        targets=targets,
        command="facecli.calibrate",
        notice=notice,
        min_quality=lowest,
        seed=seed,
        replicates=replicates,
    )
    if install:
        install_calibration(calibration, default_user_dir())
    return calibration


def evaluate(
    *,
    pairs: FilePath | None = None,
    db: FilePath | None = None,
    scores: FilePath | None = None,
    cross: bool = False,
    root: FilePath | None = None,
    embedder: Embedder | None = None,
    threshold: float | None = None,
    calibration: Calibration | FilePath | None = None,
    group_by: str = "",
    subjects: FilePath | None = None,
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
) -> Evaluation:
    """Count the errors on labelled data, named as in `calibrate`: of `db`, also those of searches, leaving one out.

    The threshold in force is `threshold`, else that of `calibration`, else of the embedder's own; without one there
    are figures at fixed rates only. `group_by` is a column of the pairs or, with `subjects`, of that csv by subject.
    `Evaluation.records()` is what the command prints. Raises `BadInput`, `UsageError`.
    """
    remarks: list[str] = []
    if scores is not None:
        _only_scores(pairs, db, embedder)
        evaluated, embedder_id = data.from_scores(of_scores(read_scores(str(scores)))), "scores"
    else:
        chosen = embedder if embedder is not None else Embedder()
        embedder_id = chosen.id
        labelled = Data(pairs, db, cross, root).compared(chosen)
        evaluated = data.from_pairs(labelled) if db is None else data.from_database(labelled)
        in_force = None
        try:
            rule = rule_of(chosen, threshold=threshold, calibration=calibration)
            threshold, in_force = rule.threshold, rule.calibration
        except NoCalibration:
            # Figures at fixed rates need none.
            pass
        trained_on = data.training_marks(str(Path(chosen.spec.weights).parent))
        remarks = data.seen_before(evaluated, in_force, trained_on)
    evaluation = system.run(
        evaluated,
        embedder_id=embedder_id,
        threshold=threshold,
        group_by=group_by,
        groups_file=None if subjects is None else Path(subjects),
        remarks=remarks,
        seed=seed,
        replicates=replicates,
    )
    return Evaluation(**vars(evaluation))


@dataclass(frozen=True)
class Data:
    """What comparisons are made of; the fields are parameters of `calibrate`."""

    pairs: FilePath | None
    db: FilePath | None
    cross: bool
    root: FilePath | None
    nonmated: int | None = None

    def compared(
        self, embedder: Embedder, *, targets: Sequence[float] = (), seed: int = 0, description: str = ""
    ) -> LabelledComparisons:
        """Return the comparisons; what is wrong with a list is raised before the first photo is embedded."""
        if (self.pairs is None) == (self.db is None):
            raise UsageError(
                "there is nothing to compare, or more than one thing", hint="give pairs, db or scores"
            )
        if self.db is not None:
            samples, folder = samples_of_people(
                Path(self.db), embedder.choosing(DEFAULT_FACES), cache_dir=embedder.cache_dir
            )
            labelled = of_database(
                samples, folder, nonmated=self.nonmated, seed=seed, description=description
            )
            check_targets(labelled.scored, targets, str(self.db))
            return labelled
        listed = read_pairs(str(self.pairs), root=None if self.root is None else Path(self.root))
        check_pairs(listed, targets, str(self.pairs), every=self.cross)
        return of_pairs(embedder, listed, every=self.cross, description=description)


def _only_scores(pairs: FilePath | None, db: FilePath | None, embedder: Embedder | None) -> None:
    if pairs is not None or db is not None or embedder is not None:
        raise UsageError("scores are compared already", hint="leave out pairs, db and embedder")
