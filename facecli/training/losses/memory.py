"""A loss against all training images at once: each is compared with what the base made of every other.

For fine-tuning a network that tells people apart already. Its templates of the training images, made once, are
the memory; a batch is pulled to its own people's and pushed from the others', hardest around one fixed similarity,
the base's threshold at a low FMR. So every step sees the rare look-alikes that decide about low rates, and one
threshold has to fit everybody, as it will when the network is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from facecli.errors import BadInput
from facecli.training.losses.batch import Outcome
from facecli.training.losses.geometry import unit

FMR = 1e-3
"""Of the base on the training images, where the threshold lies that is trained for."""
SAMPLE = 1024
"""Images that are compared with all others to find it."""


class Memory(nn.Module):
    """Multi-similarity of a batch with N remembered images, of which those of another source do not count.

    With s the cosine similarity and t the threshold: 1/alpha log(1 + sum e^(-alpha (s_p - t))) + 1/beta log(1 + sum
    e^(beta (s_n - t))), mean over the batch (Wang et al., CVPR 2019, eq. 15; against a memory: Wang et al.,
    "Cross-batch memory for embedding learning", CVPR 2020, there of the last batches). People of two sources are
    told apart by the look of their source, which is nothing to learn: so they are not compared. `active` is the
    share of images with a negative above the threshold or a positive below it.
    """

    def __init__(self, alpha: float = 10.0, beta: float = 50.0) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.threshold = 0.0
        # Made anew from the base when a run is resumed, so no part of its state.
        self.register_buffer("rows", torch.empty(0), persistent=False)  # [N, D], unit
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64), persistent=False)  # [N]
        self.register_buffer("sources", torch.empty(0, dtype=torch.int64), persistent=False)  # [C]

    def remember(self, templates: Tensor, labels: Tensor, sources: Tensor) -> None:
        """Take what to compare with: unit `templates` float [N, D], their `labels` [N], the source of each label [C].

        Raises `BadInput` where no two people of one source are there to compare.
        """
        self.rows, self.labels, self.sources = templates, labels, sources
        # In equal steps, so that the choice needs no chance and has its share of everybody.
        some = torch.linspace(0, len(labels) - 1, min(SAMPLE, len(labels)), device=labels.device).long()
        _, negative = self._masks(labels[some])
        nonmated = (templates[some] @ templates.T)[negative]
        if len(nonmated) == 0:
            raise BadInput("no two people of one source are here to be told apart")
        self.threshold = float(nonmated.topk(max(1, round(FMR * len(nonmated)))).values[-1])

    def forward(
        self, embeddings: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Outcome:
        s = unit(embeddings).to(self.rows.dtype) @ self.rows.T  # [B, N]
        positive, negative = self._masks(labels)
        below, above = self.threshold - s, s - self.threshold
        lowest = torch.finfo(s.dtype).min
        pulled = F.softplus((self.alpha * below).masked_fill(~positive, lowest).logsumexp(1)) / self.alpha
        pushed = F.softplus((self.beta * above).masked_fill(~negative, lowest).logsumexp(1)) / self.beta
        wrong = ((below.detach() > 0) & positive).any(1) | ((above.detach() > 0) & negative).any(1)
        return Outcome((pulled + pushed).mean(), wrong.float().mean())

    def _masks(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of the memory show the same person as each of `labels`, and which another of its source."""
        same = labels[:, None] == self.labels
        return same, ~same & (self.sources[labels][:, None] == self.sources[self.labels])
