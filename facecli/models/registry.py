"""From a model's name to its input contract and its network. Imports neither torch nor numpy.

A name is one of `BUILT_IN`, `torchvision:NAME`, the path of an `.onnx` file with its contract beside it, or
the path of a checkpoint that facecli saved.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from facecli.errors import UsageError, WeightsMissing

if TYPE_CHECKING:
    from facecli.engine import Network, Notify

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ModelSpec:
    """The input contract of a network and where its weights come from.

    A chip is `input_size` x `input_size` pixels, reordered to `channel_order`, then `(x - mean) / std` with x
    in 0..255. `template` holds where the five landmarks land on the chip, in px with pixel centres at
    half-integers (the chip spans 0..input_size); None asks for a plain square crop of the face box, widened
    on each side by `crop_margin` of its side. With `mirror` the template is the normalised sum of the
    network's outputs for the chip and for its mirror image.
    """

    name: str
    family: str
    """The module of `facecli.models` that knows the network."""
    dim: int
    input_size: int
    template: Points | None
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mirror: bool
    weights: str
    """Package file, download address, path or torchvision name, as the family reads it."""
    sha256: str | None
    """Of the weights file; None where it can only be known once the file is there."""
    licence: str
    crop_margin: float = 0.0
    warning: str = ""
    """Said whenever the model is used, where it is not fit for faces as it stands."""


class Family(Protocol):
    """What each module named by `ModelSpec.family` offers."""

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights file if it is on this machine, without fetching anything."""

    def network(self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None) -> Network:
        """Return the network, fetching the weights if that is how the family gets them.

        `weights` overrides where they are. Raises `WeightsMissing` saying how to get them.
        """


def family(spec: ModelSpec) -> Family:
    """Return the module that knows the networks of `spec`'s family."""
    return cast(Family, importlib.import_module(f"facecli.models.{spec.family}"))
