"""Error rates by group of people at one threshold for all: does a system err more on some than on others?

A group's FMR is over the non-mated comparisons within the group, its FNMR over the mated ones: people who look
alike are mostly of one group, so comparisons across groups would hide what happens inside (NISTIR 8280). Those
across groups are shown in a row of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput, UsageError
from facecli.evaluation.figures import VERIFICATION, Figure
from facecli.files.tables import parse_table, read_bytes
from facecli.stats.bootstrap import IdentityBootstrap, MatedDesign, NonmatedDesign, rate_interval
from facecli.stats.intervals import clopper_pearson
from facecli.trials.scored import Ints, Part, Scored
from facecli.trials.tails import Tails

ACROSS = "(across groups)"
UNKNOWN = "(unknown)"
"""The group of people for whom the table says nothing."""


@dataclass(frozen=True)
class GroupRates:
    """One group: `fmr` and `fnmr` are None where it has no such comparisons.

    `ratio` of a rate is that to the lowest rate of all groups; None where that is 0 or nobody has one.
    """

    group: str
    people: int
    fmr: Figure | None
    fnmr: Figure | None
    fmr_ratio: float | None = None
    fnmr_ratio: float | None = None


def read_groups(path: str | Path, column: str) -> dict[str, str]:
    """Return the group of each subject, from a csv with the columns `subject` and `column`.

    Raises `NoSuchFile`, and `BadInput` for a bad row, with its line, or a subject of two groups.
    """
    table = parse_table(read_bytes(path), source=str(path), required=("subject", column), known=())
    if table.errors:
        raise table.in_order()[0]
    group_of: dict[str, str] = {}
    for line, row in table.rows:
        subject, group = row["subject"].strip(), row[column].strip()
        if group_of.setdefault(subject, group) != group:
            raise BadInput(
                f"line {line}: '{subject}' is of '{group_of[subject]}' and of '{group}'", path=path
            )
    return group_of


def by_people(
    scored: Scored,
    tails: Tails,
    threshold: float,
    group_of: Mapping[str, str],
    *,
    seed: int,
    replicates: int,
) -> list[GroupRates]:
    """Return the rates of each group of people at `threshold`, by name, the comparisons across groups last.

    Raises `BadInput` where people are unknown, or none of them is in `group_of`.
    """
    if not scored.people:
        raise BadInput(
            "groups of people need to know who is shown",
            hint="add the columns left_subject and right_subject, or group by a column of the pairs",
        )
    if not set(scored.people) & set(group_of):
        raise BadInput(f"no subject is in a group, such as '{scored.people[0]}'", hint="names must be equal")
    groups = [group_of.get(name, UNKNOWN) for name in scored.people]
    names, code = np.unique(np.array(groups), return_inverse=True)
    false, missed = tails.false(threshold), tails.missed(threshold)
    false_left, false_right = scored.persons(false)
    missed_person = scored.persons(missed)[0]
    rows = []
    n_within = 0
    for k, name in enumerate(names.tolist()):
        inside = code == k
        number = np.cumsum(inside) - 1
        errors = inside[false_left] & inside[false_right]
        part = scored.among(inside)
        n_within += part.n_nonmated
        rows.append(
            _group(
                name,
                int(inside.sum()),
                part,
                (number[false_left[errors]], number[false_right[errors]]),
                number[missed_person[inside[missed_person]]],
                threshold,
                seed,
                replicates,
            )
        )
    n_across = scored.n_nonmated - n_within
    if n_across:
        errors = code[false_left] != code[false_right]
        figure = _figure("fmr", int(errors.sum()), n_across, threshold, None)
        rows.append(GroupRates(ACROSS, len(scored.people), figure, None))
    return with_ratios(rows)


def by_pairs(
    scored: Scored,
    tails: Tails,
    threshold: float,
    groups: Sequence[str],
    mated: NDArray[np.bool_],
    *,
    seed: int,
    replicates: int,
) -> list[GroupRates]:
    """Return the rates of each group of listed comparisons, `groups` and `mated` [P], at `threshold`."""
    if len(groups) != mated.size:
        raise BadInput(f"{len(groups)} groups do not fit {mated.size} comparisons")
    names, code = np.unique(np.array([g.strip() for g in groups]), return_inverse=True)
    false, missed = tails.false(threshold), tails.missed(threshold)
    rows = []
    for k, name in enumerate(names.tolist()):
        here = np.flatnonzero(code == k)
        mine_false, mine_missed = false[code[false] == k], missed[code[missed] == k]
        # Who is who: one person, who has no spread, where nobody knows.
        members, left, right = np.zeros(1), np.zeros(here.size, np.int64), np.zeros(here.size, np.int64)
        false_people = [np.zeros(mine_false.size, np.int64)] * 2
        missed_people: Ints = np.zeros(mine_missed.size, np.int64)
        if scored.people:
            sides = scored.persons(here)
            members, number = np.unique(np.concatenate(sides), return_inverse=True)
            left, right = np.split(number, 2)
            false_people = [np.searchsorted(members, side) for side in scored.persons(mine_false)]
            missed_people = np.searchsorted(members, scored.persons(mine_missed)[0])
        rows.append(
            _group(
                name if name else UNKNOWN,
                members.size if scored.people else 0,
                _part(left, right, mated[here]),
                (false_people[0], false_people[1]),
                missed_people,
                threshold,
                seed,
                replicates,
            )
        )
    return with_ratios(rows)


def with_ratios(rows: Sequence[GroupRates]) -> list[GroupRates]:
    """Return the groups with the ratio of each rate to the lowest one."""
    groups = []
    lowest = {
        name: min(
            (getattr(r, name).value for r in rows if getattr(r, name) and r.group != ACROSS), default=0.0
        )
        for name in ("fmr", "fnmr")
    }
    for row in rows:
        ratios = [
            None if figure is None or not low or row.group == ACROSS else figure.value / low
            for figure, low in ((row.fmr, lowest["fmr"]), (row.fnmr, lowest["fnmr"]))
        ]
        groups.append(GroupRates(row.group, row.people, row.fmr, row.fnmr, ratios[0], ratios[1]))
    return groups


def worst_ratio(rows: Sequence[GroupRates], name: str) -> tuple[str, str, float] | None:
    """Return (worst group, best group, ratio) of `fmr` or `fnmr`; None below two groups or when the best has none.

    The bounds tell whether it can be chance: see the groups' intervals.
    """
    if name not in ("fmr", "fnmr"):
        raise UsageError(f"groups have no '{name}'")
    known = [(getattr(r, name).value, r.group) for r in rows if r.group != ACROSS and getattr(r, name)]
    if len(known) < 2 or min(known)[0] == 0:
        return None
    best, worst = min(known), max(known)
    return worst[1], best[1], worst[0] / best[0]


def _part(left: Ints, right: Ints, mated: NDArray[np.bool_]) -> Part:
    first, second = left[~mated], right[~mated]
    return Part(first.size, left[mated], lambda bootstrap: NonmatedDesign.listed(bootstrap, first, second))


def _group(
    name: str,
    people: int,
    part: Part,
    false: tuple[Ints, Ints],
    missed: Ints,
    threshold: float,
    seed: int,
    replicates: int,
) -> GroupRates:
    bootstrap = IdentityBootstrap(people, replicates=replicates, seed=seed) if people > 1 else None
    fmr = fnmr = None
    if part.n_nonmated:
        drawn = None if bootstrap is None else part.design(bootstrap).replicates(*false)
        fmr = _figure("fmr", false[0].size, part.n_nonmated, threshold, drawn)
    if part.mated.size:
        drawn = None if bootstrap is None else MatedDesign(bootstrap, part.mated).replicates(missed)
        fnmr = _figure("fnmr", missed.size, part.mated.size, threshold, drawn)
    return GroupRates(name, people, fmr, fnmr)


def _figure(
    name: str, errors: int, trials: int, threshold: float, drawn: NDArray[np.float64] | None
) -> Figure:
    exact = clopper_pearson(errors, trials)
    return Figure(
        task=VERIFICATION,
        name=name,
        at="threshold",
        value=errors / trials,
        interval=exact if drawn is None else rate_interval(drawn, errors, trials),
        binomial=exact,
        errors=errors,
        trials=trials,
        threshold=threshold,
    )
