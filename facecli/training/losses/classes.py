"""Losses over classes: an embedding is told from the weights of every training subject, not from a batch.

Same call and result as in `batch`; `active` is the share of samples that are not yet nearest to their own class
(with the margin). Always in float32 or wider: in half precision the scaled logits overflow. The weights [D, C]
serve training alone and are thrown away with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from facecli.errors import UsageError
from facecli.training.losses.batch import Outcome
from facecli.training.losses.geometry import root, unit


class Softmax(nn.Module):
    """Cross-entropy of a linear classifier on the raw embeddings: the baseline."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        logits = self.linear(embeddings.to(self.linear.weight.dtype))
        return _cross_entropy(logits, labels)


class _Cosine(nn.Module):
    """Cross-entropy of `scale` times the cosines to the class weights, the own class's made harder by a margin."""

    def __init__(self, dim: int, classes: int, margin: float, scale: float, centres: int = 1) -> None:
        super().__init__()
        if centres < 1:
            raise UsageError(f"a class has {centres} centres", hint="1 or more")
        self.margin, self.scale, self.centres = margin, scale, centres
        self.weight = nn.Parameter(torch.empty(dim, classes * centres))
        nn.init.normal_(self.weight)

    def hardened(self, cosines: Tensor) -> Tensor:
        """Return the cosines [B] to the own class less the margin."""
        raise NotImplementedError

    def imprint(self, means: Tensor) -> None:
        """Start each class's first centre at the direction `means` [C, D], such as its mean template.

        Weights that start by chance pull a trained network apart before they find their places.
        """
        with torch.no_grad():
            self.weight[:, :: self.centres] = unit(means).T.to(self.weight)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Return the cosine to the nearest centre of each class, [B, C]."""
        # Normalised as rows, so that both sides share one definition of a unit vector.
        every = unit(embeddings).to(self.weight.dtype) @ unit(self.weight.T).T  # [B, C * centres]
        return every.unflatten(1, (-1, self.centres)).amax(2) if self.centres > 1 else every

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        cosines = self.cosines(embeddings)
        own = labels[:, None]
        logits = self.scale * cosines.scatter(1, own, self.hardened(cosines.gather(1, own)[:, 0])[:, None])
        return _cross_entropy(logits, labels)


class ArcFace(_Cosine):
    """cos(theta + margin) for the own class, `margin` in radians (28.6 degrees is 0.4992).

    Deng et al., "ArcFace", CVPR 2019, eq. 3; with `centres` > 1 sub-center ArcFace (ECCV 2020). Past theta =
    pi - margin the cosine would rise again; from there on cos(theta) - margin sin(margin) keeps it falling.
    """

    def __init__(
        self, dim: int, classes: int, margin: float = 0.5, scale: float = 64.0, centres: int = 1
    ) -> None:
        super().__init__(dim, classes, margin, scale, centres)

    def hardened(self, cosines: Tensor) -> Tensor:
        # By the addition theorem: arccos has an infinite derivative at 1.
        sines = root(1 - cosines.square())
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        straight = cosines - self.margin * math.sin(self.margin)
        return torch.where(cosines >= -math.cos(self.margin), turned, straight)


class CosFace(_Cosine):
    """cos(theta) - margin for the own class. Wang et al., "CosFace", CVPR 2018, eq. 4."""

    def __init__(self, dim: int, classes: int, margin: float = 0.35, scale: float = 64.0) -> None:
        super().__init__(dim, classes, margin, scale)

    def hardened(self, cosines: Tensor) -> Tensor:
        return cosines - self.margin


def _cross_entropy(logits: Tensor, labels: Tensor) -> Outcome:
    wrong = logits.detach().argmax(1) != labels
    return Outcome(F.cross_entropy(logits, labels), wrong.float().mean())
