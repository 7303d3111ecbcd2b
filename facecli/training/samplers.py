"""Samplers: which images make up each batch of an epoch.

A sampler is asked for an epoch and returns the whole list of batches, int64 [B] image numbers each. The list
depends on the seed and the epoch alone, so a resumed run meets the batches it would have met, and every process
of a run knows the joint batch and takes its own part with `shard`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facecli.errors import BadInput, UsageError

Ints = NDArray[np.int64]


class Sampler(Protocol):
    """What training asks of a sampler."""

    def epoch(self, number: int) -> list[Ints]:
        """Return the batches of epoch `number`."""


class PeopleTimesImages:
    """P people with K images each in every batch, the people of a batch all different.

    An epoch shows every image once or more: each person's images are shuffled and dealt in hands of K, the last
    hand filled up from the same person. A person with fewer than K images is repeated within the hand; one with a
    single image is paired with itself, and only augmentation makes the two differ. The last batch is filled up
    with hands of other people, so that all have P x K images.
    """

    def __init__(self, labels: Sequence[int] | Ints, people: int, images: int, *, seed: int = 0) -> None:
        """Take the label of each image. Raises `UsageError` where the numbers do not fit the labels."""
        if people < 2 or images < 1:
            raise UsageError(
                f"batches of {people} people x {images} images", hint="2 people and 1 image are the least"
            )
        codes = np.unique(np.asarray(labels), return_inverse=True)[1]
        self._members = [np.flatnonzero(codes == c) for c in range(codes.max(initial=-1) + 1)]
        if len(self._members) < people:
            raise UsageError(
                f"batches of {people} people cannot be made of {len(self._members)}",
                hint="lower the people in a batch, or train on more people",
            )
        self.people, self.images, self.seed = people, images, seed

    def epoch(self, number: int) -> list[Ints]:
        rng = np.random.default_rng((self.seed, number))
        hands = [self._hands(members, rng) for members in self._members]
        left = np.array([len(h) for h in hands])
        batches = []
        while left.max() > 0:
            chosen = self._choose(left, rng)
            batch = []
            for person in chosen:
                # A person who has been dealt out already only helps to fill the last batch.
                own = hands[person] if hands[person] else self._hands(self._members[person], rng)
                batch.append(own.pop())
                left[person] = max(0, left[person] - 1)
            batches.append(np.concatenate(batch))
        return batches

    def _choose(self, left: Ints, rng: np.random.Generator) -> Ints:
        """Return P different people, those with the most hands left by chance first."""
        # Drawn in proportion to what is left, so that people run out at the same time (Efraimidis and Spirakis).
        keys = rng.random(left.size) ** (1 / np.maximum(left, 1e-3))
        return np.argsort(-keys, kind="stable")[: self.people]

    def _hands(self, members: Ints, rng: np.random.Generator) -> list[Ints]:
        order = rng.permutation(members)
        missing = -order.size % self.images
        if order.size < self.images:
            filler = order[np.arange(missing) % order.size]
        else:
            filler = rng.choice(order[: order.size - order.size % self.images], missing, replace=False)
        return list(np.concatenate([order, filler]).reshape(-1, self.images))


class Shuffled:
    """All images once an epoch in random order; the last batch is filled up from the beginning of the order."""

    def __init__(self, images: int, batch: int, *, seed: int = 0) -> None:
        if batch < 1 or images < 1:
            raise UsageError(f"batches of {batch} images cannot be made of {images}")
        self.images, self.batch, self.seed = images, batch, seed

    def epoch(self, number: int) -> list[Ints]:
        order = np.random.default_rng((self.seed, number)).permutation(self.images)
        count = math.ceil(self.images / self.batch)
        return list(np.resize(order, count * self.batch).reshape(count, self.batch))


class RandomPairs:
    """The classical siamese diet: `batch` / 2 pairs drawn blindly, half of them mated.

    A batch lists the left images, then the right ones, as `miners.listed_pairs` expects. An epoch has as many
    pairs as there are images.
    """

    def __init__(self, labels: Sequence[int] | Ints, batch: int, *, seed: int = 0) -> None:
        self._draw = _Draw(labels)
        self.pairs, self.seed = max(1, batch // 2), seed

    def epoch(self, number: int) -> list[Ints]:
        rng = np.random.default_rng((self.seed, number))
        batches = []
        for _ in range(math.ceil(self._draw.images / self.pairs)):
            mated = np.arange(self.pairs) % 2 == 0
            left = np.where(
                mated, self._draw.with_mates(rng, self.pairs), rng.integers(0, self._draw.images, self.pairs)
            )
            right = np.where(mated, self._draw.mates(left, rng), self._draw.others(left, rng))
            batches.append(np.concatenate([left, right]))
        return batches


class RandomTriplets:
    """`batch` / 3 triplets drawn blindly: an anchor, another image of its person, an image of somebody else.

    A batch lists anchors, positives, negatives, as `miners.listed_triplets` expects. An epoch has as many triplets
    as there are images.
    """

    def __init__(self, labels: Sequence[int] | Ints, batch: int, *, seed: int = 0) -> None:
        self._draw = _Draw(labels)
        self.triplets, self.seed = max(1, batch // 3), seed

    def epoch(self, number: int) -> list[Ints]:
        rng = np.random.default_rng((self.seed, number))
        batches = []
        for _ in range(math.ceil(self._draw.images / self.triplets)):
            anchor = self._draw.with_mates(rng, self.triplets)
            batches.append(
                np.concatenate([anchor, self._draw.mates(anchor, rng), self._draw.others(anchor, rng)])
            )
        return batches


def shard(batch: Ints, rank: int, world: int) -> Ints:
    """Return the part of a joint batch that process `rank` of `world` computes: parts in order make the whole.

    Raises `UsageError` for a batch that cannot be divided equally.
    """
    if len(batch) % world:
        raise UsageError(
            f"a batch of {len(batch)} images cannot be shared by {world} processes",
            hint="make the batch a multiple of the number of processes",
        )
    size = len(batch) // world
    return batch[rank * size : (rank + 1) * size]


class _Draw:
    """Draws images with, of and not of a person."""

    def __init__(self, labels: Sequence[int] | Ints) -> None:
        self.codes = np.unique(np.asarray(labels), return_inverse=True)[1]
        self.images = self.codes.size
        # Images sorted by person: a person is a run of `size` from `start`.
        self.order = np.argsort(self.codes, kind="stable")
        self.place = np.empty(self.images, np.int64)
        self.place[self.order] = np.arange(self.images)
        self.size = np.bincount(self.codes)
        self.start = np.cumsum(self.size) - self.size
        self.paired = np.flatnonzero(self.size[self.codes] > 1)
        if self.paired.size == 0:
            raise BadInput("no subject has two images", hint="pairs of one subject are needed to learn from")
        if self.size.size < 2:
            raise BadInput("all images are of one subject", hint="two subjects are the least to tell apart")

    def with_mates(self, rng: np.random.Generator, count: int) -> Ints:
        return rng.choice(self.paired, count)

    def mates(self, images: Ints, rng: np.random.Generator) -> Ints:
        """Return another image of each one's person (itself where there is no other)."""
        person = self.codes[images]
        step = 1 + np.floor(rng.random(images.size) * (self.size[person] - 1)).astype(np.int64)
        own = self.place[images] - self.start[person]
        return self.order[self.start[person] + (own + step) % self.size[person]]

    def others(self, images: Ints, rng: np.random.Generator) -> Ints:
        """Return an image of another person for each."""
        person = self.codes[images]
        step = np.floor(rng.random(images.size) * (self.images - self.size[person])).astype(np.int64)
        return self.order[(self.start[person] + self.size[person] + step) % self.images]
