"""From a training configuration to its parts: the network to start from, the loss, the sampler, the optimizer.

What the configuration leaves open is decided here, by whether the base already tells faces apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from facecli.errors import UsageError
from facecli.training.config import TrainConfig
from facecli.training.data import TrainingSet
from facecli.training.losses import batch as losses
from facecli.training.losses import classes as classifiers
from facecli.training.losses import miners
from facecli.training.losses.memory import Memory
from facecli.training.samplers import PeopleTimesImages, RandomPairs, RandomTriplets, Sampler, Shuffled
from facecli.training.start import Start

# What was measured to be good from scratch (benchmarks/train_att.py) and from a face network
# (benchmarks/train_finetune.py).
SCRATCH_LR = {"adamw": 1e-3, "sgd": 5e-2}
FINE_TUNE_LR = {"adamw": 1e-5, "sgd": 1e-3}
FINE_TUNE_PULL = 10.0
# This loss is a fortieth of the others in size.
MEMORY_PULL = 0.25
FINE_TUNE_BLEND = (0.5,)
MARGINS = {
    "contrastive": 1.0,
    "triplet": 0.2,
    "arcface": 0.2,
    "sub-center": 0.2,
    "cosface": 0.2,
    "circle": 0.4,
}
SCALES = {
    **{
        "arcface": 40.0,
        "sub-center": 40.0,
        "cosface": 40.0,
        "circle": 80.0,
        "nt-xent": 1 / 0.07,
        "supcon": 10.0,
        "memory": 50.0,
    }
}
SUB_CENTRES = 3

CLASS_LOSSES = ("softmax", "arcface", "cosface", "sub-center")
PAIR_LOSSES = ("contrastive", "logistic", "multi-similarity")
BATCH_LOSSES = ("nt-xent", "supcon", "circle")
LOSSES = ("triplet", *PAIR_LOSSES, *BATCH_LOSSES, *CLASS_LOSSES, "memory")


def decided(config: TrainConfig, begun: Start) -> TrainConfig:
    """Return the configuration with a loss, where it names none, that fits the base."""
    if config.loss is not None:
        return config
    return replace(config, loss="memory" if begun.is_base else "arcface")


def loss_for(config: TrainConfig, begun: Start, classes: int) -> nn.Module:
    """Return the loss, its own weights initialised by chance from the seed. Raises `UsageError`."""
    name = config.loss
    if name is None or name not in LOSSES:
        raise UsageError(f"no loss is called '{name}'", hint=f"known are {', '.join(LOSSES)}")
    if config.miner is not None and name != "triplet" and name not in PAIR_LOSSES:
        raise UsageError(f"the loss '{name}' takes no miner", hint="leave --miner out")
    margin = config.margin if config.margin is not None else MARGINS.get(name, 0.0)
    scale = config.scale if config.scale is not None else SCALES.get(name, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if name in CLASS_LOSSES:
            return _class_loss(name, begun.spec.dim, classes, margin, scale)
        if name == "triplet":
            return losses.Triplet(
                margin,
                miner=miners.triplet_miner(miner_name(config)),
                distance=config.distance,
                soft=config.soft,
                swap=config.swap,
                reduction="mean" if config.soft else "nonzero",
            )
        if name == "nt-xent":
            return losses.NTXent(1 / scale)
        if name == "supcon":
            return losses.SupCon(1 / scale)
        if name == "memory":
            if not begun.is_base:
                raise _no_base("the loss 'memory'")
            return Memory(scale / 5, scale)
        if name == "circle":
            return losses.Circle(margin, scale)
        miner = miners.pair_miner(miner_name(config))
        if name == "contrastive":
            classical = miner is miners.listed_pairs
            return losses.Contrastive(
                margin,
                miner=miner,
                power=2 if classical else 1,
                reduction="pairs" if classical else "nonzero",
            )
        return losses.Logistic(miner=miner) if name == "logistic" else losses.MultiSimilarity(miner=miner)


def _class_loss(name: str, dim: int, classes: int, margin: float, scale: float) -> nn.Module:
    if name == "softmax":
        return classifiers.Softmax(dim, classes)
    if name == "cosface":
        return classifiers.CosFace(dim, classes, margin, scale)
    centres = SUB_CENTRES if name == "sub-center" else 1
    return classifiers.ArcFace(dim, classes, margin, scale, centres)


def miner_name(config: TrainConfig) -> str:
    """Return the miner that goes with the loss where none is named."""
    if config.miner is not None:
        return config.miner
    if config.loss == "triplet":
        return "all" if config.soft else "semi-hard"
    return "multi-similarity" if config.loss == "multi-similarity" else "all"


def mines(config: TrainConfig) -> bool:
    """Tell whether the loss compares images of the batch within a margin, so that it can run dry."""
    return config.loss in ("triplet", "contrastive") and not config.soft


def sampler_for(config: TrainConfig, data: TrainingSet) -> Sampler:
    """Return what makes up the batches. Raises `UsageError`, `BadInput` where the data are too few."""
    batch = config.people * config.images
    if config.loss in CLASS_LOSSES or config.loss == "memory":
        return Shuffled(len(data), batch, seed=config.seed)
    name = miner_name(config) if config.loss == "triplet" or config.loss in PAIR_LOSSES else ""
    if name == "random-pairs":
        return RandomPairs(data.labels, batch, seed=config.seed)
    if name == "random-triplets":
        return RandomTriplets(data.labels, batch, seed=config.seed)
    people = min(config.people, len(data.subjects))
    return PeopleTimesImages(data.labels, people, config.images, seed=config.seed)


def optimizer_for(config: TrainConfig, begun: Start, loss: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer: the head, the rest of the network and the loss's own weights at their own rates."""
    rates = FINE_TUNE_LR if begun.is_base else SCRATCH_LR
    if config.optimizer not in rates:
        raise UsageError(f"no optimizer is called '{config.optimizer}'", hint="choose adamw or sgd")
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
        if not begun.is_base:
            return 0.0
        return MEMORY_PULL if config.loss == "memory" else FINE_TUNE_PULL
    if config.pull > 0 and not begun.is_base:
        raise _no_base("--pull")
    return config.pull


def shares(config: TrainConfig, begun: Start) -> tuple[float, ...]:
    """Return the shares of the way from the base that are validated beside the whole way.

    Raises `UsageError` where there is no base, or for a share outside 0..1.
    """
    if config.blend is None:
        return FINE_TUNE_BLEND if begun.is_base else ()
    if config.blend and not begun.is_base:
        raise _no_base("--blend")
    if any(not 0 < share < 1 for share in config.blend):
        raise UsageError("a blend is a share of the way between 0 and 1, such as 0.5")
    return config.blend


def imprints(config: TrainConfig, begun: Start) -> bool:
    """Tell whether the loss has class weights that can start at the classes' mean embeddings."""
    return begun.is_base and config.loss in ("arcface", "cosface", "sub-center")


def _no_base(option: str) -> UsageError:
    return UsageError(
        f"{option} needs a base whose embeddings the network keeps",
        hint=f"leave {option} out, or fine-tune a face network without a new --dim",
    )
