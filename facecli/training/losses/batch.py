"""Losses over the pairs and triplets of a batch.

Every loss is a module called with `embeddings` float [B, D] (any length: rows are normalised here), `labels`
int64 [B] and the batch's `generator` for miners that draw; it returns an `Outcome`. Half precision is widened to
float32. A batch with nothing to learn from gives loss 0 that can be back-propagated.

Values and gradients equal pytorch-metric-learning 2.9 wherever it has the same loss. d is the Euclidean
distance of unit rows, s their cosine similarity, [x]+ = max(x, 0). The losses over classes are in `classes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from facecli.errors import UsageError
from facecli.training.losses import miners
from facecli.training.losses.geometry import (
    chords,
    distances,
    mated_masks,
    similarities,
    squared_distances,
    unit,
)
from facecli.training.losses.miners import PairMiner, Scene, TripletMiner
from facecli.training.losses.table import Distance

REDUCTIONS = ("nonzero", "mean")
DISTANCES: dict[Distance, Callable[[Tensor], Tensor]] = {
    "euclidean": distances,
    "squared": squared_distances,
    "cosine": lambda rows: 1 - similarities(rows),
}


class Outcome(NamedTuple):
    """`loss`, a scalar with its graph, and the share of terms that still teach, a scalar without."""

    loss: Tensor
    active: Tensor


class Triplet(nn.Module):
    """[d(a, p) - d(a, n) + margin]+ over the triplets of a miner; with `soft` log(1 + exp(.)) instead.

    `reduction` is `nonzero` (mean of the terms above 0: it can rise while training improves, so look at
    `active` beside it) or `mean`. `swap` takes the nearer of d(a, n) and d(p, n) (Balntas et al., BMVC 2016).
    The soft margin of Hermans et al. 2017 is `soft=True, margin=0, reduction="mean"`.
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        miner: TripletMiner = miners.all_triplets,
        distance: Distance = "euclidean",
        soft: bool = False,
        swap: bool = False,
        reduction: str = "nonzero",
    ) -> None:
        super().__init__()
        _check_choice("distance", distance, tuple(DISTANCES))
        _check_choice("reduction", reduction, REDUCTIONS)
        if miner is miners.distance_weighted and distance != "euclidean":
            raise UsageError("distance-weighted mining needs Euclidean distances")
        self.margin, self.miner, self.distance = margin, miner, DISTANCES[distance]
        self.soft, self.swap, self.reduction = soft, swap, reduction

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        d = self.distance(unit(embeddings))  # [B, B]
        chosen = self.miner(d.detach(), Scene(labels, self.margin, embeddings.shape[1], generator))
        negative = d[chosen.anchor]  # [M, B]
        if self.swap:
            negative = torch.minimum(negative, d[chosen.positive])
        violation = d[chosen.anchor, chosen.positive][:, None] - negative + self.margin
        terms = (F.softplus(violation) if self.soft else F.relu(violation)) * chosen.keep
        # The soft margin never reaches 0, so what is active is read off the plain one.
        active = (violation.detach() > 0) & chosen.keep
        counted = (terms.detach() > 0) if self.reduction == "nonzero" else chosen.keep
        return Outcome(_mean(terms, counted), active.sum() / chosen.candidates.clamp(min=1))


class Contrastive(nn.Module):
    """[d - positive_margin]+ for positive pairs, [negative_margin - d]+ for negative ones, each to `power`.

    `nonzero` and `mean` average the two kinds apart and add them (`nonzero` only the terms above 0), so that
    the many negatives do not drown the positives. `pairs` is one mean over all pairs, as in the classical
    recipe with power 2 (Hadsell, Chopra, LeCun, CVPR 2006, without its factor 1/2).
    """

    def __init__(
        self,
        negative_margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        power: int = 1,
        miner: PairMiner = miners.all_pairs,
        reduction: str = "nonzero",
    ) -> None:
        super().__init__()
        _check_choice("reduction", reduction, (*REDUCTIONS, "pairs"))
        self.negative_margin, self.positive_margin = negative_margin, positive_margin
        self.power, self.miner, self.reduction = power, miner, reduction

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        d = chords(s)
        chosen = self.miner(s.detach(), Scene(labels, self.negative_margin, embeddings.shape[1], generator))
        # The positives are few: picked out, they spare passes over the whole of d.
        positive = F.relu(d[chosen.positive] - self.positive_margin)
        negative = F.relu(self.negative_margin - d) * chosen.negative
        if self.power != 1:
            positive, negative = positive.pow(self.power), negative.pow(self.power)
        violating = negative.detach() > 0
        active = violating.sum() / chosen.negative.sum().clamp(min=1)
        if self.reduction == "pairs":
            pairs = (chosen.positive | chosen.negative).sum().clamp(min=1)
            return Outcome((positive.sum() + negative.sum()) / pairs, active)
        if self.reduction == "mean":
            return Outcome(_mean(positive, chosen.positive) + _mean(negative, chosen.negative), active)
        return Outcome(_mean(positive, positive.detach() > 0) + _mean(negative, violating), active)


class Logistic(nn.Module):
    """Cross-entropy of P(same) = sigmoid(scale (offset - d)): the "distance layer and Dense(1)" of siamese nets.

    Scale and offset are learned; the scale stays positive by being kept as its logarithm. Positive and negative
    pairs weigh half each.
    """

    def __init__(self, scale: float = 5.0, offset: float = 1.0, miner: PairMiner = miners.all_pairs) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.offset = nn.Parameter(torch.tensor(offset))
        self.miner = miner

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        chosen = self.miner(s.detach(), Scene(labels, 0.0, embeddings.shape[1], generator))
        logit = self.log_scale.exp() * (self.offset - chords(s))
        positive, negative = F.softplus(-logit) * chosen.positive, F.softplus(logit) * chosen.negative
        wrong = ((logit < 0) & chosen.positive) | ((logit > 0) & chosen.negative)
        pairs = (chosen.positive | chosen.negative).sum()
        loss = (_mean(positive, chosen.positive) + _mean(negative, chosen.negative)) / 2
        return Outcome(loss, wrong.sum() / pairs.clamp(min=1))


class MultiSimilarity(nn.Module):
    """1/alpha log(1 + sum e^(-alpha (s_p - base))) + 1/beta log(1 + sum e^(beta (s_n - base))), mean over anchors.

    Wang et al., "Multi-similarity loss with general pair weighting", CVPR 2019, eq. 15.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        miner: PairMiner = miners.all_pairs,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.base, self.miner = alpha, beta, base, miner

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        chosen = self.miner(s.detach(), Scene(labels, 0.0, embeddings.shape[1], generator))
        positive = _log_one_plus_sum(-self.alpha * (s - self.base), chosen.positive) / self.alpha
        negative = _log_one_plus_sum(self.beta * (s - self.base), chosen.negative) / self.beta
        return Outcome((positive + negative).mean(), _closer_negatives(s.detach(), labels))


class NTXent(nn.Module):
    """-log(e^(s_p/T) / (e^(s_p/T) + sum over negatives e^(s_n/T))), mean over ordered positive pairs.

    Sohn, NIPS 2016; Chen et al., "SimCLR", 2020, eq. 1, where each positive is set against the negatives alone.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        positive, negative = mated_masks(labels)
        scaled = s / self.temperature
        others = _log_sum(scaled, negative)[:, None]
        terms = F.softplus(others - scaled)
        # An anchor without negatives has nothing to be told from.
        counted = positive & negative.any(1, keepdim=True)
        return Outcome(_mean(terms.masked_fill(~counted, 0), counted), _closer_negatives(s.detach(), labels))


class SupCon(nn.Module):
    """Mean over an anchor's positives of log(sum over all others e^(s/T)) - s_p/T, then over anchors.

    Khosla et al., "Supervised contrastive learning", 2020, eq. 2 (the mean outside the logarithm).
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        positive, negative = mated_masks(labels)
        scaled = s / self.temperature
        terms = (_log_sum(scaled, positive | negative)[:, None] - scaled) * positive
        anchors = terms.sum(1) / positive.sum(1).clamp(min=1)
        return Outcome(_mean(anchors, anchors.detach() > 0), _closer_negatives(s.detach(), labels))


class Circle(nn.Module):
    """softplus(log sum e^(gamma a_n (s_n - m)) + log sum e^(-gamma a_p (s_p - 1 + m))), mean over anchors.

    a_p = [1 + m - s_p]+ and a_n = [s_n + m]+ weigh each pair by how far it is from where it should be, and carry
    no gradient. Sun et al., "Circle loss", CVPR 2020, eq. 8; for faces it has m 0.25 and gamma 256. Anchors
    without a positive or a negative are out.
    """

    def __init__(self, margin: float = 0.4, gamma: float = 80.0) -> None:
        super().__init__()
        self.margin, self.gamma = margin, gamma

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = similarities(unit(embeddings))
        positive, negative = mated_masks(labels)
        to_positive = F.relu(1 + self.margin - s.detach())
        to_negative = F.relu(s.detach() + self.margin)
        complete = (positive.any(1) & negative.any(1)).nonzero()[:, 0]
        positive_sum = _log_sum(-self.gamma * to_positive * (s - 1 + self.margin), positive)
        negative_sum = _log_sum(self.gamma * to_negative * (s - self.margin), negative)
        terms = F.softplus(positive_sum[complete] + negative_sum[complete])
        return Outcome(_mean(terms, terms.detach() > 0), _closer_negatives(s.detach(), labels))


def _mean(terms: Tensor, counted: Tensor) -> Tensor:
    """Return the sum of `terms` over the number `counted`; 0 with a graph when there is none."""
    return terms.sum() / counted.sum().clamp(min=1)


def _log_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return log sum exp of each row of `x` where `mask`; very negative, and without gradient, for empty rows."""
    # Not -inf, whose gradient is NaN for an empty row.
    return x.masked_fill(~mask, torch.finfo(x.dtype).min).logsumexp(1)


def _log_one_plus_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Return log(1 + sum exp) of each row of `x` where `mask`."""
    return F.softplus(_log_sum(x, mask))


def _closer_negatives(s: Tensor, labels: Tensor) -> Tensor:
    """Return the share of anchors with a negative at least as similar as their least similar positive."""
    positive, negative = mated_masks(labels)
    complete = positive.any(1) & negative.any(1)
    least = s.masked_fill(~positive, torch.inf).amin(1)
    most = s.masked_fill(~negative, -torch.inf).amax(1)
    return ((most >= least) & complete).sum() / complete.sum().clamp(min=1)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"unknown {what} '{value}'", hint=f"choose from {', '.join(choices)}")
