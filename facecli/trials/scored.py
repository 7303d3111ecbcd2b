"""Scored comparisons that are read in blocks, again and again, so that there may be a hundred million of them.

A comparison is named by its position, an int64: its place in a list of pairs, or `i * N + j` for samples i < j
that are compared with one another. The people of a position, and the samples, can be asked at any time, so an
error is one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput
from facecli.hooks import Progress
from facecli.stats.bootstrap import IdentityBootstrap, NonmatedDesign
from facecli.stats.comparisons import Comparisons
from facecli.stats.cross import cross_comparisons, cross_scores
from facecli.stats.curve import ScoreCurve, ScoreHistogram
from facecli.trials.pairs import PairSet
from facecli.trials.samples import Samples

Positions = NDArray[np.int64]
Ints = NDArray[np.integer]

LISTED_AT_ONCE = 65_536
"""Listed pairs whose templates are gathered at once."""
IN_MEMORY = 8_000_000
"""Comparisons up to which the curve is made from the scores themselves, not from a histogram."""


class Block(NamedTuple):
    """Some of the comparisons: `similarity` [B], `mated` bool [B], and where they stand."""

    similarity: NDArray[np.floating]
    mated: NDArray[np.bool_]
    position: Callable[[Ints], Positions]
    """Returns the positions of comparisons counted from the beginning of the block."""


class Part(NamedTuple):
    """The comparisons among some of the people, who are numbered anew from 0."""

    n_nonmated: int
    mated: Ints
    """The person of every mated comparison."""
    design: Callable[[IdentityBootstrap], NonmatedDesign]


class Scored(Protocol):
    """The comparisons of one evaluation."""

    @property
    def comparisons(self) -> Comparisons:
        """All of them in memory."""
        ...

    @property
    def people(self) -> tuple[str, ...]:
        """Names by number, () where nobody knows who is who."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each sample."""
        ...

    @property
    def n_mated(self) -> int: ...

    @property
    def n_nonmated(self) -> int: ...

    def blocks(self) -> Iterator[Block]: ...

    def items(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the samples of comparisons, as indices into `labels`."""
        ...

    def persons(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the people of comparisons."""
        ...

    def design(self, bootstrap: IdentityBootstrap) -> NonmatedDesign: ...

    def mated_persons(self) -> Ints:
        """Return the person of every mated comparison, [n_mated]."""
        ...

    def nonmated_counts(self) -> Ints:
        """Return how many non-mated comparisons each person is in."""
        ...

    def among(self, inside: NDArray[np.bool_]) -> Part:
        """Return the comparisons of the people `inside` bool [S] with one another."""
        ...


@dataclass(frozen=True, eq=False)
class ListedScores:
    """Comparisons given one by one: `left` and `right` int [P] are their samples."""

    comparisons: Comparisons
    left: Ints
    right: Ints
    labels: tuple[str, ...]
    people: tuple[str, ...]

    @cached_property
    def n_mated(self) -> int:
        """How many are mated."""
        return int(np.count_nonzero(self.comparisons.mated))

    @property
    def n_nonmated(self) -> int:
        """How many are not."""
        return len(self.comparisons) - self.n_mated

    def blocks(self) -> Iterator[Block]:
        """Yield all comparisons at once: they are in memory anyway."""
        yield Block(self.comparisons.similarity, self.comparisons.mated, lambda k: k.astype(np.int64))

    def items(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the samples of comparisons."""
        return self.left[positions], self.right[positions]

    def persons(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the people of comparisons; raises `BadInput` where they are unknown."""
        left, right = self.comparisons.known()
        return left[positions], right[positions]

    def design(self, bootstrap: IdentityBootstrap) -> NonmatedDesign:
        """Return the denominators of FMR."""
        left, right = self.comparisons.known()
        nonmated = ~self.comparisons.mated
        return NonmatedDesign.listed(bootstrap, left[nonmated], right[nonmated])

    def mated_persons(self) -> Ints:
        """Return the person of every mated comparison."""
        return self.comparisons.known()[0][self.comparisons.mated]

    def nonmated_counts(self) -> Ints:
        """Return how many non-mated comparisons each person is in."""
        both = [side[~self.comparisons.mated] for side in self.comparisons.known()]
        return np.bincount(np.concatenate(both), minlength=len(self.people))

    def among(self, inside: NDArray[np.bool_]) -> Part:
        """Return the comparisons of the people `inside` bool [S] with one another."""
        left, right = self.comparisons.known()
        number = np.cumsum(inside) - 1
        here = inside[left] & inside[right]
        nonmated, mated = here & ~self.comparisons.mated, here & self.comparisons.mated
        first, second = number[left[nonmated]], number[right[nonmated]]
        return Part(
            int(np.count_nonzero(nonmated)),
            number[left[mated]],
            lambda bootstrap: NonmatedDesign.listed(bootstrap, first, second),
        )


@dataclass(frozen=True, eq=False)
class CrossScores:
    """Every sample compared with every other: `templates` float32 [N, D], a row of NaN for a failure.

    Scores are similarities less the smaller `strictness` of the two, so that one threshold decides for all.
    """

    templates: NDArray[np.float32]
    person: Ints
    labels: tuple[str, ...]
    people: tuple[str, ...]
    strictness: NDArray[np.float32] | None = None
    """[N], None where all are 0."""

    @cached_property
    def comparisons(self) -> Comparisons:
        """All of them in memory: 13 bytes a comparison."""
        return cross_comparisons(self.templates, self.person, self.strictness)

    @cached_property
    def _images(self) -> NDArray[np.int64]:
        return np.bincount(self.person, minlength=len(self.people))

    @property
    def n_mated(self) -> int:
        """How many are mated."""
        return int(np.sum(self._images * (self._images - 1) // 2))

    @property
    def n_nonmated(self) -> int:
        """How many are not."""
        n = len(self.labels)
        return n * (n - 1) // 2 - self.n_mated

    def blocks(self) -> Iterator[Block]:
        """Yield the comparisons of a few samples with all later ones at a time."""
        n = len(self.labels)
        for part in cross_scores(self.templates, self.person, self.strictness):
            rows = np.arange(part.start, part.stop, dtype=np.int64)
            begins = np.concatenate([[0], np.cumsum(n - 1 - rows)])

            def position(
                k: Ints, rows: NDArray[np.int64] = rows, begins: NDArray[np.int64] = begins
            ) -> Positions:
                row = np.searchsorted(begins, k, "right") - 1
                return rows[row] * (n + 1) + 1 + k - begins[row]

            yield Block(part.similarities, part.mated, position)

    def items(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the samples of comparisons."""
        i, j = np.divmod(positions, len(self.labels))
        return i, j

    def persons(self, positions: Positions) -> tuple[Ints, Ints]:
        """Return the people of comparisons."""
        i, j = self.items(positions)
        return self.person[i], self.person[j]

    def design(self, bootstrap: IdentityBootstrap) -> NonmatedDesign:
        """Return the denominators of FMR."""
        return NonmatedDesign.cross(bootstrap, self._images)

    def mated_persons(self) -> Ints:
        """Return the person of every mated comparison."""
        return np.repeat(np.arange(len(self.people)), self._images * (self._images - 1) // 2)

    def nonmated_counts(self) -> Ints:
        """Return how many non-mated comparisons each person is in."""
        return self._images * (len(self.labels) - self._images)

    def among(self, inside: NDArray[np.bool_]) -> Part:
        """Return the comparisons of the people `inside` bool [S] with one another."""
        images = self._images[inside]
        total = int(images.sum())
        return Part(
            (total * total - int(np.sum(images * images))) // 2,
            np.repeat(np.arange(images.size), images * (images - 1) // 2),
            lambda bootstrap: NonmatedDesign.cross(bootstrap, images),
        )


def listed_scores(samples: Samples, pairs: PairSet) -> ListedScores:
    """Return the comparisons that `pairs` lists, in its order, -inf where a sample failed; scored as `CrossScores`.

    People are known when the subject of every image is. Raises `BadInput` for pairs without labels, or with an
    image that is not among the samples.
    """
    try:
        left = np.array([samples.index[path] for path in pairs.left], dtype=np.int64)
        right = np.array([samples.index[path] for path in pairs.right], dtype=np.int64)
    except KeyError as error:
        raise BadInput("is in the list of pairs and not among the samples", path=error.args[0]) from error
    similarity = np.empty(len(pairs), dtype=np.float64)
    for start in range(0, len(pairs), LISTED_AT_ONCE):
        here = slice(start, start + LISTED_AT_ONCE)
        # In double precision, as `verify` compares.
        a, b = (samples.templates[rows[here]].astype(np.float64) for rows in (left, right))
        similarity[here] = np.einsum("pd,pd->p", a, b)
        if samples.strictness is not None:
            similarity[here] -= np.minimum(samples.strictness[left[here]], samples.strictness[right[here]])
    similarity[np.isnan(similarity)] = -np.inf
    subjects = np.array(samples.subjects)
    shown = subjects[np.concatenate([left, right])]
    if not (shown == "").any():
        comparisons = Comparisons.of(similarity, subjects[left].tolist(), subjects[right].tolist())
        if pairs.mated is not None and (comparisons.mated != pairs.mated).any():
            wrong = int(np.argmax(comparisons.mated != pairs.mated))
            raise BadInput(f"pair {wrong + 1} is labelled against its subjects", path=pairs.left[wrong])
        # The numbers that `Comparisons.of` gives to names.
        return ListedScores(comparisons, left, right, samples.paths, tuple(np.unique(shown).tolist()))
    if pairs.mated is None:
        raise BadInput(
            "the pairs do not say which of them are mated",
            path=pairs.root,
            hint="add the column mated, or left_subject and right_subject",
        )
    return ListedScores(Comparisons(similarity, pairs.mated), left, right, samples.paths, ())


def cross_of(samples: Samples) -> CrossScores:
    """Return the comparisons of every sample with every other, -inf where one failed: N (N - 1) / 2 of them.

    Raises `BadInput` where the subject of a sample is not known.
    """
    if "" in samples.subjects:
        raise BadInput(
            "nobody knows who is shown, so it cannot be compared with every other image",
            path=samples.paths[samples.subjects.index("")],
            hint="put photos into a folder for each person, or add the columns left_subject and right_subject",
        )
    people, person = np.unique(np.array(samples.subjects), return_inverse=True)
    return CrossScores(samples.templates, person, samples.paths, tuple(people.tolist()), samples.strictness)


def curve_of(scored: Scored, progress: Progress | None = None) -> ScoreCurve:
    """Return the score curve, exact; of more than `IN_MEMORY` comparisons to 1e-7 (see `ScoreHistogram`).

    Raises `BadInput` without mated or non-mated comparisons.
    """
    total, done = scored.n_mated + scored.n_nonmated, 0
    histogram = ScoreHistogram() if total > IN_MEMORY else None
    mated, nonmated = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for block in scored.blocks():
        if histogram is not None:
            histogram.add(block.similarity, block.mated)
        else:
            mated.append(block.similarity[block.mated])
            nonmated.append(block.similarity[~block.mated])
        done += block.mated.size
        if progress is not None:
            progress(done, total)
    if histogram is not None:
        return histogram.curve()
    return ScoreCurve.from_scores(np.concatenate(mated), np.concatenate(nonmated))
