"""Networks that can be trained and rebuilt from a small dict: a base, and a head that turns it into embeddings.

An architecture is `{"base": NAME, "head": [D1, ..., D]}`. The base is `dlib`, `vggface2`, `casia-webface`,
`torchvision:NAME` or `small-cnn`; the head, which may be left out, is a chain of linear layers of these sizes.
`small-cnn` also takes `dim` (128), `width` (32) and `grey` (false).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from facecli.errors import BadInput
from facecli.models.built_in import BUILT_IN, SMALL_CNN, TORCHVISION
from facecli.models.contract import MOST_DIM, Table
from facecli.models.families import family

MOST_WIDTH = 1 << 10
"""Of a small network's first stage; the last has eight times as many channels."""


class SmallCnn(nn.Module):
    """A plain network to learn from small sets with: float32 [N, C, H, W] -> [N, dim], H and W of 16 or more.

    Four stages of convolution, batch norm, ReLU and halving, then the mean over the map. With `grey` the
    channels, of any number, are averaged first.
    """

    def __init__(self, dim: int = 128, width: int = 32, grey: bool = False) -> None:
        super().__init__()
        self.grey = grey
        channels = [1 if grey else 3, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(_stage(few, many) for few, many in zip(channels[:-1], channels[1:], strict=True))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Linear(channels[-1], dim)

    def forward(self, chips: Tensor) -> Tensor:
        x = chips.mean(dim=1, keepdim=True) if self.grey else chips
        x = self.pool(self.stages(x))  # [N, 8 width, 1, 1]
        return self.embedding(x.flatten(1))


def _stage(few: int, many: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(few, many, 3, padding=1, bias=False), nn.BatchNorm2d(many), nn.ReLU(), nn.MaxPool2d(2)
    )


class Headed(nn.Module):
    """A base and a head; `base` and `head` are attributes, so that either can be frozen or given its own rate."""

    def __init__(self, base: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.head = head

    def forward(self, chips: Tensor) -> Tensor:
        return self.head(self.base(chips))


def build(architecture: Mapping[str, Any], *, path: Path | None = None) -> nn.Module:
    """Return the network of `architecture`, initialised by chance from torch's generator.

    It maps float32 [N, 3, S, S] to [N, D]. `path` is the file the dict came from, for the message of the
    `BadInput` raised when it is malformed; an unknown torchvision name is a `UsageError`.
    """
    return assembled(architecture, None, path)


def assembled(
    architecture: Mapping[str, Any], base: tuple[nn.Module, int] | None, path: Path | None
) -> nn.Module:
    table = Table(dict(architecture), path, "architecture.")
    fresh, dim = base if base is not None else _base(table)
    table.asked.add("base")
    sizes = table.sizes("head") if table.has("head") else ()
    table.end()
    if not sizes:
        return fresh
    layers: list[nn.Module] = []
    for inputs, outputs in zip((dim, *sizes[:-1]), sizes, strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return Headed(fresh, nn.Sequential(*layers[:-1]))


def _base(table: Table) -> tuple[nn.Module, int]:
    """Return the base, initialised by chance, and its dimension."""
    name = table.text("base")
    if name == SMALL_CNN:
        dim = table.whole("dim", MOST_DIM) if table.has("dim") else 128
        width = table.whole("width", MOST_WIDTH) if table.has("width") else 32
        return SmallCnn(dim, width, table.flag("grey", False)), dim
    if name.startswith(TORCHVISION):
        from facecli.models.torchvision import backbone

        return backbone(name)
    if name not in BUILT_IN:
        known = ", ".join((*BUILT_IN, f"{TORCHVISION}NAME", SMALL_CNN))
        raise BadInput(f"unknown base '{name}'", path=table.path, hint=f"known are {known}")
    spec = BUILT_IN[name]
    return family(spec).untrained(spec), spec.dim
