"""dlib's face recognition ResNet in torch: for training on top of it, for GPUs, and to check the ONNX graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from facecli.models.dlib_weights import BLOCKS, Weights


class Block(nn.Module):
    """Two 3x3 convolutions and a skip; what is smaller, branch or skip, is zero-padded at its end."""

    def __init__(self, inputs: int, channels: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.first = nn.Conv2d(inputs, channels, 3, stride=2 if halves else 1, padding=0 if halves else 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(F.relu(self.first(x)))
        skip = F.avg_pool2d(x, 2) if self.halves else x
        size = [max(a, b) for a, b in zip(branch.shape[1:], skip.shape[1:], strict=True)]
        return F.relu(_grown(branch, size) + _grown(skip, size))


class DlibResNet(nn.Module):
    """Raw descriptor of a normalised chip: float32 [N, 3, 150, 150] -> float32 [N, 128], norm 1.3 to 1.5."""

    dim = 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        widths = [32, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(
                Block(width, channels, halves)
                for width, (channels, halves) in zip(widths, BLOCKS, strict=False)
            )
        )
        self.fc = nn.Linear(256, self.dim, bias=False)

    @classmethod
    def from_weights(cls, weights: Weights) -> DlibResNet:
        """Return the network with dlib's weights, in eval mode."""
        module = cls()
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        state = {"fc.weight": weights.fc}
        names = {layer: name for name, layer in module.named_modules()}
        for layer, (filters, bias) in zip(layers, weights.convolutions, strict=True):
            state |= {f"{names[layer]}.weight": filters, f"{names[layer]}.bias": bias}
        module.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()})
        return module.eval()

    def forward(self, chips: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(chips)), 3, 2)
        x = self.blocks(x)  # [N, 256, 2, 2]
        return self.fc(x.mean(dim=(2, 3)))


def _grown(x: Tensor, size: list[int]) -> Tensor:
    channels, height, width = (want - have for want, have in zip(size, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x
