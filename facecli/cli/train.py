"""The command `train`: a folder per identity becomes a checkpoint that the other commands use like any model."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facecli import config
from facecli.cli.advice import in_shell_words
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import Aligned, Format, MinFace, Quiet, Seed, Weights
from facecli.cli.session import Folders
from facecli.errors import NoFace, UsageError
from facecli.training.config import TrainConfig as Defaults

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.training.events import Began, Trained

COLUMNS = [
    *("epoch", "loss", "eer", "tar_at_fmr_1e-2", "tar_at_fmr_1e-3", "rank1", "map_at_r", "active_fraction"),
    *("mean_positive_distance", "mean_negative_distance", "spread", "pull", "best_epoch", "best_share"),
    *("seconds", "alarms"),
]

SHOWN_FAILURES = 5


def train(
    context: typer.Context,
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="A folder of images for each person, or a folder with MNIST's idx files. Of several folders, such as"
            " photos from two sources, people are told apart within each.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for all of the run; its best/ is the new model.")
    ] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --output.")] = False,
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="dlib, vggface2, casia-webface, torchvision:NAME, small-cnn or a checkpoint's folder.",
        ),
    ] = Defaults.base,
    weights: Weights = None,
    no_pretrained: Annotated[
        bool, typer.Option("--no-pretrained", help="Start the base from chance, not from its weights.")
    ] = False,
    dim: Annotated[
        int | None, typer.Option("--dim", min=1, help="Put a new embedding head of this size on.")
    ] = None,
    freeze: Annotated[
        str, typer.Option("--freeze", help="none, all-but-head, N-last-blocks or gradual.")
    ] = Defaults.freeze,
    val: Annotated[
        Path | None, typer.Option("--val", help="Validate on these people, in place of a part of DATA.")
    ] = None,
    val_share: Annotated[
        float, typer.Option("--val-share", min=0, max=0.9, help="Share of DATA's people to validate on.")
    ] = Defaults.val_share,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="triplet, contrastive, logistic, multi-similarity, nt-xent, supcon, circle, softmax, arcface,"
            " cosface, sub-center, or memory, which fine-tunes a face network and then is the default; else arcface.",
        ),
    ] = Defaults.loss,
    miner: Annotated[
        str | None,
        typer.Option(
            "--miner",
            help="Of triplets: all, batch-hard, hardest-negative, semi-hard, random-hard, distance-weighted,"
            " random-triplets. Of pairs: all, hard-negatives, multi-similarity, random-pairs.",
        ),
    ] = None,
    margin: Annotated[float | None, typer.Option("--margin", help="Of the loss.")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Of the loss: s, 1 / temperature or gamma.")
    ] = None,
    distance: Annotated[
        str, typer.Option("--distance", help="In the triplet loss: euclidean, squared or cosine.")
    ] = Defaults.distance,
    soft: Annotated[bool, typer.Option("--soft", help="Triplet loss with a soft margin.")] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Triplet loss with the nearer of two negatives.")
    ] = False,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = Defaults.epochs,
    people: Annotated[int, typer.Option("--people", min=2, help="People in a batch.")] = Defaults.people,
    images: Annotated[
        int, typer.Option("--images", min=1, help="Images of each person in a batch.")
    ] = Defaults.images,
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw or sgd.")] = Defaults.optimizer,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of the head.")] = None,
    base_lr_factor: Annotated[
        float | None, typer.Option("--base-lr-factor", help="Learning rate of the base as a share of --lr.")
    ] = None,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = Defaults.weight_decay,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, help="Batches whose gradients make one step.")
    ] = Defaults.accumulate,
    clip: Annotated[
        float, typer.Option("--clip", min=0, help="Largest norm of the gradient; 0 leaves it.")
    ] = Defaults.clip,
    augmentation: Annotated[
        str | None, typer.Option("--augment", help="none, flip, light, strong or digits.")
    ] = None,
    pull: Annotated[
        str | None,
        typer.Option(
            "--pull",
            help="How strongly the embeddings are held to the base's; of several, e.g. 3,10,30, one run each and"
            " the best by validation.",
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option("--blend", help="Also validate these shares of the way from the base, e.g. 0.25,0.5."),
    ] = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", min=16, help="Side of a chip, where the base allows it.")
    ] = None,
    width: Annotated[
        int, typer.Option("--width", min=1, help="Channels of small-cnn's first stage.")
    ] = Defaults.width,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16 or float16.")
    ] = Defaults.precision,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or mps.")] = Defaults.device,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Threads that cut faces out of photos.")
    ] = Defaults.workers,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's event files into --output.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the curves and a 2-D view of the embeddings: .png, .svg or .pdf."),
    ] = None,
    faces: Annotated[
        str, typer.Option("--faces", help="Which face of a photo is its person's: largest or center.")
    ] = Defaults.faces,
    aligned: Aligned = False,
    min_face: MinFace = config.Detection.min_face_px,
    seed: Seed = 0,
    form: Format = "auto",
    quiet: Quiet = False,
    processes: Annotated[int, typer.Option(envvar="WORLD_SIZE", hidden=True)] = 1,
    local_process: Annotated[int, typer.Option(envvar="LOCAL_RANK", hidden=True)] = 0,
) -> None:
    """Train a network to tell people apart, and say how well it does on people it was not trained on.

    Every epoch is one record: loss, and verification of the validation people with intervals; epoch 0 is the
    network before training. `OUTPUT/best` is a model for the other commands, with a calibration from the
    validation people. A run that was broken off goes on with `--resume`. For several GPUs or processes start it
    with `torchrun`.

    Examples:

    - `facecli train people/`
    - `facecli train people/ --base small-cnn --loss triplet --miner batch-hard --soft --epochs 60`
    - `facecli train people/ -o run --resume`
    - `torchrun --nproc-per-node 2 -m facecli train people/ --device cuda`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output, choose_format
    from facecli.training import distributed
    from facecli.training import plot as train_plot
    from facecli.training.tensorboard import writer_class

    pulls = () if pull is None else _numbers("--pull", pull)
    if pull is not None and min(pulls, default=-1.0) < 0:
        raise UsageError(f"--pull {pull} is not a strength", hint="0 or more, or several such as 3,10,30")
    settings = Defaults(
        data=data[0],
        also=tuple(data[1:]),
        out=output,
        base=base,
        weights=weights,
        pretrained=not no_pretrained,
        dim=dim,
        input_size=input_size,
        width=width,
        aligned=aligned,
        faces=faces,
        min_face_px=min_face,
        val=val,
        val_share=val_share,
        loss=loss,
        miner=miner,
        margin=margin,
        scale=scale,
        distance=distance,
        soft=soft,
        swap=swap,
        epochs=epochs,
        people=people,
        images=images,
        optimizer=optimizer,
        lr=lr,
        base_lr_factor=base_lr_factor,
        weight_decay=weight_decay,
        clip=clip,
        accumulate=accumulate,
        freeze=freeze,
        augmentation=augmentation,
        pull=pulls[0] if pulls else None,
        blend=None if blend is None else _numbers("--blend", blend),
        precision=precision,
        # Each process of a machine has a GPU of its own.
        device=f"cuda:{local_process}" if processes > 1 and device == "cuda" else device,
        workers=workers,
        seed=seed,
    )
    folders: Folders = context.obj
    notes = Notes(quiet)
    if plot is not None:
        train_plot.check(plot)
    if tensorboard:
        writer_class()
    with ExitStack() as stack:
        if processes > 1:
            stack.enter_context(distributed.joined(device))
        sink = stack.enter_context(Output(COLUMNS, form=choose_format(form, None)))
        result, wrong = _train(settings, pulls, folders, notes, sink, stack, resume, tensorboard)
        if plot is not None and distributed.rank() == 0:
            train_plot.draw(result.history, result.templates, result.subjects, plot)
    raise typer.Exit(INPUT_ERROR if wrong else 0)


def _train(
    settings: Defaults,
    pulls: tuple[float, ...],
    folders: Folders,
    notes: Notes,
    sink: Any,
    stack: ExitStack,
    resume: bool,
    tensorboard: bool,
) -> tuple[Trained, bool]:
    """Run the training, telling of it; return what it came to, and whether a file could not be read."""
    from facecli.training.alarms import Alarm
    from facecli.training.events import Began, EpochDone, Event, Step
    from facecli.training.fit import fit
    from facecli.training.pull_sweep import fit_pulls
    from facecli.training.tensorboard import EventFile

    tell = stack.enter_context(notes.progress("training"))
    cut = stack.enter_context(notes.progress("cutting out faces"))
    wrong = False
    events: EventFile | None = None

    def hear(event: Event) -> None:
        nonlocal wrong, events
        if isinstance(event, Began):
            wrong = _begins(event, notes)
        elif isinstance(event, Step):
            tell((event.epoch - 1) * event.steps + event.step, settings.epochs * event.steps)
        elif isinstance(event, Alarm):
            notes.warn(event.text)
        elif isinstance(event, EpochDone):
            sink.emit(event.record)
            if tensorboard:
                if events is None or event.record["epoch"] == 0:
                    events = stack.enter_context(EventFile(settings.out))
                numbers = {k: float(v) for k, v in event.record.items() if isinstance(v, int | float)}
                events.add(event.record["epoch"], numbers)

    run = partial(fit, cache_dir=folders.cache, resume=resume, report=hear, notify=notes.say, progress=cut)
    try:
        result = fit_pulls(settings, pulls, run) if len(pulls) > 1 else run(settings)
    except KeyboardInterrupt:
        notes.say(f"what was trained so far is in {settings.out}; repeat the command with --resume to go on")
        raise
    _ends(result, notes)
    return result, wrong


def _begins(event: Began, notes: Notes) -> bool:
    notes.say(
        f"training on {event.images} images of {event.people} people, validating on {event.val_images} of"
        f" {event.val_people} others; {event.trainable:,} of {event.parameters:,} parameters learn"
    )
    if event.first_epoch > 1:
        notes.say(f"going on with epoch {event.first_epoch} of {event.epochs}")
    for failure in event.failures[:SHOWN_FAILURES]:
        notes.warn(f"left out: {in_shell_words(failure)}")
    if len(event.failures) > SHOWN_FAILURES:
        notes.warn(f"left out: {len(event.failures) - SHOWN_FAILURES} further images")
    return any(failure.code != NoFace.code for failure in event.failures)


def _ends(result: Trained, notes: Notes) -> None:
    headline = result.best_record["headline"]
    share = f", {result.best_share:.0%} of the way from the base" if result.best_share < 1 else ""
    notes.say(
        f"best is epoch {result.best_epoch}{share}: {headline} {result.best_record[headline]:.4f}, before training"
        f" {result.start_record[headline]:.4f}; use it with --model {result.best}"
    )
    if result.gain is not None:
        notes.say(
            f"TAR at FMR {result.gain_fmr:g} changed by {result.gain.value:+.4f} (95 % interval"
            f" {result.gain.low:+.4f} to {result.gain.high:+.4f}) on the people who also chose the epoch"
        )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option} {text} is not a list of numbers", hint="such as 0.25,0.5") from error
