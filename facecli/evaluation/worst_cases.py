"""Where errors gather: the pairs that went worst, and the people who attract or suffer most of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facecli.evaluation.verification import WORST, Verification
from facecli.trials.scored import Positions

FALSE_MATCH, FALSE_NON_MATCH = "false match", "false non-match"


@dataclass(frozen=True)
class WorstPair:
    """A comparison at the wrong end: non-mated and alike (`false match`), or mated and unlike.

    `error` says whether it is one at the shared threshold. Subjects are "" where nobody knows them.
    """

    kind: str
    left: str
    right: str
    left_subject: str
    right_subject: str
    similarity: float
    error: bool


@dataclass(frozen=True)
class PersonErrors:
    """The errors of one person at the shared threshold, of `n_mated` and `n_nonmated` comparisons they are in.

    A false match counts for both of its people.
    """

    subject: str
    false_matches: int
    n_nonmated: int
    misses: int
    n_mated: int


def worst_pairs(verification: Verification, count: int = WORST) -> list[WorstPair]:
    """Return up to `count` non-mated pairs of the highest similarity, then mated ones of the lowest.

    Failed comparisons have no similarity; they are listed as failures.
    """
    tails = verification.tails
    alike = np.argsort(-tails.nonmated_similarity, kind="stable")[:count]
    unlike = np.argsort(tails.mated_similarity, kind="stable")
    unlike = unlike[tails.mated_similarity[unlike] > -np.inf][:count]
    pairs = _named(
        FALSE_MATCH, verification, tails.nonmated[alike], tails.nonmated_similarity[alike].tolist()
    )
    return pairs + _named(
        FALSE_NON_MATCH, verification, tails.mated[unlike], tails.mated_similarity[unlike].tolist()
    )


def people_with_errors(verification: Verification, count: int = WORST) -> list[PersonErrors]:
    """Return up to `count` people with the most false matches, then those with the most misses who are not yet there.

    Empty where people are unknown.
    """
    scored, size = verification.scored, len(verification.scored.people)
    if not size:
        return []
    left, right = scored.persons(verification.tails.false(verification.shared))
    false = np.bincount(np.concatenate([left, right]), minlength=size)
    missed = np.bincount(scored.persons(verification.tails.missed(verification.shared))[0], minlength=size)
    mated = np.bincount(scored.mated_persons(), minlength=size)
    nonmated = scored.nonmated_counts()
    by_false = [int(k) for k in np.argsort(-false, kind="stable")[:count] if false[k]]
    by_missed = [int(k) for k in np.argsort(-missed, kind="stable")[:count] if missed[k]]
    return [
        PersonErrors(scored.people[k], int(false[k]), int(nonmated[k]), int(missed[k]), int(mated[k]))
        for k in dict.fromkeys([*by_false, *by_missed])
    ]


def _named(
    kind: str, verification: Verification, positions: Positions, similarities: list[float]
) -> list[WorstPair]:
    scored = verification.scored
    left, right = scored.items(positions)
    people = [("", "")] * len(positions)
    if scored.people:
        a, b = scored.persons(positions)
        people = [(scored.people[i], scored.people[j]) for i, j in zip(a, b, strict=True)]
    return [
        WorstPair(
            kind=kind,
            left=scored.labels[i],
            right=scored.labels[j],
            left_subject=names[0],
            right_subject=names[1],
            similarity=similarity,
            error=(similarity >= verification.shared) == (kind == FALSE_MATCH),
        )
        for i, j, names, similarity in zip(left, right, people, similarities, strict=True)
    ]
