"""The options of `train`: those that matter most first, the others in panels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from facecli.cli.complete import base_names
from facecli.cli.groups import OneOf
from facecli.cli.options import Aligned, Format, MinFace, Quiet, Seed, Weights
from facecli.config import PickedFacePolicy
from facecli.training.config import Optimizer, Precision, TrainConfig
from facecli.training.losses.table import LOSSES, PAIR_MINERS, TRIPLET_MINERS, Distance
from facecli.training.strengths import STRENGTHS

_network, _loss, _batches, _optimizer, _faces, _sampling, _output = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Network", "Loss", "Batches", "Optimizer", "Faces", "Sampling", "Output")
)


@dataclass(frozen=True)
class ConfigOptions:
    """What a run is told: the fields of `TrainConfig` with its defaults, but for those that are written otherwise."""

    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for all of the run; its best/ is the new model.")
    ] = Path("run")
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="dlib, vggface2, casia-webface, torchvision:NAME, small-cnn or a checkpoint's folder.",
            autocompletion=base_names,
        ),
    ] = TrainConfig.base
    loss: Annotated[
        str | None,
        OneOf(LOSSES),
        typer.Option(
            "--loss",
            metavar="LOSS",
            help=f"{', '.join(LOSSES)}. By default memory, which fine-tunes a face network, else arcface.",
        ),
    ] = TrainConfig.loss
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often the data are gone through.")] = (
        TrainConfig.epochs
    )
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of the head.")] = TrainConfig.lr
    val: Annotated[
        Path | None, typer.Option("--val", help="Validate on these people, in place of a part of DATA.")
    ] = TrainConfig.val
    freeze: Annotated[str, typer.Option("--freeze", help="none, all-but-head, N-last-blocks or gradual.")] = (
        TrainConfig.freeze
    )
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or mps.")] = TrainConfig.device

    weights: Weights = TrainConfig.weights
    no_pretrained: Annotated[
        bool, _network("--no-pretrained", help="Start the base from chance, not from its weights.")
    ] = not TrainConfig.pretrained
    dim: Annotated[int | None, _network("--dim", min=1, help="Put a new embedding head of this size on.")] = (
        TrainConfig.dim
    )
    input_size: Annotated[
        int | None, _network("--input-size", min=16, help="Side of a chip, where the base allows it.")
    ] = TrainConfig.input_size
    width: Annotated[int, _network("--width", min=1, help="Channels of small-cnn's first stage.")] = (
        TrainConfig.width
    )
    precision: Annotated[Precision, _network("--precision", help="Of the network's arithmetic.")] = (
        TrainConfig.precision
    )

    miner: Annotated[
        str | None,
        OneOf((*TRIPLET_MINERS, *PAIR_MINERS)),
        _loss(
            "--miner",
            metavar="MINER",
            help=f"Of triplets: {', '.join(TRIPLET_MINERS)}. Of pairs: {', '.join(PAIR_MINERS)}.",
        ),
    ] = TrainConfig.miner
    margin: Annotated[float | None, _loss("--margin", help="Of the loss.")] = TrainConfig.margin
    scale: Annotated[float | None, _loss("--scale", help="Of the loss: s, 1 / temperature or gamma.")] = (
        TrainConfig.scale
    )
    distance: Annotated[Distance, _loss("--distance", help="In the triplet loss.")] = TrainConfig.distance
    soft: Annotated[bool, _loss("--soft", help="Triplet loss with a soft margin.")] = TrainConfig.soft
    swap: Annotated[bool, _loss("--swap", help="Triplet loss with the nearer of two negatives.")] = (
        TrainConfig.swap
    )
    pull: Annotated[
        str | None,
        _loss(
            "--pull",
            help="How strongly the embeddings are held to the base's; of several, e.g. 3,10,30, one run each and"
            " the best by validation.",
        ),
    ] = None
    blend: Annotated[
        str | None,
        _loss("--blend", help="Also validate these shares of the way from the base, e.g. 0.25,0.5."),
    ] = None

    people: Annotated[int, _batches("--people", min=2, help="People in a batch.")] = TrainConfig.people
    images: Annotated[int, _batches("--images", min=1, help="Images of each person in a batch.")] = (
        TrainConfig.images
    )
    accumulate: Annotated[
        int, _batches("--accumulate", min=1, help="Batches whose gradients make one step.")
    ] = TrainConfig.accumulate
    augmentation: Annotated[
        str | None,
        OneOf(STRENGTHS),
        _batches(
            "--augment",
            metavar="STRENGTH",
            help=f"{', '.join(STRENGTHS)}. By default light for a fine-tune, else strong.",
        ),
    ] = TrainConfig.augmentation

    optimizer: Annotated[Optimizer, _optimizer("--optimizer", help="How a step is taken.")] = (
        TrainConfig.optimizer
    )
    base_lr_factor: Annotated[
        float | None, _optimizer("--base-lr-factor", help="Learning rate of the base as a share of --lr.")
    ] = TrainConfig.base_lr_factor
    weight_decay: Annotated[float, _optimizer("--weight-decay", help="Of the weights, in each step.")] = (
        TrainConfig.weight_decay
    )
    clip: Annotated[float, _optimizer("--clip", min=0, help="Largest norm of the gradient; 0 leaves it.")] = (
        TrainConfig.clip
    )

    faces: Annotated[PickedFacePolicy, _faces("--faces", help="Which face of a photo is its person's.")] = (
        TrainConfig.faces
    )
    aligned: Aligned = TrainConfig.aligned
    min_face_px: MinFace = TrainConfig.min_face_px
    workers: Annotated[int, _faces("--workers", min=1, help="Threads that cut faces out of photos.")] = (
        TrainConfig.workers
    )
    val_share: Annotated[
        float, _sampling("--val-share", min=0, max=0.9, help="Share of DATA's people to validate on.")
    ] = TrainConfig.val_share
    seed: Seed = TrainConfig.seed


@dataclass(frozen=True)
class RunOptions:
    """Whether a run goes on, and what is shown of it."""

    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the curves and a 2-D view of the embeddings: .png, .svg or .pdf."),
    ] = None
    form: Format = "auto"
    tensorboard: Annotated[
        bool, _output("--tensorboard", help="Write TensorBoard's event files into --output.")
    ] = False
    quiet: Quiet = False


@dataclass(frozen=True)
class ProcessOptions:
    """What torchrun says of this process."""

    processes: Annotated[int, typer.Option(envvar="WORLD_SIZE", hidden=True)] = 1
    local_process: Annotated[int, typer.Option(envvar="LOCAL_RANK", hidden=True)] = 0
