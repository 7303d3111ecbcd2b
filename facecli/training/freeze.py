"""Which parts of a network learn: the head, the last blocks, everything, or more with every epoch.

A frozen part is really frozen: its parameters get no gradient, its batch norms keep their statistics and its
dropout is off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from facecli.errors import UsageError
from facecli.models.architectures import Headed
from facecli.models.built_in import TORCHVISION

Block = list[nn.Module]

OWN_HEAD = ("fc", "last_linear", "last_bn", "embedding")
"""What a base that is a face network calls the layers that make the embedding."""

POLICIES = "none, all-but-head, N-last-blocks (such as 3-last-blocks) or gradual"


def blocks(module: nn.Module, architecture: Mapping[str, Any]) -> list[Block]:
    """Return the parts of a network built from `architecture`, from the input on; the last is its head.

    The head is the one put on, else the base's own embedding layer.
    """
    if isinstance(module, Headed):
        own = _parts(module.base)
        return [part for part in own if _trained(part)] + [[module.head]]
    if str(architecture["base"]).startswith(TORCHVISION):
        raise UsageError(
            "this network has no embedding head to train", hint="put one on by its dim", advice="put_head_on"
        )
    return [part for part in _parts(module) if _trained(part)]


def _parts(module: nn.Module) -> list[Block]:
    """Return the children one by one, long chains by their links, and the own head, if any, as one part."""
    parts: list[Block] = []
    head: Block = []
    for name, child in module.named_children():
        if name in OWN_HEAD:
            head.append(child)
        elif isinstance(child, nn.Sequential) and len(list(child.children())) > 1:
            parts += [[link] for link in child.children()]
        else:
            parts.append([child])
    return [*parts, head] if head else parts


def learning_blocks(policy: str, count: int, epoch: int, epochs: int) -> int:
    """Return how many of `count` blocks, from the head down, learn in `epoch` (from 1) of `epochs`.

    `gradual` starts at the head and reaches the whole network half way. Raises `UsageError`.

    >>> [learning_blocks("gradual", 8, epoch, 8) for epoch in range(1, 9)]
    [1, 3, 6, 8, 8, 8, 8, 8]
    """
    if policy == "none":
        return count
    if policy == "all-but-head":
        return 1
    if policy == "gradual":
        half = max(1, epochs // 2)
        return max(1, min(count, math.ceil(count * (epoch - 1) / max(1, half - 1)))) if half > 1 else count
    last_blocks = re.fullmatch(r"(\d+)-last-blocks?", policy)
    if last_blocks is None:
        raise UsageError(f"unknown freezing '{policy}'", hint=f"choose {POLICIES}")
    return min(count, 1 + int(last_blocks[1]))


def apply(module: nn.Module, parts: list[Block], learning: int) -> None:
    """Let the last `learning` of `parts` learn and freeze everything else; all parts: nothing is frozen."""
    whole = learning >= len(parts)
    for parameter in module.parameters():
        parameter.requires_grad_(whole)
    if not whole:
        for part in parts[len(parts) - learning :]:
            for layer in part:
                layer.requires_grad_(True)


def train_mode(module: nn.Module, parts: list[Block], learning: int) -> None:
    """Put the learning parts into training mode and all else into evaluation mode."""
    whole = learning >= len(parts)
    module.train(whole)
    if not whole:
        for part in parts[len(parts) - learning :]:
            for layer in part:
                layer.train()


def trainable(module: nn.Module) -> int:
    """Return how many parameters learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _trained(part: Block) -> bool:
    return any(True for layer in part for _ in layer.parameters())
