"""From a model's name to its input contract and its network. Imports neither torch nor numpy.

A name is one of `BUILT_IN`, `torchvision:NAME`, the path of an `.onnx` file with its contract beside it, or
the path of a checkpoint that facecli saved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.errors import NoSuchFile, UsageError, WeightsMissing, did_you_mean
from facecli.models.built_in import BUILT_IN, TORCHVISION
from facecli.models.families import family
from facecli.models.spec import ModelSpec, ModelStatus, contract_text

if TYPE_CHECKING:
    from facecli.hooks import Notify
    from facecli.models.network import Network


def resolve(name: str) -> ModelSpec:
    """Return the input contract of the model called `name`.

    A built-in name never means a file of the same name. Raises `UsageError` for an unknown name, `NoSuchFile`
    for a path that is not there and `BadInput` for a contract that cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.startswith(TORCHVISION):
        from facecli.models import torchvision

        return torchvision.read_spec(name)
    path = Path(name)
    if name.lower().endswith(".onnx"):
        from facecli.models import onnx_file

        return onnx_file.read_spec(path)
    from facecli.models import checkpoint

    if checkpoint.is_checkpoint(path):
        return checkpoint.read_spec(path)
    if path.exists():
        raise UsageError(
            "this is neither an .onnx file nor a checkpoint that facecli saved",
            path=path,
            hint=f"a checkpoint is a folder with a {checkpoint.CONTRACT} and its weights",
        )
    if "/" in name or "\\" in name:
        raise NoSuchFile("no such model file or checkpoint folder", path=path)
    raise _unknown(name)


def _unknown(name: str) -> UsageError:
    known = f"known are {', '.join(BUILT_IN)}, torchvision:NAME, an .onnx file or a checkpoint folder"
    return UsageError(f"unknown model '{name}'", hint=f"{did_you_mean(name, BUILT_IN)} {known}".lstrip())


def load_network(
    spec: ModelSpec,
    *,
    cache_dir: Path,
    weights: Path | None = None,
    notify: Notify | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Network:
    """Return the network of `spec`, fetching its weights first where they are a download not yet here.

    `weights` is a file to use instead. `progress` hears bytes done and bytes in all (None when unknown).
    Raises `WeightsMissing` when the weights can be neither found nor fetched, or fail their checksum.
    """
    own = family(spec)
    if weights is not None and not weights.is_file():
        raise WeightsMissing("no such weights file", path=weights)
    if weights is None and "://" in spec.weights and own.locate(spec, cache_dir) is None:
        from facecli.files import download

        target = download.weights_path(spec.weights, cache_dir)
        download.fetch(spec.weights, target, sha256=spec.sha256, progress=progress, notify=notify)
    return own.network(spec, cache_dir, weights, notify)


def describe(spec: ModelSpec, cache_dir: Path) -> ModelStatus:
    """Return what `facecli models` shows of `spec`; fetches and exports nothing."""
    from facecli.models.runtime import onnx_path

    own = family(spec)
    here = own.locate(spec, cache_dir)
    exported = here is not None and onnx_path(own.network(spec, cache_dir, None, None), cache_dir).is_file()
    return ModelStatus(
        name=spec.name,
        dim=spec.dim,
        contract=contract_text(spec),
        licence=spec.licence,
        weights=str(here) if here is not None else spec.weights,
        here=here is not None,
        exported=exported,
        warning=spec.warning,
    )
