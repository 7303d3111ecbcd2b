"""Pairs of images to compare: from csv, LFW's pairs.txt or people with their images.

A bad row never ends the reading: it becomes an error with its line number, and the rest goes on. What makes a
file useless as a whole (no such column, nothing in it, an unfinished quote) raises `BadInput`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput
from facecli.files.tables import SUBJECTS, at_line, decode, mated_label, parse_table, read_bytes


@dataclass(frozen=True, eq=False)
class PairSet:
    """P pairs of image files, in the order of their source.

    `left` and `right` are paths as they were written, relative to `root`. `mated` is bool [P], None when the
    source does not say. `extra` holds the other columns of a csv by name, `lines` the line of each pair in the
    source (1 is the first, 0 where there is none), `fold` the fold of LFW's list. `errors` are the rows left
    out, each with its line.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    root: Path
    mated: NDArray[np.bool_] | None = None
    left_subject: tuple[str, ...] | None = None
    right_subject: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fold: NDArray[np.int32] | None = None
    lines: tuple[int, ...] = ()
    errors: tuple[BadInput, ...] = ()

    def __len__(self) -> int:
        return len(self.left)

    @property
    def paths(self) -> list[tuple[Path, Path]]:
        """The pairs as paths that can be opened."""
        return [(self.root / a, self.root / b) for a, b in zip(self.left, self.right, strict=True)]

    def duplicates(self) -> list[tuple[int, int]]:
        """Return (line, line of its first appearance) of each pair that was listed before, either way round."""
        first: dict[tuple[str, str], int] = {}
        repeated = []
        for a, b, line in zip(self.left, self.right, self.lines, strict=True):
            key = (a, b) if a <= b else (b, a)
            if key in first:
                repeated.append((line, first[key]))
            else:
                first[key] = line
        return repeated


def read_pairs(path: str | Path, *, root: Path | None = None) -> PairSet:
    """Read a list of pairs: LFW's format when the first line is one or two numbers, csv otherwise.

    `root` is the folder that paths are relative to, the file's own by default. Raises `NoSuchFile`, `BadInput`.
    """
    return parse_pairs(
        read_bytes(path), source=str(path), root=root if root is not None else Path(path).parent
    )


def parse_pairs(data: bytes, *, source: str, root: Path) -> PairSet:
    """Return the pairs of a list in either format; see `read_pairs`."""
    if re.match(rb"(?:\xef\xbb\xbf)?\s*\d+(?:[ \t]+\d+)?[ \t]*\r?\n", data):
        return parse_lfw(data, source=source, root=root)
    return parse_csv(data, source=source, root=root)


def parse_csv(data: bytes, *, source: str, root: Path) -> PairSet:
    """Return the pairs of a csv with the columns `left,right[,mated][,left_subject,right_subject][,...]`.

    See `table.parse_table` for the form and `table.mated_label` for the words of `mated`. Where only the
    subjects are given, equal subjects are mated; where both are, they must agree. `source` is what errors name.
    """
    known = ("left", "right", "mated", *SUBJECTS)
    table = parse_table(data, source=source, required=known[:2], known=known[2:])
    labelled, named = "mated" in table.columns, SUBJECTS[0] in table.columns
    rows: list[tuple[int, dict[str, str]]] = []
    labels: list[bool] = []
    for line, row in table.rows:
        empty = [name for name in ("left", "right") if not row[name].strip()]
        if empty:
            table.refuse(line, f"the column '{empty[0]}' is empty")
            continue
        try:
            if labelled or named:
                labels.append(mated_label(row, source, line))
        except BadInput as error:
            table.errors.append((line, error))
            continue
        rows.append((line, row))
    if not rows:
        raise table.nothing()

    def column(name: str) -> tuple[str, ...]:
        return tuple(row[name] for _, row in rows)

    return PairSet(
        left=column("left"),
        right=column("right"),
        root=root,
        mated=np.array(labels, dtype=bool) if labels else None,
        left_subject=tuple(s.strip() for s in column("left_subject")) if named else None,
        right_subject=tuple(s.strip() for s in column("right_subject")) if named else None,
        extra={name: column(name) for name in table.columns if name not in known},
        lines=tuple(line for line, _ in rows),
        errors=table.in_order(),
    )


def parse_lfw(data: bytes, *, source: str, root: Path, suffix: str = ".jpg") -> PairSet:
    """Return the pairs of LFW's `pairs.txt` (folds and pairs a fold) or `pairsDev*.txt` (pairs of each kind).

    `NAME 1 4` is `NAME/NAME_0001.jpg` with `NAME/NAME_0004.jpg`; `NAME 1 OTHER 2` is of two people. Every fold
    lists its mated pairs, then as many non-mated ones; the fold number counts from 0.
    """
    lines = [(k, line.split()) for k, line in enumerate(decode(data, source).split("\n"), 1) if line.strip()]
    if not lines:
        raise BadInput("is empty", path=source, hint="a list of pairs starts with the number of folds")
    head = [int(word) for word in lines[0][1] if _is_count(word)]
    if len(head) != len(lines[0][1]) or len(head) not in (1, 2) or 0 in head:
        raise at_line(source, lines[0][0], "does not start with the numbers of folds and pairs")
    folds, size = head if len(head) == 2 else (1, head[0])
    pairs, errors = [], []
    for position, (line, words) in enumerate(lines[1:]):
        expected = 3 if position % (2 * size) < size else 4
        numbers = words[1::2] if len(words) == 4 else words[1:]
        if len(words) != expected or not all(map(_is_count, numbers)):
            shape = "NAME 1 2" if expected == 3 else "NAME 1 OTHER 2"
            errors.append(at_line(source, line, f"'{' '.join(words)}' is not of the form '{shape}'"))
            continue
        names = (words[0], words[0] if expected == 3 else words[2])
        paths = [f"{n}/{n}_{int(k):04d}{suffix}" for n, k in zip(names, numbers, strict=True)]
        pairs.append((*paths, *names, position // (2 * size), line))
    if len(lines) - 1 != 2 * folds * size:
        what = f"has {len(lines) - 1} pairs where line 1 announces {2 * folds * size}"
        errors.append(at_line(source, lines[-1][0], what))
    if not pairs:
        raise BadInput(f"no row can be used ({errors[0].what})", path=source)
    left, right, left_subject, right_subject, fold, numbers_of_lines = zip(*pairs, strict=True)
    return PairSet(
        left=left,
        right=right,
        root=root,
        mated=np.array([a == b for a, b in zip(left_subject, right_subject, strict=True)]),
        left_subject=left_subject,
        right_subject=right_subject,
        fold=np.array(fold, dtype=np.int32),
        lines=numbers_of_lines,
        errors=tuple(errors),
    )


def from_people(
    samples: Sequence[tuple[str, str]], *, root: Path, nonmated: int | None = None, seed: int = 0
) -> PairSet:
    """Return all mated pairs of `samples` (subject, path) and all non-mated ones, or `nonmated` drawn at random.

    Raises `BadInput` when there is no pair at all.
    """
    subjects, paths = [s for s, _ in samples], [p for _, p in samples]
    _, codes = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    if nonmated is None:
        i, j = np.triu_indices(len(samples), 1)
    else:
        i, j = np.concatenate([_mated(codes), _nonmated(codes, nonmated, seed)], axis=1)
        order = np.lexsort((j, i))
        i, j = i[order], j[order]
    if i.size == 0:
        raise BadInput("there are no pairs", path=root, hint="two images or more are needed")
    return PairSet(
        left=tuple(paths[k] for k in i),
        right=tuple(paths[k] for k in j),
        root=root,
        mated=codes[i] == codes[j],
        left_subject=tuple(subjects[k] for k in i),
        right_subject=tuple(subjects[k] for k in j),
        lines=(0,) * i.size,
    )


def _mated(codes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return int [2, n]: all i < j of samples whose people have equal `codes`."""
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    pairs = [group[np.array(np.triu_indices(group.size, 1))] for group in groups]
    return np.concatenate(pairs, axis=1)


def _nonmated(codes: NDArray[np.integer], wanted: int, seed: int) -> NDArray[np.integer]:
    """Return int [2, n]: `wanted` different i < j of samples of different people at random, or all there are.

    The pairs are numbered, each sample's with all later samples of later people, and never listed.
    """
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], codes[order], "right")
    before = np.concatenate([[0], np.cumsum(codes.size - ends)])
    total = int(before[-1])
    numbers = np.arange(total) if wanted >= total else _drawn(total, wanted, np.random.default_rng(seed))
    first = np.searchsorted(before, numbers, "right") - 1
    second = ends[first] + numbers - before[first]
    return np.sort(order[np.array([first, second])], axis=0)


def _drawn(total: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `wanted` different numbers below `total`, ascending."""
    if wanted > total // 2:
        return np.setdiff1d(np.arange(total), _drawn(total, total - wanted, rng), assume_unique=True)
    numbers = np.empty(0, np.int64)
    while numbers.size < wanted:
        more = rng.integers(0, total, wanted - numbers.size)
        numbers = np.unique(np.concatenate([numbers, more]))
    return numbers


def images(pairs: PairSet) -> list[str]:
    """Return each image of the pairs once, as written, in order of appearance."""
    return list(dict.fromkeys(p for pair in zip(pairs.left, pairs.right, strict=True) for p in pair))


def subjects_of(pairs: PairSet) -> dict[str, str]:
    """Return the subject of each image of the pairs: from the subject columns, else its folder's name.

    Raises `BadInput` for an image said to be of two subjects, or one without a folder to name it.
    """
    subjects: dict[str, str] = {}
    if pairs.left_subject is None or pairs.right_subject is None:
        for path in images(pairs):
            subjects[path] = Path(path).parent.name
            if not subjects[path]:
                raise BadInput(
                    "has no folder that names its subject",
                    path=path,
                    hint="add the columns left_subject and right_subject",
                )
        return subjects
    named = zip((*pairs.left, *pairs.right), (*pairs.left_subject, *pairs.right_subject), strict=True)
    for path, subject in named:
        if subjects.setdefault(path, subject) != subject:
            raise BadInput(f"is said to show '{subjects[path]}' and '{subject}'", path=path)
    return subjects


def _is_count(word: str) -> bool:
    return word.isdecimal() and len(word) < 10
