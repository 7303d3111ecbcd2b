"""From a model's name to its input contract and its network. Imports neither torch nor numpy.

A name is one of `BUILT_IN`, `torchvision:NAME`, one that an ONNX file was added as, the path of an `.onnx` file
with its contract beside it, or the path of a checkpoint that facecli saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facecli.config import default_user_dir
from facecli.errors import NoSuchFile, UsageError, WeightsMissing, did_you_mean
from facecli.models.built_in import BUILT_IN, DETECTOR_FILES, EVERYDAY, TORCHVISION
from facecli.models.families import family
from facecli.models.spec import DetectorFile, ModelSpec, ModelStatus, contract_text

if TYPE_CHECKING:
    from facecli.hooks import Notify
    from facecli.models.network import Network


def resolve(name: str, user_dir: Path | None = None) -> ModelSpec:
    """Return the input contract of the model called `name`.

    A built-in name, or one that was added to `user_dir` (None is the platform's folder), never means a file of the
    same name. Raises `UsageError` for an unknown name, `NoSuchFile`
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
    from facecli.models import added

    user_dir = user_dir if user_dir is not None else default_user_dir()
    own = added.path_of(name, user_dir)
    if own is not None:
        from facecli.models import onnx_file

        return replace(onnx_file.read_spec(own), name=name)
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
    raise _unknown(name, added.names(user_dir))


def _unknown(name: str, added: list[str]) -> UsageError:
    likely = EVERYDAY.get(name.lower().replace(" ", "").replace("-", "_"))
    meant = (
        f"here it is {' or '.join(map(repr, likely))};" if likely else did_you_mean(name, [*BUILT_IN, *added])
    )
    known = (
        f"known are {', '.join([*BUILT_IN, *added])}, torchvision:NAME, an .onnx file or a checkpoint folder"
    )
    return UsageError(f"unknown model '{name}'", hint=f"{meant} {known}".lstrip())


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
    if weights is None and spec.places and own.locate(spec, cache_dir) is None:
        target = own.download_path(spec, cache_dir)
        _fetch(spec, target, notify=notify, progress=progress)
    return own.network(spec, cache_dir, weights, notify)


def fetch_weights(
    name: str,
    *,
    cache_dir: Path,
    user_dir: Path | None = None,
    notify: Notify | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[ModelSpec | DetectorFile, Path]:
    """Put the weights of the model or the detector's file called `name` on this machine; return what and where.

    What is there already is checked. Raises `UsageError` for an unknown name and `WeightsMissing`.
    """
    from facecli.files.download import check

    if name in DETECTOR_FILES:
        file = DETECTOR_FILES[name]
        target = detector_path(file, cache_dir)
        if not target.is_file():
            return file, _fetch(file, target, notify=notify, progress=progress)
        check(target, file.sha256)
        return file, target
    spec = resolve(name, user_dir)
    own = family(spec)
    path = own.locate(spec, cache_dir)
    if path is None and spec.places:
        return spec, _fetch(spec, own.download_path(spec, cache_dir), notify=notify, progress=progress)
    if path is None:
        # A package brings them: the error says which.
        own.network(spec, cache_dir, None, notify)
        raise WeightsMissing(f"the weights of '{name}' are no download")
    check(path, spec.sha256)
    return spec, path


def detector_path(file: DetectorFile, cache_dir: Path) -> Path:
    """Return where the weights of a detector are kept."""
    return cache_dir / "weights" / f"{file.name}-{file.sha256[:8]}.onnx"


def _fetch(
    what: ModelSpec | DetectorFile,
    target: Path,
    *,
    notify: Notify | None,
    progress: Callable[[int, int | None], None] | None,
) -> Path:
    from facecli.files.mirrors import fetch_any

    if what.non_commercial and notify is not None:
        notify(f"the weights of '{what.name}' are not for commercial use: {what.licence}")
    return fetch_any(
        what.places, target, sha256=what.sha256, size=what.size, progress=progress, notify=notify
    )


def terms_of(sha256: str) -> ModelSpec | DetectorFile | None:
    """Return the known weights of this digest, whose licence holds wherever the file was found and however named."""
    files: list[ModelSpec | DetectorFile] = [*BUILT_IN.values(), *DETECTOR_FILES.values()]
    return next((file for file in files if file.sha256 == sha256), None)


def describe(spec: ModelSpec, cache_dir: Path) -> ModelStatus:
    """Return what `facecli models` shows of `spec`; fetches and exports nothing."""
    from facecli.files.download import file_digest
    from facecli.models.runtime import onnx_path

    own = family(spec)
    here = own.locate(spec, cache_dir)
    exported = here is not None and onnx_path(own.network(spec, cache_dir, None, None), cache_dir).is_file()
    # What a copy's owner writes beside it does not change its terms.
    terms = terms_of(file_digest(here)) if here is not None and spec.sha256 is None else None
    terms = spec if terms is None else terms
    return ModelStatus(
        name=spec.name,
        dim=spec.dim,
        contract=contract_text(spec),
        licence=terms.licence,
        weights=str(here) if here is not None else spec.places[0].url if spec.places else spec.weights,
        here=here is not None,
        exported=exported,
        warning=spec.warning,
        non_commercial=terms.non_commercial,
        accuracy=terms.accuracy,
    )
