"""Similarities and distances between all rows of a batch: safe where points coincide and in half precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TINY = 1e-12
"""A row shorter than this has no direction: it counts as the zero vector."""


def unit(embeddings: Tensor) -> Tensor:
    """Return the rows at length 1: float [B, D] -> float32 (of a half type) or the input's type.

    A zero row stays zero and gets no gradient, where the usual division by a small constant would multiply
    its gradient by 1e12.
    """
    wide = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide / length.masked_fill(length < TINY, torch.inf)


def similarities(rows: Tensor) -> Tensor:
    """Return all cosine similarities of unit rows: [B, D] -> [B, B]."""
    return rows @ rows.T


def squared_distances(rows: Tensor) -> Tensor:
    """Return all squared Euclidean distances of unit rows, 2 - 2 cos: [B, D] -> [B, B].

    The product of equal rows exceeds 1 by rounding, hence the clamp.
    """
    return (2 - 2 * similarities(rows)).clamp(min=0)


def distances(rows: Tensor) -> Tensor:
    """Return all Euclidean distances of unit rows: [B, D] -> [B, B], with gradient 0 where points coincide."""
    return chords(similarities(rows))


def chords(cosines: Tensor) -> Tensor:
    """Return the distance of two unit vectors from their cosine, sqrt(2 - 2 cos), with gradient 0 at 0."""
    return _Chords.apply(cosines)


class _Chords(torch.autograd.Function):
    """Written out for the passes over [B, B] it saves: half of those of the composed operations."""

    @staticmethod
    def forward(ctx: Any, cosines: Tensor) -> Tensor:
        d = cosines.mul(-2).add_(2).clamp_(min=0).sqrt_()
        ctx.save_for_backward(d)
        return d

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (d,) = ctx.saved_tensors
        return gradient.div(d).neg_().masked_fill_(d == 0, 0)


def root(squared: Tensor) -> Tensor:
    """Return the square root with gradient 0 at 0, where the plain one has infinity and then NaN.

    >>> x = torch.zeros(1, requires_grad=True)
    >>> root(x).backward()
    >>> x.grad
    tensor([0.])
    """
    positive = squared > 0
    return torch.where(positive, squared, 1).sqrt() * positive


def mated_masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return bool [B, B] masks of the pairs with equal labels, without the diagonal, and of the others."""
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same
