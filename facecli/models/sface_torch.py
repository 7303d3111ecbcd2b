"""SFace in torch: for training on top of it, for GPUs, and to check the ONNX graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facecli.models.sface_weights import Weights

MEAN = 127.5

SHAPES = (
    (3, 32, 1, 3),
    *(
        shape
        for inputs, outputs, stride in (
            *((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)),
            *[(512, 512, 1)] * 5,
            *((512, 1024, 2), (1024, 1024, 1)),
        )
        for shape in ((inputs, inputs, stride, 3), (inputs, outputs, 1, 1))
    ),
)
"""(inputs, outputs, stride, kernel) of each convolution; those of 3 x 3 but the first are depthwise."""


class SFaceNet(nn.Module):
    """Raw descriptor of a chip: float32 [N, 3, 112, 112], RGB in 0..255 -> float32 [N, 128], length about 13."""

    dim = 128
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for inputs, outputs, stride, kernel in SHAPES:
            groups = inputs if kernel == 3 and inputs == outputs else 1
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
            self.layers.append(nn.Sequential(convolution, nn.PReLU(outputs)))
        self.fc = nn.Linear(1024 * 7 * 7, self.dim)
        self.register_buffer("mean", torch.tensor(MEAN))

    @classmethod
    def from_weights(cls, weights: Weights) -> SFaceNet:
        """Return the network with OpenCV's weights, in eval mode."""
        module = cls()
        state = {"fc.weight": weights.dense, "fc.bias": weights.dense_bias}
        for k, layer in enumerate(weights.layers):
            state |= {f"layers.{k}.0.weight": layer.filters, f"layers.{k}.0.bias": layer.bias}
            state[f"layers.{k}.1.weight"] = layer.slope
        values = {name: torch.from_numpy(array).float() for name, array in state.items()}
        module.load_state_dict({**values, "mean": torch.tensor(weights.mean)})
        return module.eval()

    def forward(self, chips: Tensor) -> Tensor:
        x = self.layers(chips - self.mean)
        return self.fc(x.flatten(1))
