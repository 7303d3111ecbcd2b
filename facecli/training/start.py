"""The network that a training starts from: a base with its weights, a head, or a checkpoint taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facecli.errors import UsageError
from facecli.hooks import Notify, Progress
from facecli.models import architectures, checkpoint
from facecli.models.built_in import BUILT_IN, SMALL_CNN, TORCHVISION
from facecli.models.contract import MOST_INPUT_PX
from facecli.models.families import family
from facecli.models.registry import load_network, resolve
from facecli.models.spec import ModelSpec
from facecli.training.config import TrainConfig
from facecli.training.freeze import Block, blocks

HEAD_DIM = 128
"""Of the head put on a base that has none."""


@dataclass(frozen=True, eq=False)
class Start:
    """The network before training and how it is described.

    `is_base` says that the network's own outputs are the base's embeddings: then the base can pull and be
    blended with. `from_scratch`: no weights were learned before. `parts` are its blocks, the last the head.
    """

    module: nn.Module
    architecture: dict[str, Any]
    spec: ModelSpec
    parts: list[Block]
    is_base: bool
    from_scratch: bool


def start(config: TrainConfig, *, cache_dir: Path, notify: Notify | None = None) -> Start:
    """Return the network to train, on the CPU. The same configuration gives the same weights.

    Raises `UsageError`, `WeightsMissing` and what reading a checkpoint raises.
    """
    path = Path(config.base)
    own = checkpoint.is_checkpoint(path) or config.base == SMALL_CNN or not config.pretrained
    if config.weights is not None and own:
        raise UsageError(
            "weights stand in for those published of a base, and this base starts without them",
            path=config.weights,
            hint="leave weights out",
            advice="no_weights",
        )
    if checkpoint.is_checkpoint(path):
        return _from_checkpoint(config, path)
    spec = base_spec(config.base)
    scratch = config.base == SMALL_CNN
    architecture: dict[str, Any] = {"base": config.base}
    dim = spec.dim
    if scratch:
        dim = config.dim if config.dim is not None else spec.dim
        architecture |= {"dim": dim, "width": config.width}
    elif config.dim is not None or family(spec).needs_head:
        dim = config.dim if config.dim is not None else HEAD_DIM
        architecture["head"] = [dim]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if scratch or not config.pretrained:
            module = architectures.build(architecture)
        else:
            module = pretrained(architecture, cache_dir=cache_dir, weights=config.weights, notify=notify)
    # ImageNet weights know no faces, but they are learned and deserve a small learning rate.
    learned = config.pretrained and not scratch
    spec = _resized(replace(spec, name=_name(config), dim=dim), config.input_size)
    if not scratch:
        spec = replace(spec, licence=f"trained from {config.base}: {spec.licence}", warning="")
    return Start(
        module,
        architecture,
        spec,
        blocks(module, architecture),
        is_base=learned and "head" not in architecture,
        from_scratch=not learned,
    )


def _from_checkpoint(config: TrainConfig, path: Path) -> Start:
    spec = checkpoint.read_spec(path)
    if config.dim not in (None, spec.dim):
        raise UsageError(f"the checkpoint has {spec.dim} dimensions, not {config.dim}", path=path)
    if config.input_size not in (None, spec.input_size):
        raise UsageError(f"the checkpoint takes chips of {spec.input_size} px", path=path)
    architecture = checkpoint.read_architecture(path)
    module = checkpoint.load(spec)
    return Start(
        module,
        architecture,
        replace(spec, name=_name(config)),
        blocks(module, architecture),
        is_base=True,
        from_scratch=False,
    )


def _name(config: TrainConfig) -> str:
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in config.out.name)
    return safe.lstrip("._-") or "trained"


def _resized(spec: ModelSpec, size: int | None) -> ModelSpec:
    if size is None or size == spec.input_size:
        return spec
    if not family(spec).resizable:
        raise UsageError(f"this base takes chips of {spec.input_size} px, not {size}")
    if size > MOST_INPUT_PX:
        raise UsageError(f"chips have at most {MOST_INPUT_PX} px, not {size}")
    scale = size / spec.input_size
    template = None if spec.template is None else tuple((x * scale, y * scale) for x, y in spec.template)
    return replace(spec, input_size=size, template=template)


def pretrained(
    architecture: Mapping[str, Any],
    *,
    cache_dir: Path,
    weights: Path | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> nn.Module:
    """Return the network of `architecture` with its base's published weights; the head starts by chance.

    `weights` is a file to use in place of the base's own, as in `load_network`. Raises what `build` raises,
    `WeightsMissing`, and `UsageError` for `small-cnn`, which has none.
    """
    name = architecture.get("base")
    if name == SMALL_CNN:
        raise UsageError("small-cnn has no published weights", hint="train it from the start")
    if isinstance(name, str) and (name in BUILT_IN or name.startswith(TORCHVISION)):
        spec = resolve(name)
        if not family(spec).trainable:
            # Before anything is fetched.
            raise UsageError(f"'{name}' is published as ONNX, from which no training can start")
        network = load_network(spec, cache_dir=cache_dir, weights=weights, progress=progress, notify=notify)
        return architectures.assembled(architecture, (network.torch(), spec.dim), None)
    return architectures.assembled(architecture, None, None)


def base_spec(base: str) -> ModelSpec:
    """Return the input contract that training on `base` starts from (see `architectures` for the names)."""
    if base != SMALL_CNN:
        return resolve(base)
    dlib = BUILT_IN["dlib"]
    size = 112
    scale = size / dlib.input_size
    return ModelSpec(
        name=base,
        family="checkpoint",
        dim=128,
        input_size=size,
        template=tuple((x * scale, y * scale) for x, y in dlib.template or ()),
        channel_order="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        mirror=False,
        weights="",
        sha256=None,
        licence="MIT",
    )
