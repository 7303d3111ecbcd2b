"""A network before it runs: how it is made in either form, and the name that its ONNX file is kept under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facecli.arrays import Array

if TYPE_CHECKING:
    import torch

Runner = Callable[[Array], list[Array]]
"""float32 [N, C, H, W] -> the network's outputs, each float32 with N rows first."""


@dataclass(frozen=True)
class Network:
    """A network in waiting.

    `key` names the cached ONNX file: a digest of the weights and of the code that builds the graph. `onnx`
    returns the serialised ONNX model, its first input float32 [N, C, H, W]; `torch` returns the same network
    as a module in eval mode. Both may be slow and import what they like; neither runs before it is needed.
    """

    name: str
    key: str
    onnx: Callable[[], bytes]
    torch: Callable[[], torch.nn.Module]
