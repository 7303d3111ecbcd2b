"""dlib's face recognition ResNet: reads its weights, builds its ONNX graph. Needs no torch.

The network (dlib's `dlib_face_recognition_resnet_model_v1`): a 7x7/2 stem, 14 residual blocks in five
groups of 32, 64, 128, 256 and 256 channels, global average, one fully connected layer without bias. Its
weights come inside the package `face_recognition_models`; `dlib_resnet.py` has the same network in torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facecli.engine import Array, Network, Notify
from facecli.errors import WeightsMissing
from facecli.models.onnx_graph import Graph

if TYPE_CHECKING:
    import torch

    from facecli.models.registry import ModelSpec

INPUT_PX = 150
BLOCKS = (
    *[(32, False)] * 3,
    *[(64, True), *[(64, False)] * 3],
    *[(128, True), *[(128, False)] * 2],
    *[(256, True), *[(256, False)] * 2],
    (256, True),
)
"""(channels, halves the map) of each residual block."""

_GRAPH_VERSION = "1"  # part of the cached graph's name: raise it when `build_onnx` changes


@dataclass(frozen=True)
class Weights:
    """The stem and two convolutions a block, each (filters [out, in, h, w], bias [out]); fc [128, 256].

    dlib's affine layers, x * gamma + beta per channel, are folded into the convolution before them.
    """

    convolutions: tuple[tuple[Array, Array], ...]
    fc: Array


def locate(spec: ModelSpec, cache_dir: Path) -> Path | None:
    """Return the weights file inside the installed package, found without importing the package.

    Its own `__init__` imports `pkg_resources`, which today's setuptools no longer has.
    """
    package, _, inside = spec.weights.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inside
    return path if path.is_file() else None


def network(spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None) -> Network:
    """Return the network; the weights are read, and checked against `spec.sha256`, only when it is built."""
    path = weights if weights is not None else locate(spec, cache_dir)
    if path is None:
        raise WeightsMissing(
            f"the weights of '{spec.name}' are not installed",
            hint="pip install face_recognition_models",
        )
    own = weights is None and spec.sha256 is not None
    digest = spec.sha256 if own else hashlib.sha256(path.read_bytes()).hexdigest()

    def checked() -> Weights:
        data = path.read_bytes()
        if own and hashlib.sha256(data).hexdigest() != spec.sha256:
            raise WeightsMissing(
                "the file is not the one this version knows (its SHA-256 differs)",
                path=path,
                hint="pip install --force-reinstall face_recognition_models",
            )
        return parse(data, path)

    def module() -> torch.nn.Module:
        from facecli.models.dlib_resnet import DlibResNet

        return DlibResNet.from_weights(checked())

    key = hashlib.sha256(f"dlib {_GRAPH_VERSION} {digest}".encode()).hexdigest()
    return Network(spec.name, key, onnx=lambda: build_onnx(checked()), torch=module)


def parse(data: bytes, path: Path) -> Weights:
    """Read dlib's serialisation of the network; raises `WeightsMissing` when it is something else.

    Layers come input first, each announced by a length-prefixed tag. An integer is a head byte (low four bits
    its byte count, 0x80 its sign) and that many little-endian bytes; a tensor is the version 2, four
    integers, and float32 little-endian values.
    """
    try:
        layers = list(_layers(data))
        filters = [layer for layer in layers if layer[0] == b"con_"]
        affines = [layer for layer in layers if layer[0] == b"affine_"]
        (_, fc_values, fc_shape), *_ = [layer for layer in layers if layer[0] == b"fc_"]
        convolutions = []
        channels = 3
        for (_, values, shape), (_, scale, _) in zip(filters, affines, strict=True):
            count, height, width = shape[:3]
            weight = values[: count * channels * height * width].reshape(count, channels, height, width)
            bias = values[weight.size :]
            gamma, beta = scale[:count].astype(np.float64), scale[count:]
            convolutions.append(
                (
                    (weight * gamma[:, None, None, None]).astype(np.float32),
                    (bias * gamma + beta).astype(np.float32),
                )
            )
            channels = count
        if len(convolutions) != 1 + 2 * len(BLOCKS):
            raise ValueError(f"{len(convolutions)} convolutions")
        outputs, inputs = fc_shape[:2]
        fc = fc_values.reshape(inputs, outputs).T.copy()
    except (ValueError, IndexError) as error:
        raise WeightsMissing(f"not dlib's face recognition network ({error})", path=path) from error
    return Weights(tuple(convolutions), fc)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    count = data[at] & 0x0F
    value = int.from_bytes(data[at + 1 : at + 1 + count], "little")
    return (-value if data[at] & 0x80 else value), at + 1 + count


def _layers(data: bytes) -> Iterator[tuple[bytes, Array, list[int]]]:
    """Yield (tag, values of the parameter tensor, the integers after it) for each layer with parameters."""
    at = 0
    while True:
        tags = {tag: data.find(tag, at) for tag in (b"con_", b"affine_", b"fc_")}
        here = {tag: place for tag, place in tags.items() if place >= 0}
        if not here:
            return
        tag = min(here, key=lambda name: here[name])
        at = here[tag]
        length = data[at - 1]
        at += length
        if tag == b"fc_":  # its sizes stand before its parameters
            outputs, at = _integer(data, at)
            inputs, at = _integer(data, at)
            values, at = _tensor(data, at)
            yield tag, values, [outputs, inputs]
            continue
        values, at = _tensor(data, at)
        numbers = []
        for _ in range(7 if tag == b"con_" else 0):
            number, at = _integer(data, at)
            numbers.append(number)
        yield tag, values, numbers


def _tensor(data: bytes, at: int) -> tuple[Array, int]:
    version, at = _integer(data, at)
    if version != 2:
        raise ValueError(f"tensor version {version} at byte {at}")
    size = 1
    for _ in range(4):
        number, at = _integer(data, at)
        size *= number
    return np.frombuffer(data, "<f4", size, at), at + 4 * size


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
