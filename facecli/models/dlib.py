"""dlib's face recognition ResNet: reads its weights, builds its ONNX graph. Needs no torch.

The network (dlib's `dlib_face_recognition_resnet_model_v1`): a 7x7/2 stem, 14 residual blocks in five
groups of 32, 64, 128, 256 and 256 channels, global average, one fully connected layer without bias. Its
weights come inside the package `face_recognition_models`; `dlib_torch.py` has the same network in torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facecli.errors import WeightsMissing
from facecli.hooks import Notify
from facecli.models.dlib_weights import BLOCKS, INPUT_PX, Weights, parse
from facecli.models.network import Network
from facecli.models.onnx_graph import Graph
from facecli.models.packaged import packaged, read_checked
from facecli.models.spec import Family, ModelSpec

if TYPE_CHECKING:
    import torch


_GRAPH_VERSION = "1"  # part of the cached graph's name: raise it when `build_onnx` changes


PACKAGE = "face_recognition_models"


class Dlib(Family):
    """The one network of dlib, inside an installed package."""

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights file inside the installed package, or None."""
        return packaged(spec.weights)

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network; the weights are read, and checked against `spec.sha256`, only when it is built."""
        path = weights if weights is not None else self.locate(spec, cache_dir)
        if path is None:
            raise WeightsMissing(
                f"the weights of '{spec.name}' are not installed",
                hint="pip install 'facecli[dlib]'",
            )
        own = weights is None and spec.sha256 is not None
        digest = str(spec.sha256) if own else hashlib.sha256(path.read_bytes()).hexdigest()

        def checked() -> Weights:
            return parse(read_checked(path, digest, PACKAGE), path)

        def module() -> torch.nn.Module:
            from facecli.models.dlib_torch import DlibResNet

            return DlibResNet.from_weights(checked())

        key = hashlib.sha256(f"dlib {_GRAPH_VERSION} {digest}".encode()).hexdigest()
        return Network(spec.name, key, onnx=lambda: build_onnx(checked()), torch=module)

    def untrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the network, initialised by chance."""
        from facecli.models.dlib_torch import DlibResNet

        return DlibResNet()


FAMILY = Dlib()


def build_onnx(weights: Weights) -> bytes:
    """Return the network as a serialised ONNX model: float32 [N, 3, 150, 150] -> raw descriptors [N, 128]."""
    graph = Graph()
    parameters = iter(weights.convolutions)

    def convolution(x: str, stride: int, padding: int) -> str:
        filters, bias = (graph.constant(values) for values in next(parameters))
        return graph.node("Conv", x, filters, bias, strides=[stride] * 2, pads=[padding] * 4)

    def grown(x: str, by_channels: int, by_px: int) -> str:
        if by_channels == by_px == 0:
            return x
        ends = np.array([0, 0, 0, 0, 0, by_channels, by_px, by_px], np.int64)
        return graph.node("Pad", x, graph.constant(ends))

    x = graph.node("Relu", convolution("chip", stride=2, padding=0))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    width, size = 32, 35
    for channels, halves in BLOCKS:
        branch_size = (size - 3) // 2 + 1 if halves else size
        skip_size = size // 2 if halves else size
        branch = convolution(x, stride=2 if halves else 1, padding=0 if halves else 1)
        branch = convolution(graph.node("Relu", branch), stride=1, padding=1)
        skip = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]) if halves else x
        size = max(branch_size, skip_size)
        branch = grown(branch, 0, size - branch_size)
        skip = grown(skip, channels - width, size - skip_size)
        x = graph.node("Relu", graph.node("Add", branch, skip))
        width = channels
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    raw = graph.node("MatMul", x, graph.constant(weights.fc.T))
    return graph.serialised("dlib_resnet", "chip", ["N", 3, INPUT_PX, INPUT_PX], [raw])
