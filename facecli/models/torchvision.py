"""Any torchvision classification network with its classifier cut off: a base to train on, not a face model.

The name is `torchvision:NAME`. Weights are torchvision's own for ImageNet, looked for in torch hub's folder and
fetched into facecli's cache; their file names carry the first digits of their SHA-256, which are checked.
torchvision is asked for the input size, the normalisation and the dimension, so even resolving a name imports
torch.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
import torchvision
from torch import nn

from facecli.errors import UsageError, did_you_mean
from facecli.files import download
from facecli.hooks import Notify
from facecli.models.built_in import BUILT_IN, TORCHVISION
from facecli.models.network import Network
from facecli.models.spec import Family, ModelSpec
from facecli.models.torch_export import load_state, to_onnx

GRAPH = "torchvision 1"
"""Raise it when the cut or the exported graph changes, so that older exports are not taken for it."""

WARNING = (
    "this network was trained on ImageNet, whose features do not tell people apart; train it on faces first"
)

# The auxiliary classifiers serve ImageNet training alone and make the network return tuples. Both published
# files come from TensorFlow and want its input range, which `transform_input` makes of torchvision's.
OPTIONS: dict[str, dict[str, bool]] = {
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": True},
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": True},
}
AUXILIARY = re.compile(r"(AuxLogits|aux1|aux2)\.")


def read_spec(name: str) -> ModelSpec:
    """Return the input contract of `torchvision:NAME`. Raises `UsageError` for a name torchvision lacks."""
    short = _known(name)
    weights = _weights(short)
    transforms = weights.transforms()
    size = transforms.crop_size[0]
    _, dim = _cut(_uncut(short))
    dlib = BUILT_IN["dlib"]
    template = dlib.template if dlib.template is not None else ()
    return ModelSpec(
        name=TORCHVISION + short,
        family="torchvision",
        dim=dim,
        input_size=size,
        # These networks know no faces, so no crop is theirs; the default model's is as good as any.
        template=tuple((x * size / dlib.input_size, y * size / dlib.input_size) for x, y in template),
        channel_order="RGB",
        mean=_of_255(transforms.mean),
        std=_of_255(transforms.std),
        mirror=False,
        weights=weights.url,
        sha256=_digits(weights.url),
        licence="BSD-3-Clause (code); weights trained on ImageNet, whose images are for research",
        warning=WARNING,
    )


class Torchvision(Family):
    """torchvision's classification networks, cut."""

    resizable = True
    needs_head = True

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights in torch hub's folder or in facecli's cache, or None."""
        for path in (_hub_path(spec.weights), download.weights_path(spec.weights, cache_dir)):
            if path.is_file():
                return path
        return None

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the cut network over ImageNet weights that are here, or over `weights`.

        `weights` is a torchvision state dict of the whole classifier. Raises `WeightsMissing`.
        """
        short = _known(spec.name)
        path = weights if weights is not None else self.locate(spec, cache_dir)
        if path is None:
            raise download.not_here(spec.name, spec.weights, download.weights_path(spec.weights, cache_dir))
        digest = download.check(path, spec.sha256) if weights is None else download.file_digest(path)

        def module() -> nn.Module:
            return _cut(_loaded(short, path))[0].eval()

        def onnx() -> bytes:
            return to_onnx(module(), 3, spec.input_size)

        key = hashlib.sha256(f"{GRAPH} {short} {digest}".encode()).hexdigest()
        return Network(short, key, onnx, module)


FAMILY = Torchvision()


def backbone(name: str) -> tuple[nn.Module, int]:
    """Return the network called `name` (with or without `torchvision:`) less its classifier, and its dimension.

    The module maps float32 [N, 3, S, S] to [N, D] and is initialised by chance from torch's generator. Raises
    `UsageError` for an unknown name.
    """
    return _cut(_uncut(_known(name)))


def _known(name: str) -> str:
    short = name.removeprefix(TORCHVISION)
    known = torchvision.models.list_models(module=torchvision.models)
    if short in known:
        return short
    hint = did_you_mean(short, known, most=3) or f"known are {', '.join(known)}"
    raise UsageError(f"torchvision has no classification network '{short}'", hint=hint)


def _weights(short: str) -> torchvision.models.WeightsEnum:
    return torchvision.models.get_model_weights(short).DEFAULT


def _uncut(short: str) -> nn.Module:
    return torchvision.models.get_model(short, weights=None, **OPTIONS.get(short, {}))


def _loaded(short: str, path: Path) -> nn.Module:
    return load_state(_uncut(short), path, skip=lambda name: AUXILIARY.match(name) is not None)


def _cut(module: nn.Module) -> tuple[nn.Module, int]:
    """Replace the classifier, which in every torchvision network is the last layer with weights, by nothing.

    It is a Linear, but for squeezenet's 1x1 convolution in front of the pooling.
    """
    name, last = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())
    return module, last.in_features if isinstance(last, nn.Linear) else last.in_channels


def _hub_path(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _digits(url: str) -> str | None:
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", url)
    return digits[1] if digits is not None else None


def _of_255(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (value * 255 for value in values)
    return red, green, blue
