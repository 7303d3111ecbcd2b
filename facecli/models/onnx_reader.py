"""Reads constants out of ONNX graphs: as they lie there, or dequantised from blocks of int8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Values = NDArray[np.float64]


class ReadGraph:
    """A graph by the names of its values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.nodes = {node.output[0]: node for node in model.graph.node}
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def only(self, operator: str) -> onnx.NodeProto:
        """Return the one node of this kind."""
        (node,) = (node for node in self.nodes.values() if node.op_type == operator)
        return node

    def attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        """Return a node's settings by name."""
        from onnx import helper

        return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def constant(self, name: str) -> Values:
        """Return a constant as float64, dequantised and in its shape; raises `KeyError` for what is none."""
        if name in self._constants:
            return self._constants[name].astype(np.float64)
        node = self.nodes[name]
        inputs = [self.constant(one) for one in node.input]
        if node.op_type == "Reshape":
            return inputs[0].reshape(inputs[1].astype(int).tolist())
        if node.op_type != "DequantizeLinear":
            raise KeyError(f"{name} is no constant")
        settings = self.attributes(node)
        return dequantised(*inputs, block=settings.get("block_size", 0), axis=settings.get("axis", 1))


def dequantised(codes: Values, scales: Values, zeros: Values, *, block: int, axis: int) -> Values:
    """Return (code - zero) * scale: each scale and zero holds for `block` codes along `axis`, all of it for block 0.

    ONNX's DequantizeLinear rounds the product to float32, and so does this.
    """

    def spread(values: Values) -> Values:
        if not block or not values.ndim:
            return values
        return np.repeat(values, block, axis).take(range(codes.shape[axis]), axis)

    return ((codes - spread(zeros)) * spread(scales)).astype(np.float32).astype(np.float64)
