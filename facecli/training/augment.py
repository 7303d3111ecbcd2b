"""Augmentation: chips varied at random, so that a network learns people and not photographs.

What is done to each sample is drawn beforehand for the whole batch and applied sample by sample: processes
that share a batch draw the same and each apply their part.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from facecli.training.strengths import Augmentation

Chips = NDArray[np.uint8]

DRAWS = 14
"""Random numbers a sample uses."""


def draw(batch: int, generator: torch.Generator) -> Tensor:
    """Return the random numbers for a batch: float32 [B, DRAWS] in 0..1, to be divided like the batch."""
    return torch.rand(batch, DRAWS, generator=generator)


def augment(chips: Chips, how: Augmentation, chance: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return uint8 [B, S, S, 3] RGB chips as varied float32 [B, 3, S, S] in 0..255 on `device`.

    `chance` is [B, DRAWS] from `draw`. The same numbers give the same chips.
    """
    numbers = chance.to(device)
    if how.jpeg > 0:
        chips = _compressed(chips, how.jpeg, chance)
    x = torch.from_numpy(np.ascontiguousarray(chips)).to(device).permute(0, 3, 1, 2).float()
    x = _moved(x, how, numbers)
    if how.light > 0:
        x = _relit(x, how.light, numbers)
    if how.blur > 0:
        x = _blurred(x, how.blur, numbers)
    if how.occlusion > 0:
        x = _occluded(x, how.occlusion, numbers)
    return x


def _moved(x: Tensor, how: Augmentation, u: Tensor) -> Tensor:
    flipped = torch.where(u[:, 0] < how.flip, -1.0, 1.0)
    if max(how.shift, how.zoom, how.turn_degrees) == 0:
        # Exact, where resampling would blur.
        return torch.where(flipped[:, None, None, None] < 0, x.flip(3), x)
    scale = (1 + how.zoom) ** (2 * u[:, 1] - 1)
    angle = math.radians(how.turn_degrees) * (2 * u[:, 2] - 1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # A shift by a share of the side is twice as much in grid_sample's units, from -1 to 1.
    right, down = 2 * how.shift * (2 * u[:, 3] - 1), 2 * how.shift * (2 * u[:, 4] - 1)
    rows = (torch.stack([cos * flipped, -sin, right], 1), torch.stack([sin * flipped, cos, down], 1))
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _relit(x: Tensor, amount: float, u: Tensor) -> Tensor:
    brightness, contrast, saturation = (
        (1 + amount) ** (2 * u[:, k, None, None, None] - 1) for k in (5, 6, 7)
    )
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (mean + (x - mean) * contrast) * brightness
    # Rec. 601 luma.
    grey = (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return (grey + (x - grey) * saturation).clamp(0, 255)


def _blurred(x: Tensor, probability: float, u: Tensor) -> Tensor:
    chosen = (u[:, 8] < probability).nonzero()[:, 0]
    if len(chosen) == 0:
        return x
    radius = max(1, x.shape[-1] // 25)
    sigma = (0.1 + u[chosen, 8] / probability) * radius / 2
    steps = torch.arange(-radius, radius + 1, device=x.device)
    kernel = (-(steps**2) / (2 * sigma[:, None] ** 2)).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # [3 n, 2 radius + 1]
    planes = F.pad(x[chosen].flatten(0, 1)[None], [radius] * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=len(kernel))
    return x.index_copy(0, chosen, planes[0].unflatten(0, (-1, 3)))


def _occluded(x: Tensor, probability: float, u: Tensor) -> Tensor:
    size = x.shape[-1]
    # Sides of 15 to 45 percent, so at most a fifth of the area.
    height, width = (size * (0.15 + 0.3 * u[:, k]) for k in (9, 10))
    top, left = u[:, 11] * (size - height), u[:, 12] * (size - width)
    place = torch.arange(size, device=x.device)
    rows = (place >= top[:, None]) & (place < (top + height)[:, None])
    columns = (place >= left[:, None]) & (place < (left + width)[:, None])
    covered = rows[:, :, None] & columns[:, None, :] & (u[:, 13] < probability)[:, None, None]
    return torch.where(covered[:, None], 127.5, x)


def _compressed(chips: Chips, probability: float, u: Tensor) -> Chips:
    # Its number is that of the blur, read from the other end: a chip is not both.
    chosen = (u[:, 8] > 1 - probability).nonzero()[:, 0].tolist()
    changed = chips.copy()
    for k in chosen:
        quality = round(20 + 60 * (1 - float(u[k, 8])) / probability)
        buffer = io.BytesIO()
        PillowImage.fromarray(chips[k]).save(buffer, "JPEG", quality=quality)
        changed[k] = np.asarray(PillowImage.open(buffer))
    return changed
