"""The input contract of a network, and what a family of networks offers. Imports neither torch nor numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from facecli.errors import UsageError
from facecli.files.mirrors import Place

if TYPE_CHECKING:
    import torch

    from facecli.hooks import Notify
    from facecli.models.network import Network


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
    """The name of the family in `families.FAMILIES`."""
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
    upright_length: float | None = None
    """Below this length of the raw output a face may not be upright, or is spoiled; None where lengths say nothing.

    Where there is one, turned and flat photos are embedded as if they were upright and of full contrast; elsewhere
    photos are taken as they are.
    """
    warning: str = ""
    """Said whenever the model is used, where it is not fit for faces as it stands."""
    mirrors: tuple[Place, ...] = ()
    """Where the same weights are fetched from when `weights` fails."""
    size: int | None = None
    """Of the weights file in bytes; None where nobody says."""
    non_commercial: bool = False
    """Whether the weights' terms, or those of the data they were trained on, leave out commercial use."""
    accuracy: str = ""
    """A published figure and whose it is."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Return where the weights can be fetched from, nowhere where they are no download."""
        first = () if "://" not in self.weights else (Place(self.weights),)
        return (*first, *self.mirrors)


@dataclass(frozen=True)
class DetectorFile:
    """The weights of a face detector as others publish them: an ONNX file."""

    name: str
    places: tuple[Place, ...]
    sha256: str
    size: int
    licence: str
    non_commercial: bool
    accuracy: str


@dataclass(frozen=True)
class KnownAnswer:
    """A chip and the network's output for it: catches a wrong channel order or mean."""

    image: Path
    """`input_size` x `input_size` px, aligned as the contract says."""
    embedding: tuple[float, ...]


class Family(ABC):
    """Networks that are found, made and trained in one way; each of `families.FAMILIES` has one as its `FAMILY`."""

    trainable: ClassVar[bool] = True
    """Whether its networks have a torch form, from which training can start."""
    resizable: ClassVar[bool] = False
    """Whether its networks take chips of another size than their contract's, once trained on them."""
    needs_head: ClassVar[bool] = False
    """Whether its networks end in features, on which training has to put an embedding."""

    @abstractmethod
    def locate(self, spec: ModelSpec, cache_dir: Path) -> Path | None:
        """Return the weights file if it is on this machine, without fetching anything."""

    def download_path(self, spec: ModelSpec, cache_dir: Path) -> Path:
        """Return where weights that are a download are kept."""
        from facecli.files.download import weights_path

        return weights_path(spec.weights, cache_dir)

    @abstractmethod
    def network(
        self, spec: ModelSpec, cache_dir: Path, weights: Path | None, notify: Notify | None
    ) -> Network:
        """Return the network over weights that are on this machine; `weights` overrides where.

        Raises `WeightsMissing` saying how to get them.
        """

    def untrained(self, spec: ModelSpec) -> torch.nn.Module:
        """Return the network initialised by chance from torch's generator. Raises `UsageError` where none can be."""
        raise UsageError(f"the network '{spec.name}' cannot be built to be trained")

    def known_answer(self, spec: ModelSpec) -> KnownAnswer | None:
        """Return a chip and its embedding that came with the model, if any did."""
        return None

    def calibration_beside(self, spec: ModelSpec) -> Path | None:
        """Return where a calibration of the model's own would lie, if it can have one."""
        return None


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
    non_commercial: bool
    accuracy: str
    """A published figure and whose it is; "" where there is none."""


def contract_text(spec: ModelSpec) -> str:
    """Return the input contract of `spec` in one line.

    >>> from facecli.models.built_in import BUILT_IN
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
