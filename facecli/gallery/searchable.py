"""What recognition needs of enrolled people, wherever their templates are kept.

`Gallery` keeps them in a folder; what has these members stands in for it: a server, another index, a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """A subject that a probe was compared with, by its most similar sample. `rank` counts from 1."""

    rank: int
    subject: str
    path: str
    """Of the sample, relative to the database, printable."""
    similarity: float
    strictness: float = 0.0
    """Of the sample's face: by how much a similarity to one of no better quality must exceed the threshold."""


@dataclass(frozen=True)
class Owned:
    """The templates of all samples and whom they show, at one moment.

    A row that samples of several subjects show comes once for each of them.
    """

    templates: NDArray[np.float32]
    """[N, D], unit rows, perhaps mapped from a file; some may be nobody's."""
    rows: NDArray[np.int64]
    """[n]: rows of the templates that show somebody."""
    people: NDArray[np.int64]
    """[n]: whom they show, numbered in the order of the subjects' names."""
    path_of: Callable[[int], str]
    """Returns the path, printable, of the first sample that the k-th of `rows` stands for."""
    strictness: NDArray[np.float32] | None = None
    """[n] of their faces, None where all are 0."""


class Searchable(Protocol):
    """People who are enrolled, to be searched for whom a probe shows."""

    @property
    def root(self) -> Path:
        """What the paths of samples are relative to; errors name it."""

    @property
    def embedder_id(self) -> str:
        """What made the templates: only its own probes can be compared with them."""

    @property
    def n_samples(self) -> int:
        """How many photos have a template."""

    @property
    def n_subjects(self) -> int:
        """How many subjects have at least one template."""

    def search(self, probes: NDArray[np.float32], top: int) -> list[list[Candidate]]:
        """Return, for each of `probes`, float32 [M, D], unit rows, the `top` most similar subjects, best first.

        Fewer where there are fewer. A subject's similarity is that of its best sample.
        """

    def owned(self) -> Owned:
        """Return all templates and whom they show, for comparing those enrolled with each other."""
