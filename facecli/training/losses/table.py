"""The tables of losses and miners: one more is its class or function and a line here.

Imports torch only to build one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from facecli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from facecli.training.losses.miners import PairMiner, TripletMiner


Distance = Literal["euclidean", "squared", "cosine"]
"""What the triplet loss may compare, of unit rows."""


@dataclass(frozen=True)
class LossSettings:
    """What a loss may be built from; each takes what it has a use for."""

    dim: int
    """Length of an embedding."""
    classes: int
    """Subjects trained on."""
    margin: float
    scale: float
    miner: str = ""
    """Empty for a loss that takes none."""
    distance: Distance = "euclidean"
    soft: bool = False
    swap: bool = False


@dataclass(frozen=True)
class LossKind:
    """A loss before it is built, and what training has to know of it."""

    module: str
    """The file in this folder that has its class."""
    make: Callable[[Any, LossSettings], nn.Module]
    """From that module and the settings to the loss."""
    margin: float = 0.0
    scale: float = 1.0
    miner: str | None = None
    """The default; None for a loss that takes no miner."""
    soft_miner: str | None = None
    """The default with a soft margin; None for a loss that has no such margin."""
    batches: Literal["people", "shuffled"] = "people"
    """P people x K images where images of the batch are compared, any images where they are not."""
    runs_dry: bool = False
    """Compares within a margin, so that nothing may be left to learn from, unless the margin is soft."""
    needs_base: bool = False
    """Compares with the base's templates, taken by a method `remember`; so the network must keep the base's space."""
    imprints: bool = False
    """Has weights for each class that can start at its mean template, by a method `imprint`."""
    pull: float = 10.0
    """Weight of the pull towards the base that goes with the size of the loss (benchmarks/train_finetune.py)."""

    def build(self, settings: LossSettings) -> nn.Module:
        """Return the loss, its own weights initialised by chance from torch's generator."""
        return self.make(importlib.import_module(f"facecli.training.losses.{self.module}"), settings)

    def miner_of(self, named: str | None, *, soft: bool) -> str:
        """Return the miner `named`, or the default; empty for a loss that takes none."""
        if named is not None:
            return named
        default = self.soft_miner if soft else self.miner
        return default if default is not None else ""


TRIPLET_MINERS = {
    "all": "all_triplets",
    "batch-hard": "batch_hard",
    "hardest-negative": "hardest_negative",
    "semi-hard": "semi_hard",
    "random-hard": "random_hard",
    "distance-weighted": "distance_weighted",
    "random-triplets": "listed_triplets",
}
PAIR_MINERS = {
    "all": "all_pairs",
    "hard-negatives": "hard_negatives",
    "multi-similarity": "multi_similarity",
    "random-pairs": "listed_pairs",
}
"""Both: the functions of `miners` by the names that `--miner` takes."""


def triplet_miner(name: str) -> TripletMiner:
    """Return the triplet miner called `name`; raises `UsageError`."""
    return _miner(name, TRIPLET_MINERS, "triplets")


def pair_miner(name: str) -> PairMiner:
    """Return the pair miner called `name`; raises `UsageError`."""
    return _miner(name, PAIR_MINERS, "pairs")


def _miner(name: str, known: dict[str, str], what: str) -> Any:
    if name not in known:
        raise UsageError(f"no miner of {what} is called '{name}'", hint=f"known are {', '.join(known)}")
    return getattr(importlib.import_module("facecli.training.losses.miners"), known[name])


def _triplet(batch: Any, settings: LossSettings) -> nn.Module:
    return batch.Triplet(
        settings.margin,
        miner=triplet_miner(settings.miner),
        distance=settings.distance,
        soft=settings.soft,
        swap=settings.swap,
        reduction="mean" if settings.soft else "nonzero",
    )


def _contrastive(batch: Any, settings: LossSettings) -> nn.Module:
    # Pairs drawn blindly belong to the classical recipe, which squares and takes one mean.
    classical = settings.miner == "random-pairs"
    return batch.Contrastive(
        settings.margin,
        miner=pair_miner(settings.miner),
        power=2 if classical else 1,
        reduction="pairs" if classical else "nonzero",
    )


def _over_cosines(make: Callable[[Any, LossSettings], nn.Module]) -> LossKind:
    """Return a loss over the cosines to class weights; they share what was measured to be good."""
    return LossKind("classes", make, margin=0.2, scale=40.0, batches="shuffled", imprints=True)


LOSSES: dict[str, LossKind] = {
    "triplet": LossKind("batch", _triplet, margin=0.2, miner="semi-hard", soft_miner="all", runs_dry=True),
    "contrastive": LossKind("batch", _contrastive, margin=1.0, miner="all", runs_dry=True),
    "logistic": LossKind("batch", lambda m, s: m.Logistic(miner=pair_miner(s.miner)), miner="all"),
    "multi-similarity": LossKind(
        "batch", lambda m, s: m.MultiSimilarity(miner=pair_miner(s.miner)), miner="multi-similarity"
    ),
    "nt-xent": LossKind("batch", lambda m, s: m.NTXent(1 / s.scale), scale=1 / 0.07),
    "supcon": LossKind("batch", lambda m, s: m.SupCon(1 / s.scale), scale=10.0),
    "circle": LossKind("batch", lambda m, s: m.Circle(s.margin, s.scale), margin=0.4, scale=80.0),
    "softmax": LossKind("classes", lambda m, s: m.Softmax(s.dim, s.classes), batches="shuffled"),
    "arcface": _over_cosines(lambda m, s: m.ArcFace(s.dim, s.classes, s.margin, s.scale)),
    "cosface": _over_cosines(lambda m, s: m.CosFace(s.dim, s.classes, s.margin, s.scale)),
    "sub-center": _over_cosines(lambda m, s: m.ArcFace(s.dim, s.classes, s.margin, s.scale, centres=3)),
    "memory": LossKind(
        "memory",
        lambda m, s: m.Memory(s.scale / 5, s.scale),
        scale=50.0,
        batches="shuffled",
        needs_base=True,
        # This loss is a fortieth of the others in size.
        pull=0.25,
    ),
}
"""By the name that `loss` takes, in the order in which they are listed."""


def loss_kind(name: str | None) -> LossKind:
    """Return the loss called `name`; raises `UsageError`."""
    if name is None or name not in LOSSES:
        raise UsageError(f"no loss is called '{name}'", hint=f"known are {', '.join(LOSSES)}")
    return LOSSES[name]
