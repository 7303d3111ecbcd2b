"""The command `train`: a folder per identity becomes a checkpoint that the other commands use like any model."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facecli.cli.advice import in_shell_words
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.session import Folders
from facecli.cli.train_options import ConfigOptions, ProcessOptions, RunOptions
from facecli.errors import NoFace, UsageError
from facecli.training.config import TrainConfig

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.training.events import Began, Event, Trained

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
    *,
    options: ConfigOptions,
    run: RunOptions,
    shared: ProcessOptions,
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
    from facecli.training import distributed, plot

    config, pulls = _config(data, options, shared)
    notes = Notes(run.quiet)
    _check(run)
    with ExitStack() as stack:
        if shared.processes > 1:
            stack.enter_context(distributed.joined(options.device))
        sink = stack.enter_context(Output(COLUMNS, form=choose_format(run.form, None)))
        result, wrong = _train(config, pulls, run, context.obj, notes, sink)
        if run.plot is not None and distributed.rank() == 0:
            plot.draw(result.history, result.templates, result.subjects, run.plot)
    raise typer.Exit(INPUT_ERROR if wrong else 0)


def _config(
    data: list[Path], options: ConfigOptions, shared: ProcessOptions
) -> tuple[TrainConfig, tuple[float, ...]]:
    """Return what the run is told, and the pulls to choose from. Raises `UsageError`."""
    pull, blend, device = options.pull, options.blend, options.device
    pulls = () if pull is None else _numbers("--pull", pull)
    if pull is not None and min(pulls, default=-1.0) < 0:
        raise UsageError(f"--pull {pull} is not a strength", hint="0 or more, or several such as 3,10,30")
    told = vars(options) | {
        "data": data[0],
        "also": tuple(data[1:]),
        "pretrained": not options.no_pretrained,
        "pull": pulls[0] if pulls else None,
        "blend": None if blend is None else _numbers("--blend", blend),
        # Each process of a machine has a GPU of its own.
        "device": f"cuda:{shared.local_process}" if shared.processes > 1 and device == "cuda" else device,
    }
    del told["no_pretrained"]
    return TrainConfig(**told), pulls


def _check(run: RunOptions) -> None:
    """Raise `UsageError` now where the run could not be drawn or written for TensorBoard in the end."""
    from facecli.training import plot
    from facecli.training.tensorboard import writer_class

    if run.plot is not None:
        plot.check(run.plot)
    if run.tensorboard:
        writer_class()


def _train(
    config: TrainConfig,
    pulls: tuple[float, ...],
    run: RunOptions,
    folders: Folders,
    notes: Notes,
    sink: Output,
) -> tuple[Trained, bool]:
    """Run the training, telling of it; return what it came to, and whether a file could not be read."""
    from facecli.training.fit import fit
    from facecli.training.pull_sweep import fit_pulls

    with ExitStack() as stack:
        hear = _Listener(config, run, notes, sink, stack)
        cut = stack.enter_context(notes.progress("cutting out faces"))
        one = partial(
            fit, cache_dir=folders.cache, resume=run.resume, report=hear, notify=notes.say, progress=cut
        )
        try:
            result = fit_pulls(config, pulls, one) if len(pulls) > 1 else one(config)
        except KeyboardInterrupt:
            notes.say(
                f"what was trained so far is in {config.out}; repeat the command with --resume to go on"
            )
            raise
        _ends(result, notes)
    return result, hear.wrong


class _Listener:
    """Tells of a training as it goes on: a record an epoch, all else as remarks."""

    def __init__(
        self, config: TrainConfig, run: RunOptions, notes: Notes, sink: Output, stack: ExitStack
    ) -> None:
        self.config, self.run, self.notes, self.sink, self.stack = config, run, notes, sink, stack
        self.tell = stack.enter_context(notes.progress("training"))
        self.events: Any = None
        self.wrong = False
        """Whether a file could not be read."""

    def __call__(self, event: Event) -> None:
        from facecli.training.alarms import Alarm
        from facecli.training.events import Began, EpochDone, Step

        if isinstance(event, Began):
            self.wrong = _begins(event, self.notes)
        elif isinstance(event, Step):
            self.tell((event.epoch - 1) * event.steps + event.step, self.config.epochs * event.steps)
        elif isinstance(event, Alarm):
            self.notes.warn(event.text)
        elif isinstance(event, EpochDone):
            self.sink.emit(event.record)
            if self.run.tensorboard:
                self._write(event.record)

    def _write(self, record: dict[str, Any]) -> None:
        """Add the numbers of an epoch to TensorBoard's file, of which each run has one."""
        from facecli.training.tensorboard import EventFile

        if self.events is None or record["epoch"] == 0:
            self.events = self.stack.enter_context(EventFile(self.config.out))
        numbers = {k: float(v) for k, v in record.items() if isinstance(v, int | float)}
        self.events.add(record["epoch"], numbers)


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
