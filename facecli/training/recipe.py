"""From a training configuration to its parts: the network to start from, the loss, the sampler, the optimizer.

What the configuration leaves open is decided here, by whether the base already tells faces apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from facecli.errors import UsageError
from facecli.training.config import Optimizer, TrainConfig
from facecli.training.data import TrainingSet
from facecli.training.losses.table import LOSSES, LossSettings, loss_kind
from facecli.training.samplers import PeopleTimesImages, RandomPairs, RandomTriplets, Sampler, Shuffled
from facecli.training.start import Start

# What was measured to be good from scratch (benchmarks/train_att.py) and from a face network
# (benchmarks/train_finetune.py).
SCRATCH_LR: dict[Optimizer, float] = {"adamw": 1e-3, "sgd": 5e-2}
FINE_TUNE_LR: dict[Optimizer, float] = {"adamw": 1e-5, "sgd": 1e-3}
FINE_TUNE_BLEND = (0.5,)
SAMPLERS_OF_MINERS: dict[str, Callable[..., Sampler]] = {
    "random-pairs": RandomPairs,
    "random-triplets": RandomTriplets,
}
"""Miners that only read a list which their own sampler draws up."""


def decided(config: TrainConfig, begun: Start) -> TrainConfig:
    """Return the configuration with a loss, where it names none, that fits the base."""
    if config.loss is not None:
        return config
    return replace(config, loss="memory" if begun.is_base else "arcface")


def loss_for(config: TrainConfig, begun: Start, classes: int) -> nn.Module:
    """Return the loss, its own weights initialised by chance from the seed. Raises `UsageError`."""
    kind = loss_kind(config.loss)
    if config.miner is not None and kind.miner is None:
        raise UsageError(
            f"the loss '{config.loss}' takes no miner", hint="leave miner out", advice="no_miner"
        )
    if config.soft and kind.soft_miner is None:
        takers = [name for name, other in LOSSES.items() if other.soft_miner is not None]
        raise UsageError(
            f"the loss '{config.loss}' has no soft margin",
            hint=f"soft goes with the loss {' or '.join(takers)}",
            advice="soft_losses",
            values={"losses": " or ".join(takers)},
        )
    if kind.needs_base and not begun.is_base:
        raise _no_base(f"the loss '{config.loss}'")
    settings = LossSettings(
        dim=begun.spec.dim,
        classes=classes,
        margin=config.margin if config.margin is not None else kind.margin,
        scale=config.scale if config.scale is not None else kind.scale,
        miner=kind.miner_of(config.miner, soft=config.soft),
        distance=config.distance,
        soft=config.soft,
        swap=config.swap,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return kind.build(settings)


def runs_dry(config: TrainConfig) -> bool:
    """Tell whether the loss compares images of the batch within a margin, so that it can run dry."""
    return loss_kind(config.loss).runs_dry and not config.soft


def sampler_for(config: TrainConfig, data: TrainingSet) -> Sampler:
    """Return what makes up the batches. Raises `UsageError`, `BadInput` where the data are too few."""
    kind = loss_kind(config.loss)
    batch = config.people * config.images
    if kind.batches == "shuffled":
        return Shuffled(len(data), batch, seed=config.seed)
    miner = kind.miner_of(config.miner, soft=config.soft)
    if miner in SAMPLERS_OF_MINERS:
        return SAMPLERS_OF_MINERS[miner](data.labels, batch, seed=config.seed)
    people = min(config.people, len(data.subjects))
    return PeopleTimesImages(data.labels, people, config.images, seed=config.seed)


def optimizer_for(config: TrainConfig, begun: Start, loss: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer: the head, the rest of the network and the loss's own weights at their own rates."""
    rates = FINE_TUNE_LR if begun.is_base else SCRATCH_LR
    if config.optimizer not in rates:
        raise UsageError(f"no optimizer is called '{config.optimizer}'", hint=f"choose {' or '.join(rates)}")
    lr = config.lr if config.lr is not None else rates[config.optimizer]
    factor = config.base_lr_factor
    if factor is None:
        # A new head on learned weights must not tear them up while it finds its place.
        factor = 1.0 if begun.is_base or begun.from_scratch else 0.1
    head = {id(p) for layer in begun.parts[-1] for p in layer.parameters()}
    groups: list[dict[str, Any]] = []
    for in_head, rate in ((True, lr), (False, lr * factor)):
        chosen = [p for p in begun.module.parameters() if (id(p) in head) == in_head]
        # Decaying biases and batch norms only takes away scale.
        groups.append({"params": [p for p in chosen if p.dim() > 1], "lr": rate})
        groups.append({"params": [p for p in chosen if p.dim() <= 1], "lr": rate, "weight_decay": 0.0})
    own = list(loss.parameters())
    groups.append({"params": own, "lr": lr * config.loss_lr_factor, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    return torch.optim.AdamW(groups, lr=lr, weight_decay=config.weight_decay)


def augmentation(config: TrainConfig, begun: Start) -> str:
    """Return the name of the augmentation: little for a fine-tune, much from scratch."""
    if config.augmentation is not None:
        return config.augmentation
    return "light" if begun.is_base else "strong"


def pull(config: TrainConfig, begun: Start) -> float:
    """Return the weight of the pull towards the base. Raises `UsageError` where there is none to pull to."""
    if config.pull is None:
        return loss_kind(config.loss).pull if begun.is_base else 0.0
    if config.pull > 0 and not begun.is_base:
        raise _no_base("a pull")
    return config.pull


def shares(config: TrainConfig, begun: Start) -> tuple[float, ...]:
    """Return the shares of the way from the base that are validated beside the whole way.

    Raises `UsageError` where there is no base, or for a share outside 0..1.
    """
    if config.blend is None:
        return FINE_TUNE_BLEND if begun.is_base else ()
    if config.blend and not begun.is_base:
        raise _no_base("a blend")
    if any(not 0 < share < 1 for share in config.blend):
        raise UsageError("a blend is a share of the way between 0 and 1, such as 0.5")
    return config.blend


def imprints(config: TrainConfig, begun: Start) -> bool:
    """Tell whether the loss has class weights that can start at the classes' mean embeddings."""
    return begun.is_base and loss_kind(config.loss).imprints


def _no_base(wish: str) -> UsageError:
    return UsageError(
        f"{wish} needs a base whose embeddings the network keeps",
        hint="leave it out, or fine-tune a face network without a new dim",
        advice="keep_base",
    )
