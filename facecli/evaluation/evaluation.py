"""An evaluation as a whole: figures, groups, the worst of it, the comparison with another system, the signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facecli import __version__
from facecli.calibration.report import WRONG_WAY_ROUND
from facecli.config import DEFAULT_REPLICATES
from facecli.errors import UsageError
from facecli.evaluation.compare import Difference, System, compare
from facecli.evaluation.data import EvalData, check_column
from facecli.evaluation.figures import FEW_PEOPLE, IDENTIFICATION, VERIFICATION, Figure, Headline
from facecli.evaluation.groups import GroupRates, by_pairs, by_people, read_groups
from facecli.evaluation.identification import (
    Identification,
    evaluate_database,
    evaluate_probes,
    search_resampling,
)
from facecli.evaluation.verification import TARGETS, Verification, evaluate, resampling_of
from facecli.evaluation.worst_cases import PersonErrors, WorstPair, people_with_errors, worst_pairs
from facecli.hooks import Progress
from facecli.trials.scored import ListedScores


@dataclass(frozen=True)
class Signature:
    """What the figures are of, so that two of them can be told to be comparable: the same data, the same draws."""

    embedder_id: str
    data_digest: str
    protocol: str
    people: int
    samples: int
    failed_samples: int
    mated: int
    nonmated: int
    mated_searches: int
    nonmated_searches: int
    threshold: float | None
    seed: int
    replicates: int
    facecli_version: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that `facecli eval` shows; `differences` are against the system `other_id`, "" without one."""

    data: EvalData
    verification: Verification | None
    identification: Identification | None
    groups: tuple[GroupRates, ...]
    group_by: str
    pairs: tuple[WorstPair, ...]
    people: tuple[PersonErrors, ...]
    warnings: tuple[str, ...]
    signature: Signature
    differences: tuple[Difference, ...] = ()
    other_id: str = ""

    @property
    def figures(self) -> list[Figure]:
        """All figures, verification first."""
        parts = (self.verification, self.identification)
        return [figure for part in parts if part is not None for figure in part.figures]

    @property
    def headlines(self) -> tuple[Headline, ...]:
        """The figures with errors behind them."""
        parts = (self.verification, self.identification)
        return tuple(h for part in parts if part is not None for h in part.headlines)

    @property
    def system(self) -> System:
        """What a comparison needs."""
        return System(self.signature.embedder_id, self.signature.data_digest, self.headlines)


def run(
    data: EvalData,
    *,
    embedder_id: str,
    threshold: float | None = None,
    targets: Sequence[float] = TARGETS,
    group_by: str = "",
    groups_file: Path | None = None,
    other: System | None = None,
    remarks: Sequence[str] = (),
    seed: int = 0,
    replicates: int = DEFAULT_REPLICATES,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate `data`; the same input and seed give the same result.

    `threshold` is the one in force. `group_by` is a column of the pairs or, with `groups_file`, of that csv by
    subject. Raises `BadInput` for data without mated or non-mated comparisons, and what `compare` raises.
    """
    verification = identification = None
    if data.labelled is not None:
        verification = evaluate(
            data.labelled.scored,
            threshold=threshold,
            targets=targets,
            seed=seed,
            replicates=replicates,
            fold=data.fold,
            progress=progress,
        )
    if data.gallery is not None and data.probes is not None:
        shared = {
            "threshold": threshold,
            "seed": seed,
            "replicates": replicates,
            "progress": progress,
        }
        if data.gallery is data.probes:
            identification = evaluate_database(data.gallery, **shared)  # type: ignore[arg-type]
        else:
            identification = evaluate_probes(data.gallery, data.probes, **shared)  # type: ignore[arg-type]
    signature = _signature(data, verification, identification, embedder_id, threshold, seed, replicates)
    groups = _groups(data, verification, group_by, groups_file, seed, replicates)
    evaluation = Evaluation(
        data=data,
        verification=verification,
        identification=identification,
        groups=tuple(groups),
        group_by=group_by,
        pairs=() if verification is None else tuple(worst_pairs(verification)),
        people=() if verification is None else tuple(people_with_errors(verification)),
        warnings=(*remarks, *data.remarks, *_doubts(signature, verification, identification)),
        signature=signature,
    )
    return evaluation if other is None else compared(evaluation, other)


def compared(this: Evaluation, other: System) -> Evaluation:
    """Return the evaluation with its differences from `other`; raises what `compare` raises."""
    signature, identification = this.signature, this.identification
    resampling = {}
    if this.verification is not None:
        resampling[VERIFICATION] = resampling_of(
            this.verification.scored, signature.seed, signature.replicates
        )
    if identification is not None:
        resampling[IDENTIFICATION] = search_resampling(
            identification.person[identification.nonmated],
            identification.person[identification.mated],
            len(identification.people),
            signature.seed,
            signature.replicates,
        )
    differences = compare(this.system, other, resampling)
    return replace(this, differences=differences, other_id=other.embedder_id)


def _groups(
    data: EvalData,
    verification: Verification | None,
    column: str,
    file: Path | None,
    seed: int,
    replicates: int,
) -> list[GroupRates]:
    if not column:
        if file is not None:
            raise UsageError(
                "a table of subjects groups nobody by itself",
                path=file,
                hint="name the column that says the group",
                advice="name_group",
            )
        return []
    if verification is None:
        raise UsageError(
            "groups need comparisons", hint="a search of a gallery has none", advice="group_comparisons"
        )
    if file is not None:
        group_of = read_groups(file, column)
        return by_people(
            verification.scored,
            verification.tails,
            verification.shared,
            group_of,
            seed=seed,
            replicates=replicates,
        )
    check_column(column, data.columns)
    if not isinstance(verification.scored, ListedScores):
        raise UsageError(
            "only listed pairs have columns",
            hint="group people by a table of subjects",
            advice="group_people",
        )
    mated = verification.scored.comparisons.mated
    return by_pairs(
        verification.scored,
        verification.tails,
        verification.shared,
        data.columns[column],
        mated,
        seed=seed,
        replicates=replicates,
    )


def _signature(
    data: EvalData,
    verification: Verification | None,
    identification: Identification | None,
    embedder_id: str,
    threshold: float | None,
    seed: int,
    replicates: int,
) -> Signature:
    subjects = {s for part in data.parts for s in part.subjects if s}
    people = len(subjects)
    if verification is not None and not data.parts:
        people = len(verification.scored.people)
    return Signature(
        embedder_id=embedder_id,
        data_digest=data.digest,
        protocol=data.protocol,
        people=people,
        samples=sum(len(part) for part in data.parts),
        failed_samples=sum(int(np.isnan(part.templates).any(axis=1).sum()) for part in data.parts),
        mated=0 if verification is None else verification.curve.n_mated,
        nonmated=0 if verification is None else verification.curve.n_nonmated,
        mated_searches=0 if identification is None else int(identification.mated.size),
        nonmated_searches=0 if identification is None else int(identification.nonmated.size),
        threshold=threshold,
        seed=seed,
        replicates=replicates,
        facecli_version=__version__,
    )


def _doubts(
    signature: Signature, verification: Verification | None, identification: Identification | None
) -> list[str]:
    doubts = []
    if verification is not None and verification.curve.auc() < 0.5:
        doubts.append(WRONG_WAY_ROUND)
    if verification is not None and not verification.scored.people:
        doubts.append(
            "nobody says who is who, so the intervals take comparisons as independent and are too narrow if"
            " people take part more than once (columns left_subject and right_subject cure this)"
        )
    elif signature.people < FEW_PEOPLE:
        doubts.append(
            f"only {signature.people} people: the spread between people is hardly known,"
            f" so the intervals are too narrow below about {FEW_PEOPLE}"
        )
    # That a small set says nothing of very low rates goes without saying.
    lacking = [] if verification is None else [t for t in verification.unsupported if t >= 1e-3]
    if verification is not None and lacking:
        wanted = ", ".join(f"{t:g}" for t in lacking)
        doubts.append(
            f"{verification.curve.n_nonmated:,} non-mated comparisons cannot support an FMR of {wanted}"
            " (3 / FMR are needed): left out"
        )
    if identification is not None and identification.unsupported:
        wanted = ", ".join(f"{t:g}" for t in identification.unsupported)
        doubts.append(
            f"{identification.nonmated.size:,} searches by strangers cannot support an FPIR of {wanted}"
            " (3 / FPIR are needed): left out"
        )
    return doubts
