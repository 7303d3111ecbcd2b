"""dlib's serialisation of its face recognition network: bytes in, folded filters out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecli.arrays import Array
from facecli.errors import WeightsMissing

INPUT_PX = 150


BLOCKS = (
    *[(32, False)] * 3,
    *[(64, True), *[(64, False)] * 3],
    *[(128, True), *[(128, False)] * 2],
    *[(256, True), *[(256, False)] * 2],
    (256, True),
)
"""(channels, halves the map) of each residual block."""


@dataclass(frozen=True)
class Weights:
    """The stem and two convolutions a block, each (filters [out, in, h, w], bias [out]); fc [128, 256].

    dlib's affine layers, x * gamma + beta per channel, are folded into the convolution before them.
    """

    convolutions: tuple[tuple[Array, Array], ...]
    fc: Array


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
