"""The three networks of the MTCNN face detector: reads facenet-pytorch's weights, builds their ONNX graphs.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016).
The weights ship inside the facenet-pytorch wheel and are read without importing it or torch. On torch, that
package's own classes run. Inputs are RGB in 0..255: the normalisation (x - 127.5) / 128 is folded into the
first convolution.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from facecli.arrays import Array
from facecli.errors import WeightsMissing
from facecli.models.network import Network
from facecli.models.onnx_graph import Graph
from facecli.models.packaged import packaged, read_checked

if TYPE_CHECKING:
    import torch

_GRAPH_VERSION = "2"  # part of the cached graphs' names: raise it when `build_onnx` changes
PACKAGE = "facenet-pytorch<2.6"
_SCALE, _SHIFT = 1 / 128, -127.5 / 128
_CHANNEL_BLOCK = 16
"""ONNX Runtime's fast layout holds so many channels together, and takes a layer only if its channels fill blocks."""


@dataclass(frozen=True)
class Stage:
    """One network of the cascade: its convolutions with the pooling after each, then dense layers or heads.

    `pools` holds (kernel, stride) after each convolution but the last, or None. `heads` are the output
    layers, in the order in which they come out: face probability, box regression, landmarks.
    """

    name: str
    class_name: str
    input_px: int | None
    sha256: str
    pools: tuple[tuple[int, int] | None, ...]
    dense: str | None
    heads: tuple[str, ...]


PROPOSE = Stage(
    "pnet",
    "PNet",
    None,
    "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    ((2, 2), None, None),
    None,
    ("conv4_1", "conv4_2"),
)
REFINE = Stage(
    "rnet",
    "RNet",
    24,
    "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    ((3, 2), (3, 2), None),
    "dense4",
    ("dense5_1", "dense5_2"),
)
OUTPUT = Stage(
    "onet",
    "ONet",
    48,
    "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    ((3, 2), (3, 2), (2, 2), None),
    "dense5",
    ("dense6_1", "dense6_2", "dense6_3"),
)
STAGES = (PROPOSE, REFINE, OUTPUT)


def network(stage: Stage) -> Network:
    """Return one stage as a network: float32 [N, 3, H, W] in 0..255 -> probabilities [N, 2, ...], boxes [N, 4, ...].

    The last stage adds landmarks [N, 10] (five x, then five y), as shares of the box.
    """

    def module() -> torch.nn.Module:
        return _torch_module(stage)

    key = hashlib.sha256(f"mtcnn {_GRAPH_VERSION} {stage.sha256}".encode()).hexdigest()
    return Network(stage.name, key, onnx=lambda: build_onnx(stage, read_weights(stage)), torch=module)


def read_weights(stage: Stage) -> dict[str, Array]:
    """Return the stage's parameters by name; raises `WeightsMissing` when the file is absent or altered."""
    path = packaged(f"facenet_pytorch/data/{stage.name}.pt")
    if path is None:
        raise WeightsMissing("the face detector's weights are not installed", hint=f"pip install '{PACKAGE}'")
    return read_legacy_state(read_checked(path, stage.sha256, PACKAGE))


def read_legacy_state(data: bytes) -> dict[str, Array]:
    """Read a state dict that torch saved in its format before 1.6, with nothing but what such a file needs.

    Four pickles (magic number, protocol, system, the dict of tensors) name storages, a fifth lists their
    keys, and then each storage follows as an int64 count and float32 little-endian values.
    """
    file = BytesIO(data)
    tensors: dict[str, _Tensor] = {}
    for _ in range(4):
        tensors = _StateUnpickler(file).load()
    values = {}
    for key in _StateUnpickler(file).load():
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        values[key] = np.frombuffer(file.read(4 * count), "<f4")
    return {
        name: np.lib.stride_tricks.as_strided(
            values[tensor.storage][tensor.offset :],
            tensor.shape,
            [4 * stride for stride in tensor.strides],
            writeable=False,
        )
        for name, tensor in tensors.items()
    }


@dataclass(frozen=True)
class _Tensor:
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StateUnpickler(pickle.Unpickler):
    """Admits the three names a float32 state dict holds; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _Tensor(*arguments[:4]),
            ("torch", "FloatStorage"): "float32",
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong in a state dict")
        return known[module, name]

    def persistent_load(self, pid: Any) -> str:
        return pid[2]  # ("storage", type, key, location, count, view)


def build_onnx(stage: Stage, weights: dict[str, Array]) -> bytes:
    """Return the stage as a serialised ONNX model."""
    graph = Graph()

    def with_bias(operator: str, name: str, x: str, **attributes: Any) -> str:
        weight, bias = graph.constant(weights[f"{name}.weight"]), graph.constant(weights[f"{name}.bias"])
        return graph.node(operator, x, weight, bias, **attributes)

    def scaled(x: str, factors: Array) -> str:
        weight = graph.constant(factors.reshape(-1, 1, 1, 1))
        return graph.node("Conv", x, weight, group=len(factors))

    def prelu(x: str, index: int) -> str:
        # The operator of this name leaves the fast layout and takes longer than the convolutions. One of the
        # two terms is always 0, so the sum has the operator's bits.
        slope = weights[f"prelu{index}.weight"]
        below = graph.node("Relu", scaled(x, np.full_like(slope, -1)))
        return graph.node("Add", scaled(below, -slope), graph.node("Relu", x))

    first = weights["conv1.weight"]
    shift = weights["conv1.bias"] + first.sum(axis=(1, 2, 3)) * np.float32(_SHIFT)
    weights = {**weights, "conv1.weight": first * np.float32(_SCALE), "conv1.bias": shift}
    if stage.dense is not None:
        # The first network stays as it is: filled up, its sums would run in another order, for a gain of 4 %.
        weights = _filled(weights, len(stage.pools))
    x = "image"
    for index, pool in enumerate(stage.pools, start=1):
        x = prelu(with_bias("Conv", f"conv{index}", x), index)
        if pool is not None:
            kernel, stride = pool
            x = graph.node("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, ceil_mode=1)
    if stage.dense is not None:
        # The weights were trained in a column-major framework: width before height before channels.
        x = graph.node("Flatten", graph.node("Transpose", x, perm=[0, 3, 2, 1]))
        slope = graph.constant(weights[f"prelu{stage.dense[-1]}.weight"])
        x = graph.node("PRelu", with_bias("Gemm", stage.dense, x, transB=1), slope)
    outputs = []
    for head in stage.heads:
        y = with_bias("Conv", head, x) if stage.dense is None else with_bias("Gemm", head, x, transB=1)
        outputs.append(graph.node("Softmax", y, axis=1) if head.endswith("_1") else y)
    sizes = ["H", "W"] if stage.input_px is None else [stage.input_px] * 2
    return graph.serialised(stage.name, "image", ["N", 3, *sizes], outputs)


def _filled(weights: dict[str, Array], convolutions: int) -> dict[str, Array]:
    """Return the weights with channels of zeros added to each convolution but the last, up to whole blocks."""
    filled = dict(weights)
    for index in range(1, convolutions):
        more = -len(weights[f"conv{index}.weight"]) % _CHANNEL_BLOCK
        for name in (f"conv{index}.weight", f"conv{index}.bias", f"prelu{index}.weight"):
            filled[name] = np.pad(filled[name], [(0, more)] + [(0, 0)] * (filled[name].ndim - 1))
        following = f"conv{index + 1}.weight"
        filled[following] = np.pad(filled[following], [(0, 0), (0, more), (0, 0), (0, 0)])
    return filled


def _torch_module(stage: Stage) -> torch.nn.Module:
    import torch
    from facenet_pytorch.models import mtcnn

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = getattr(mtcnn, stage.class_name)()

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            # facenet-pytorch puts the probabilities last.
            *rest, probabilities = self.inner(image * _SCALE + _SHIFT)
            return (probabilities, *rest)

    return Normalised().eval()
