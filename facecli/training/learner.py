"""One epoch of learning: batches, loss, gradients, optimizer. Knows nothing of files or verification.

All chance comes from generators seeded by the run's seed, the epoch and the step, so an epoch that is repeated is
the same to the bit on a CPU, and processes that share a batch agree without talking.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facecli.errors import UsageError
from facecli.models.runtime import torch_device
from facecli.models.spec import ModelSpec
from facecli.training import augment, distributed, freeze, recipe
from facecli.training.config import Precision, TrainConfig
from facecli.training.data import TrainingSet
from facecli.training.losses.geometry import mated_masks, squared_distances, unit
from facecli.training.losses.table import loss_kind
from facecli.training.samplers import shard
from facecli.training.schedule import rate
from facecli.training.start import Start
from facecli.training.strengths import strength

EMBED_BATCH = 64
"""Chips embedded at once where nothing is learned."""
TELL_SECONDS = 0.2
"""Between two reports: reading a loss makes a GPU wait."""

OnStep = Callable[[int, int, float, float], None]
"""Told (step, steps, loss, images per second)."""


class Learner:
    """A network with its loss and optimizer, learning from `data`."""

    def __init__(self, config: TrainConfig, begun: Start, data: TrainingSet) -> None:
        known = get_args(Precision)
        if config.precision not in known:
            raise UsageError(
                f"unknown precision '{config.precision}'", hint=f"choose from {', '.join(known)}"
            )
        if config.epochs < 1 or config.accumulate < 1:
            raise UsageError("a run has one epoch, and a step one batch, at least")
        self.config, self.spec, self.parts, self.data = config, begun.spec, begun.parts, data
        self.device = torch_device(config.device)
        if distributed.world() > 1:
            distributed.join_batch_norms(begun.module)
            # The blocks name modules, and some of them are others now.
            self.parts = freeze.blocks(begun.module, begun.architecture)
        # Channels last: a third faster on CPUs, and what tensor cores want.
        self.module = begun.module.to(self.device).to(memory_format=torch.channels_last)
        self.loss = recipe.loss_for(config, begun, len(data.subjects)).to(self.device)
        self.sampler = recipe.sampler_for(config, data)
        self.optimizer = recipe.optimizer_for(config, begun, self.loss)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.how = strength(recipe.augmentation(config, begun))
        self.pull = recipe.pull(config, begun)
        self.imprints = recipe.imprints(config, begun)
        self.remembers = loss_kind(config.loss).needs_base
        self.targets: Tensor | None = None
        self.labels = torch.from_numpy(data.labels).to(self.device)

    def learning_blocks(self, epoch: int) -> int:
        """Return how many blocks learn in `epoch`."""
        return freeze.learning_blocks(self.config.freeze, len(self.parts), epoch, self.config.epochs)

    def begin(self) -> None:
        """Take the base's templates: what the pull aims at, what classes start from, what a memory holds."""
        if self.pull == 0 and not self.imprints and not self.remembers:
            return
        # With the mirror image added where the network's contract says so: a steadier aim than the chip alone.
        with self._autocast():
            templates = torch.from_numpy(self.templates(self.data.chips)).to(self.device)
        if self.pull > 0:
            self.targets = templates
        if self.imprints:
            means = torch.zeros(len(self.data.subjects), self.spec.dim, device=self.device)
            self.loss.imprint(means.index_add(0, self.labels, templates))  # type: ignore[operator]
        if self.remembers:
            sources = self.data.sources if self.data.sources else (0,) * len(self.data.subjects)
            remember: Any = self.loss.remember
            remember(templates, self.labels, torch.tensor(sources, device=self.device))

    def epoch(self, number: int, on_step: OnStep) -> dict[str, Any]:
        """Learn from every batch of epoch `number` (from 1); return its mean figures.

        Raises `UsageError` when the loss is not a number any more.
        """
        learning = self.learning_blocks(number)
        freeze.apply(self.module, self.parts, learning)
        freeze.train_mode(self.module, self.parts, learning)
        # For dropout; everything else draws from generators of its own.
        torch.manual_seed(self._seed(number, 0) + distributed.rank())
        batches = self.sampler.epoch(number)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        began = told = time.perf_counter()
        for step, batch in enumerate(batches):
            self._set_rates(len(batches), (number - 1) * len(batches) + step)
            total, figures = self._forward(batch, self._seed(number, step + 1))
            self.scaler.scale(total / self.config.accumulate).backward()
            if (step + 1) % self.config.accumulate == 0 or step + 1 == len(batches):
                self._step()
            for name, value in figures.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            now = time.perf_counter()
            if now - told > TELL_SECONDS or step + 1 == len(batches):
                told = now
                loss = float(figures["loss"])
                self._check(loss, number, step)
                on_step(step + 1, len(batches), loss, (step + 1) * len(batch) / (now - began))
        means = {name: float(value) / len(batches) for name, value in sums.items()}
        self._check(means["loss"], number, len(batches) - 1)
        seconds = time.perf_counter() - began
        images = sum(len(batch) for batch in batches)
        return means | {"seconds": seconds, "images_per_second": images / seconds}

    def templates(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 [N, D] unit rows for chips uint8 [N, S, S, 3], as an embedder would.

        With several processes each embeds its part and all get the whole.
        """
        self.module.eval()
        world, rank = distributed.world(), distributed.rank()
        bounds = np.linspace(0, len(chips), world + 1).astype(int)
        mine = chips[bounds[rank] : bounds[rank + 1]]
        rows = [np.empty((0, self.spec.dim), np.float32)]
        with torch.no_grad():
            for start in range(0, len(mine), EMBED_BATCH):
                batch = np.ascontiguousarray(mine[start : start + EMBED_BATCH])
                x = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2).float()
                x = normalised(x, self.spec).contiguous(memory_format=torch.channels_last)
                raw = self.module(x).float()
                if self.spec.mirror:
                    raw = raw + self.module(x.flip(3)).float()
                rows.append(unit(raw).cpu().numpy())
        return np.concatenate(distributed.gather_objects(np.concatenate(rows)))

    def state(self) -> dict[str, Any]:
        """Return all that changes from epoch to epoch."""
        return {
            "module": self.module.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.module.load_state_dict(state["module"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _forward(self, batch: NDArray[np.int64], seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what to minimise on the joint batch, and figures about it."""
        generator = torch.Generator().manual_seed(seed)
        rank, world = distributed.rank(), distributed.world()
        places = np.arange(len(batch))
        mine = shard(places, rank, world)
        chance = augment.draw(len(batch), generator)[mine]
        x = augment.augment(self.data.chips[batch[mine]], self.how, chance, self.device)
        with self._autocast():
            embeddings = self.module(normalised(x, self.spec).contiguous(memory_format=torch.channels_last))
        # From here on in float32: half precision has no room for scaled logits and small distances.
        embeddings = distributed.gather(embeddings.float())  # [B, D]
        index = torch.from_numpy(batch).to(self.device)
        labels = self.labels[index]
        outcome = self.loss(embeddings, labels, generator)
        figures = {"loss": outcome.loss.detach(), "active_fraction": outcome.active.float()}
        total = outcome.loss
        if self.targets is not None:
            pulled = (1 - (unit(embeddings) * self.targets[index]).sum(1)).mean()
            total = total + self.pull * pulled
            figures["pull"] = pulled.detach()
        return total, figures | _spread(unit(embeddings.detach()), labels)

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        own = list(self.module.parameters())
        distributed.sum_gradients(own)
        # The loss's weights saw the joint batch in every process: the gradients are equal but for rounding.
        distributed.sum_gradients(self.loss.parameters(), mean=True)
        if self.config.clip > 0:
            torch.nn.utils.clip_grad_norm_([p for p in own if p.grad is not None], self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _set_rates(self, steps_an_epoch: int, step: int) -> None:
        steps = steps_an_epoch * self.config.epochs
        factor = rate(step, steps, round(self.config.warm_up * steps))
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * factor

    def _seed(self, epoch: int, step: int) -> int:
        return int(
            np.random.SeedSequence((self.config.seed, epoch, step)).generate_state(1, np.uint64)[0] >> 1
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.config.precision))

    def _check(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            raise UsageError(
                f"the loss is not a number any more (epoch {epoch}, batch {step + 1})",
                hint="lower lr, or train in float32",
                advice="lower_lr",
            )


def normalised(x: Tensor, spec: ModelSpec) -> Tensor:
    """Return the network's input from RGB chips float32 [B, 3, S, S] in 0..255."""
    order = ["RGB".index(channel) for channel in spec.channel_order]
    mean, std = (x.new_tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return (x[:, order] - mean) / std


def _spread(rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the mean distances of mated and non-mated pairs, and 1 - squared length of the mean embedding."""
    d = squared_distances(rows).sqrt()
    positive, negative = mated_masks(labels)
    return {
        "mean_positive_distance": (d * positive).sum() / positive.sum().clamp(min=1),
        "mean_negative_distance": (d * negative).sum() / negative.sum().clamp(min=1),
        "spread": 1 - rows.mean(0).square().sum(),
    }
