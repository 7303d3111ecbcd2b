"""Everything that a training run is told, with its defaults. Nothing heavy is imported: `--help` shows them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from facecli.config import DEFAULT_FACES, DEFAULT_MODEL, Detection, PickedFacePolicy
from facecli.training.losses.table import Distance

Optimizer = Literal["adamw", "sgd"]
Precision = Literal["float32", "bfloat16", "float16"]
"""Of the network, by torch's names; the loss is always float32 or wider."""


@dataclass(frozen=True)
class TrainConfig:
    """One run. None means: what fits the base or the loss (see `recipe`)."""

    data: Path
    """A folder of images per subject, or a folder with MNIST's idx files."""
    out: Path
    also: tuple[Path, ...] = ()
    """Further folders to train on, each from a source of its own."""
    base: str = DEFAULT_MODEL
    """sface, dlib, vggface2, casia-webface, torchvision:NAME, small-cnn or a checkpoint's folder."""
    pretrained: bool = True
    """Start from the base's published weights; small-cnn has none."""
    weights: Path | None = None
    """A file to use in place of the base's published weights."""
    dim: int | None = None
    """Put a new embedding head of this size on the base."""
    input_size: int | None = None
    """Side of a chip in px, where the network allows it."""
    width: int = 32
    """Channels of small-cnn's first stage."""
    aligned: bool = False
    faces: PickedFacePolicy = DEFAULT_FACES
    """Which face of a photo is its subject's."""
    min_face_px: int = Detection.min_face_px

    val: Path | None = None
    """Other subjects to validate on, in place of a part of `data`."""
    val_share: float = 0.2
    subjects: tuple[str, ...] = ()
    """Train on these subjects of `data` alone; all of them if empty."""

    loss: str | None = None
    """memory for a base whose embeddings the network keeps, else arcface (see `losses.table`)."""
    miner: str | None = None
    margin: float | None = None
    scale: float | None = None
    """Of the softmax losses over cosines; the inverse temperature of nt-xent and supcon; gamma of circle."""
    distance: Distance = "euclidean"
    soft: bool = False
    swap: bool = False

    epochs: int = 20
    people: int = 16
    """Subjects in a batch, P."""
    images: int = 4
    """Images of each subject in a batch, K."""
    optimizer: Optimizer = "adamw"
    lr: float | None = None
    base_lr_factor: float | None = None
    """Learning rate of the base as a share of the head's."""
    loss_lr_factor: float = 10.0
    """Learning rate of the loss's own weights as a multiple of `lr`: they start from nothing."""
    weight_decay: float = 0.05
    momentum: float = 0.9
    warm_up: float = 0.05
    """Share of the run with a rising learning rate."""
    clip: float = 5.0
    """Largest norm of the gradient; 0 leaves it."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    freeze: str = "none"
    augmentation: str | None = None
    pull: float | None = None
    """Weight of the mean 1 - cos between the embeddings and the base's: keeps a fine-tune near its base."""
    blend: tuple[float, ...] | None = None
    """Also validate weights this share of the way from the base to the network (Wortsman et al., 2022)."""

    precision: Precision = "float32"
    device: str = "cpu"
    workers: int = 1
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """Return the JSON form: paths as text, tuples as lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


MAY_CHANGE = ("out", "device", "workers")
"""What a resumed run may change without becoming another run; the data are held by their digest instead."""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
