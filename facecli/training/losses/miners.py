"""Miners: which pairs and triplets of a batch a loss is computed on.

A triplet miner is called with the distances of the batch (Euclidean, squared or cosine: whatever the loss
compares) and returns `Triplets`; a pair miner is called with the similarities and returns `Pairs`. Neither
carries gradients. `margin` is the loss's, `dim` the length of an embedding, `generator` the only source of
chance.

Definitions: Hermans, Beyer, Leibe, "In defense of the triplet loss", 2017 (batch-all, batch-hard); Schroff,
Kalenichenko, Philbin, "FaceNet", 2015 (semi-hard); Wu et al., "Sampling matters in deep embedding learning",
2017 (distance-weighted); Wang et al., "Multi-similarity loss", 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from facecli.training.losses.geometry import mated_masks

NEAREST = 0.5
"""Distance-weighted: nearer negatives are taken for this far, or their weights would drown all others."""
FARTHEST = 1.4
"""Distance-weighted: negatives from here on teach nothing; random directions lie at sqrt(2)."""


@dataclass(frozen=True)
class Triplets:
    """Chosen triplets as a mask, which needs B x positives x B bits and never B x B x B.

    `anchor` and `positive` int64 [M] are pairs with equal labels; `keep` bool [M, B] marks the negatives that
    each of them is compared with. `candidates` counts the triplets that were chosen from.
    """

    anchor: Tensor
    positive: Tensor
    keep: Tensor
    candidates: Tensor


@dataclass(frozen=True)
class Pairs:
    """Chosen pairs as symmetric bool [B, B] masks, each unordered pair marked both ways."""

    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class Scene:
    """What a miner may look at besides the matrix: see the module."""

    labels: Tensor
    margin: float
    dim: int
    generator: torch.Generator | None = None


TripletMiner = Callable[[Tensor, Scene], Triplets]
PairMiner = Callable[[Tensor, Scene], Pairs]


def all_triplets(d: Tensor, scene: Scene) -> Triplets:
    """Return every ordered triplet: each ordered pair of equal labels with each negative."""
    positive, negative = mated_masks(scene.labels)
    anchor, other = positive.nonzero(as_tuple=True)
    keep = negative[anchor]
    return Triplets(anchor, other, keep, keep.sum())


def batch_hard(d: Tensor, scene: Scene) -> Triplets:
    """Return for each anchor its farthest positive with its nearest negative; anchors without either are out."""
    positive, negative = mated_masks(scene.labels)
    anchor = (positive.any(1) & negative.any(1)).nonzero()[:, 0]
    far = d.masked_fill(~positive, -torch.inf)[anchor].argmax(1)
    near = d.masked_fill(~negative, torch.inf)[anchor].argmin(1)
    return _one_each(d, anchor, far, near, torch.ones_like(anchor, dtype=torch.bool))


def hardest_negative(d: Tensor, scene: Scene) -> Triplets:
    """Return for each ordered positive pair the nearest negative, if it violates the margin."""
    every = all_triplets(d, scene)
    near, nearest = _nearest(d, every)
    hard = nearest - d[every.anchor, every.positive] < scene.margin
    return _one_each(d, every.anchor, every.positive, near, hard)


def semi_hard(d: Tensor, scene: Scene) -> Triplets:
    """Return all triplets whose negative lies beyond the positive by at most the margin: 0 < gap <= margin."""
    every = all_triplets(d, scene)
    gap = _gap(d, every)
    return Triplets(
        every.anchor, every.positive, every.keep & (gap > 0) & (gap <= scene.margin), every.candidates
    )


def random_hard(d: Tensor, scene: Scene) -> Triplets:
    """Return for each ordered positive pair one negative at random among those that violate the margin."""
    every = all_triplets(d, scene)
    hard = every.keep & (_gap(d, every) < scene.margin)
    pick, drawn = _draw(hard.to(d.dtype), scene.generator)
    return _one_each(d, every.anchor, every.positive, pick, drawn)


def distance_weighted(d: Tensor, scene: Scene) -> Triplets:
    """Return for each ordered positive pair one negative drawn with the inverse density of its distance.

    On a sphere in D dimensions the density of d is d^(D-2) (1 - d^2/4)^((D-3)/2). `d` must be Euclidean
    distances of unit rows. Pairs whose negatives all lie at 1.4 or beyond are out.
    """
    every = all_triplets(d, scene)
    clipped = d.double().clamp(NEAREST, 2 - 1e-6)
    log_weight = -(scene.dim - 2) * clipped.log() - (scene.dim - 3) / 2 * (1 - clipped.square() / 4).log()
    candidate = every.keep & (d < FARTHEST)[every.anchor]
    log_weight = log_weight[every.anchor].masked_fill(~candidate, -torch.inf)
    top = log_weight.amax(1, keepdim=True)
    weight = (log_weight - top.masked_fill(top.isinf(), 0)).exp()
    pick, drawn = _draw(weight, scene.generator)
    return _one_each(d, every.anchor, every.positive, pick, drawn)


def listed_triplets(d: Tensor, scene: Scene) -> Triplets:
    """Return the triplets of a batch that was put together as B/3 anchors, their positives, their negatives."""
    size = len(scene.labels) // 3
    anchor = torch.arange(size, device=d.device)
    is_triplet = (scene.labels[:size] == scene.labels[size : 2 * size]) & (
        scene.labels[:size] != scene.labels[2 * size : 3 * size]
    )
    return _one_each(d, anchor, anchor + size, anchor + 2 * size, is_triplet)


def all_pairs(s: Tensor, scene: Scene) -> Pairs:
    """Return all pairs of different rows."""
    return Pairs(*mated_masks(scene.labels))


def hard_negatives(s: Tensor, scene: Scene) -> Pairs:
    """Return all positive pairs and as many of the most similar negative ones, or all if there are fewer."""
    positive, negative = mated_masks(scene.labels)
    upper = torch.ones_like(negative).triu(1)
    wanted = int((positive & upper).sum())
    i, j = (negative & upper).nonzero(as_tuple=True)
    top = s[i, j].topk(min(wanted, len(i))).indices
    chosen = torch.zeros_like(negative)
    chosen[i[top], j[top]] = True
    return Pairs(positive, chosen | chosen.T)


def multi_similarity(s: Tensor, scene: Scene, epsilon: float = 0.1) -> Pairs:
    """Return the pairs that stand out for their anchor, rows being anchors: the masks are not symmetric.

    Negatives more similar than the least similar positive less epsilon; positives less similar than the most
    similar negative plus epsilon.
    """
    positive, negative = mated_masks(scene.labels)
    least = s.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
    most = s.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    # An anchor without positives has nothing to compare its negatives with, and the other way round.
    return Pairs(
        positive & (s < most + epsilon),
        negative & (s > least - epsilon) & positive.any(1, keepdim=True),
    )


def listed_pairs(s: Tensor, scene: Scene) -> Pairs:
    """Return the pairs of a batch that was put together as B/2 left images, then their B/2 right ones."""
    size = len(scene.labels) // 2
    chosen = torch.zeros_like(s, dtype=torch.bool)
    left = torch.arange(size, device=s.device)
    chosen[left, left + size] = chosen[left + size, left] = True
    positive, negative = mated_masks(scene.labels)
    # One image may stand on both sides of a pair: equal labels, other rows, so a positive pair like any.
    return Pairs(positive & chosen, negative & chosen)


def _gap(d: Tensor, triplets: Triplets) -> Tensor:
    """Return d(anchor, negative) - d(anchor, positive) as [M, B]."""
    return d[triplets.anchor] - d[triplets.anchor, triplets.positive][:, None]


def _nearest(d: Tensor, triplets: Triplets) -> tuple[Tensor, Tensor]:
    """Return the nearest kept negative of each row and its distance, infinite where there is none."""
    masked = d[triplets.anchor].masked_fill(~triplets.keep, torch.inf)
    nearest, near = masked.min(1)
    return near, nearest


def _draw(weight: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return one column for each row, drawn by `weight` [M, B], and whether the row had any."""
    # One number a row and a running sum: a draw by torch.multinomial would need a number for every weight.
    total = weight.double().cumsum(1)
    chance = torch.rand(len(weight), 1, dtype=torch.float64, generator=generator).to(weight.device)
    pick = torch.searchsorted(total, chance * total[:, -1:], right=True)[:, 0]
    return pick.clamp(max=weight.shape[1] - 1), total[:, -1] > 0


def _one_each(d: Tensor, anchor: Tensor, positive: Tensor, negative: Tensor, counts: Tensor) -> Triplets:
    keep = torch.zeros(len(anchor), len(d), dtype=torch.bool, device=d.device)
    keep[torch.arange(len(anchor), device=d.device), negative] = counts
    return Triplets(anchor, positive, keep, torch.tensor(len(anchor), device=d.device))
