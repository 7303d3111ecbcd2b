"""The command `calibrate`: from labelled comparisons to thresholds that `verify` and `find` pick up."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import (
    EmbedderOptions,
    Format,
    Prior,
    Quiet,
    Replicates,
    Root,
    Seed,
)
from facecli.cli.session import Folders, open_embedder
from facecli.cli.trial_inputs import Sources, remark, scored
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.calibration.calibration import Calibration
    from facecli.cli.notes import Notes

_NOT_KEPT = {"output", "no_install", "description", "notice", "device", "form", "quiet"}

UNKNOWN = "unknown"
"""The embedder id of scores that nobody says who made: a calibration that no embedder accepts."""


def calibrate(
    context: typer.Context,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", help="A csv of left,right,mated, or LFW's pairs.txt; '-' reads it from stdin."
        ),
    ] = None,
    db: Annotated[
        Path | None, typer.Option("--db", help="All comparisons of the photos of this database instead.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="A csv of similarity,mated made by any tool instead; '-' for stdin."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--cross", help="Compare all images of --pairs (and --test) with one another, not the pairs only."
        ),
    ] = False,
    root: Root = None,
    test: Annotated[
        str | None,
        typer.Option("--test", help="Report the rates on these pairs (or scores) of other people."),
    ] = None,
    nonmated: Annotated[
        int | None,
        typer.Option("--nonmated", min=1, help="With --db: so many non-mated comparisons, drawn at random."),
    ] = None,
    fmr: Annotated[
        str | None,
        typer.Option("--fmr", help="False match rates to report thresholds for, e.g. 1e-2,1e-3."),
    ] = None,
    prior: Prior = config.DEFAULT_PRIOR,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the calibration to this file and do not install it."),
    ] = None,
    no_install: Annotated[bool, typer.Option("--no-install", help="Only print what was found.")] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Remove what was installed: the shipped one counts again.")
    ] = False,
    embedder_id: Annotated[
        str | None, typer.Option("--embedder-id", help="With --scores: the embedder that made them.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="What the data are, for the file.")
    ] = None,
    notice: Annotated[
        str, typer.Option("--notice", help="A warning for whoever uses the calibration, for the file.")
    ] = "",
    replicates: Replicates = config.DEFAULT_REPLICATES,
    seed: Seed = 0,
    *,
    embedding: EmbedderOptions,
    form: Format = "auto",
    quiet: Quiet = False,
) -> None:
    """Choose thresholds on your own data, with the error rates behind them and their bounds.

    The calibration is installed for its embedder, and `verify` and `find` use it from then on. One record an
    operating point: rates on people the threshold was not chosen on, 95 % intervals that resample people, and
    beside them (*chosen*) the rates on the data it was chosen on. Images without a face count as failures.

    Examples:

    - `facecli calibrate --pairs val.csv --fmr 1e-2,1e-3`
    - `facecli calibrate --pairs train.csv --cross --test test.csv -o calibration.json`
    - `facecli calibrate --db people --nonmated 100000`
    - `facecli calibrate --scores scores.csv --no-install`
    - `facecli calibrate --restore`
    """
    from facecli.calibration import report
    from facecli.calibration.fit import calibrate as library
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output, choose_format

    folders: Folders = context.obj
    notes = Notes(quiet)
    _check(pairs, db, scores, restore, every, root, test, nonmated, embedder_id)
    targets = _targets(fmr)
    if not 0 < prior < 1:
        raise UsageError(f"a prior of {prior:g} is not between 0 and 1")
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError("cannot be written", path=output, hint="name a file in a folder that exists")
    if output is not None and output.suffix.lower() not in ("", ".json"):
        # Elsewhere --output takes the records: a list named by mistake would be lost.
        raise UsageError(
            "--output takes the calibration, which is JSON", path=output, hint="end it with .json"
        )
    form = choose_format(form, None)
    embedder = None
    if scores is None and embedder_id is None:
        _check_faces(embedding, db)
        embedder = open_embedder(folders, notes, embedding)
        embedder_id = embedder.id
    if restore:
        _restore(str(embedder_id), folders, notes)
        return
    if embedder is None:
        chosen, reported = scored(str(scores), test, targets, description)
    else:
        sources = Sources(embedder, folders, notes, every, root)
        chosen, reported = sources.gather(pairs, db, test, targets, nonmated, seed, description)
    overlap = remark(chosen, reported, notes)
    with notes.progress("calibrating") as tell:
        made = library(
            chosen.comparisons,
            chosen.provenance,
            embedder_id=embedder_id if embedder_id is not None else UNKNOWN,
            reported=None if reported is None else reported.comparisons,
            reported_on=None if reported is None else reported.provenance,
            targets=targets,
            seed=seed,
            replicates=replicates,
            command=_command(context),
            notice=" ".join(text for text in (notice, overlap) if text),
            progress=tell,
        )
    for doubt in report.doubts(made):
        notes.warn(doubt)
    # Before anything is printed: a reader that goes away, as `head` does, must not decide about it.
    _keep(made, folders, notes, output, no_install)
    columns = report.TABLE if form == "table" else report.COLUMNS
    with Output(columns, form=form, flatten=report.flatten) as sink:
        for record in report.records(made, targets, prior):
            sink.emit(record)
    for line in report.explanation(made):
        notes.say(line)
    wrong = chosen.wrong_input or (reported is not None and reported.wrong_input)
    raise typer.Exit(INPUT_ERROR if wrong else 0)


def _check(
    pairs: str | None,
    db: Path | None,
    scores: str | None,
    restore: bool,
    every: bool,
    root: Path | None,
    test: str | None,
    nonmated: int | None,
    embedder_id: str | None,
) -> None:
    """Raise `UsageError` unless the options name one source and go together."""
    sources = [pairs is not None, db is not None, scores is not None, restore]
    if sum(sources) != 1:
        raise UsageError(
            "nothing to calibrate on" if not any(sources) else "more than one thing to calibrate on",
            hint="give one of --pairs, --db, --scores or --restore",
        )
    listed = pairs is not None or (test is not None and scores is None)
    for given, allowed, message in (
        (every, listed, "--cross goes with --pairs or --test"),
        (root is not None, listed, "--root goes with --pairs or --test"),
        (nonmated is not None, db is not None, "--nonmated goes with --db"),
        (test is not None, not restore, "--restore takes no --test"),
        (embedder_id is not None, scores is not None or restore, "--embedder-id goes with --scores"),
        (pairs == "-" and test == "-", False, "stdin holds one list: --pairs or --test"),
        (scores == "-" and test == "-", False, "stdin holds one list: --scores or --test"),
    ):
        if given and not allowed:
            raise UsageError(message)


def _check_faces(embedding: EmbedderOptions, db: Path | None) -> None:
    if db is not None and (embedding.faces != "largest" or embedding.face is not None):
        raise UsageError("a database enrols the largest face", hint="leave out --faces and --face")


def _targets(text: str | None) -> list[float]:
    """Return the rates in `text`."""
    targets = []
    for word in [] if text is None else text.split(","):
        try:
            rate = float(word)
        except ValueError:
            rate = math.nan
        if not 0 < rate < 1:
            raise UsageError(f"'{word.strip()}' is no false match rate", hint="e.g. --fmr 1e-2,1e-3")
        targets.append(rate)
    return targets


def _keep(made: Calibration, folders: Folders, notes: Notes, output: Path | None, no_install: bool) -> None:
    """Write or install the calibration as asked, and say where."""
    from facecli.calibration.files import install, installed_path, save
    from facecli.calibration.report import replaced

    if output is not None:
        save(output, made)
        notes.say(f"written to {output}, not installed")
    elif no_install:
        notes.say("not installed")
    elif made.embedder_id == UNKNOWN:
        notes.say("not installed: nobody says which embedder made the scores (--embedder-id)")
    else:
        was_there = installed_path(made.embedder_id, folders.user).exists()
        done = install(made, folders.user)
        notes.say(replaced(done.replaced, was_there, done.path))


def _restore(embedder_id: str, folders: Folders, notes: Notes) -> None:
    from facecli.calibration.files import installed_path, restore
    from facecli.calibration.report import in_words

    shipped = restore(embedder_id, folders.user)
    now = "no calibration came with facecli for this embedder" if shipped is None else in_words(shipped)
    notes.say(f"removed {installed_path(embedder_id, folders.user)}; in force now: {now}")


def _command(context: typer.Context) -> str:
    """Return the command as it was typed, but for what is kept elsewhere or changes no number."""
    words = ["facecli", "calibrate"]
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if source is None or source.name != "COMMANDLINE" or option.name in _NOT_KEPT:
            continue
        words.append(max(option.opts, key=len))
        value = context.params[str(option.name)]
        if value is not True:
            words.append(shlex.quote(str(value)))
    return " ".join(words)
