"""The family of FaceNet models: facenet-pytorch's own InceptionResnetV1 with weights that facecli fetches.

The class is used as it is; its constructor's download (no checksum, no resume) is not. Output: unit rows,
float32 [N, 512].
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.files.download import check, file_digest, not_here, recorded_digest, weights_path
from facecli.hooks import Notify
from facecli.models.network import Network
from facecli.models.spec import Family, ModelSpec

if TYPE_CHECKING:
    import torch

GRAPH = "facenet 1"
"""Raise it when the exported graph changes, so that older exports are not taken for it."""


class FaceNet(Family):
    """InceptionResnetV1 with the published weights of one data set or another."""

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the downloaded weights, or None."""
        path = weights_path(spec.weights, cache_dir)
        return path if path.is_file() else None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return InceptionResnetV1 over `weights`, or over the downloaded file.

        A file given as `weights` must have the digest of the spec where there is one. Raises `WeightsMissing`.
        """
        path = weights if weights is not None else self.locate(spec, cache_dir)
        if path is None:
            raise not_here(spec.name, spec.weights, weights_path(spec.weights, cache_dir))
        if weights is not None:
            # The user's own folder: nothing is recorded beside the file, so its digest has to be taken each time.
            digest = check(path, spec.sha256) if spec.sha256 is not None else file_digest(path)
        else:
            known = spec.sha256 if spec.sha256 is not None else recorded_digest(path)
            digest = known if known is not None else check(path, None)

        def module() -> torch.nn.Module:
            check(path, digest)
            return build(path)

        def onnx() -> bytes:
            from facecli.models.torch_export import to_onnx

            return to_onnx(_fused(module()), 3, spec.input_size)

        key = hashlib.sha256(f"{GRAPH} {digest}".encode()).hexdigest()
        return Network(spec.name, key, onnx, module)

    def untrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the network, initialised by chance."""
        return build()


FAMILY = FaceNet()


def build(weights: Path | None = None) -> torch.nn.Module:
    """Return InceptionResnetV1 in eval mode, with `weights` or initialised by chance.

    The classification layer that the published files carry (`logits.*`) is left out.
    """
    from facenet_pytorch import InceptionResnetV1

    module = InceptionResnetV1(pretrained=None, classify=False)
    if weights is None:
        return module.eval()
    from facecli.models.torch_export import load_state

    return load_state(module, weights, skip=lambda name: name.startswith("logits."))


def _fused(module: torch.nn.Module) -> torch.nn.Module:
    """Fold each batch norm into the convolution before it, as ONNX Runtime would; exporting takes a third less."""
    from facenet_pytorch.models.inception_resnet_v1 import BasicConv2d
    from torch.nn import Identity
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for block in module.modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = Identity()
    return module
