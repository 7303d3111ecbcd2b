"""OpenCV's SFace file: bytes in, folded filters out.

The network (Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", 2021) has the
body of MobileNet: a convolution and 13 pairs of a depthwise and a pointwise one, each with batch norm and PReLU, and
one fully connected layer. The file keeps its weights as int8 blocks with a scale and a zero each, which its graph
dequantises at every run, and lists constants and leftovers of the quantiser as inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecli.errors import WeightsMissing
from facecli.models.onnx_reader import ReadGraph, Values

INPUT_PX = 112

LAYERS = ("conv_1", *(f"conv_{k}{part}" for k in range(2, 15) for part in ("_dw", "")))


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of padding half its kernel, and the PReLU after it."""

    filters: Values
    """[out, in / groups, k, k]"""
    bias: Values
    slope: Values
    stride: int
    groups: int


@dataclass(frozen=True, eq=False)
class Weights:
    """The network over RGB in 0..255; batch norms are folded into the layers before them, in float64."""

    layers: tuple[Layer, ...]
    dense: Values
    """[128, channels x rows x columns]"""
    dense_bias: Values
    mean: float
    """Subtracted from the chip first, so that padding is of that grey and not black."""


def parse(data: bytes, path: Path) -> Weights:
    """Read OpenCV's file, as floats or in blocks of int8; raises `WeightsMissing` when it is something else."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = ReadGraph(onnx.load_from_string(data))
        subtract, scale = (graph.constant(graph.only(kind).input[1]).item() for kind in ("Sub", "Mul"))
        layers = [_layer(graph, name) for name in LAYERS]
        first = layers[0]
        layers[0] = Layer(first.filters * scale, first.bias, first.slope, first.stride, first.groups)
        dense, dense_bias = _dense(graph)
    except (DecodeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise WeightsMissing(
            f"not OpenCV's SFace network ({error})",
            path=path,
            hint="name face_recognition_sface_2021dec_int8bq.onnx",
        ) from error
    return Weights(tuple(layers), dense, dense_bias, float(subtract))


def _norm(graph: ReadGraph, name: str) -> tuple[Values, Values]:
    """Return the batch norm of this name as (factor, shift) of each channel."""
    node = graph.nodes[name]
    gamma, beta, mean, variance = (graph.constant(one) for one in node.input[1:])
    factor = gamma / np.sqrt(variance + graph.attributes(node)["epsilon"])
    return factor, beta - mean * factor


def _layer(graph: ReadGraph, name: str) -> Layer:
    node = graph.nodes[f"{name}_conv2d"]
    settings = graph.attributes(node)
    filters = graph.constant(node.input[1])
    factor, shift = _norm(graph, f"{name}_batchnorm")
    slope = graph.constant(f"{name}_relu_gamma").ravel()
    if len(slope) != len(filters) or len(node.input) != 2:
        raise ValueError(f"{name} has another form")
    return Layer(
        filters * factor[:, None, None, None], shift, slope, settings["strides"][0], settings["group"]
    )


def _dense(graph: ReadGraph) -> tuple[Values, Values]:
    """Return the last layer with the batch norms on both sides of it."""
    node = graph.nodes["pre_fc1"]
    dense, bias = graph.constant(node.input[1]), graph.constant(node.input[2])
    (before, shift), (after, end) = _norm(graph, "bn1"), _norm(graph, "fc1")
    pixels = dense.shape[1] // len(before)
    bias = bias + dense.reshape(len(dense), len(before), pixels).sum(axis=2) @ shift
    return dense * np.repeat(before, pixels) * after[:, None], bias * after + end
