"""The command `calibrate`: from labelled comparisons to thresholds that `verify` and `find` pick up."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.cli.advice import in_shell_words
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import EmbedderOptions, Form, Prior, RecordOptions, SamplingOptions, TrialOptions
from facecli.cli.session import Folders, open_embedder, read_scores
from facecli.cli.trial_inputs import Inputs, refuse, refuse_choice_of_faces
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.calibration.calibration import Calibration
    from facecli.cli.notes import Notes
    from facecli.templates.embedder import Embedder
    from facecli.trials.labelled import LabelledComparisons

_NOT_KEPT = {"output", "no_install", "description", "notice", "device", "form", "quiet"}

UNKNOWN = "unknown"
"""The embedder id of scores that nobody says who made: a calibration that no embedder accepts."""


@dataclass(frozen=True)
class CalibratedOptions(TrialOptions):
    """What thresholds are chosen on, and what their rates are reported on."""

    test: Annotated[
        str | None,
        typer.Option("--test", help="Report the rates on these pairs (or scores) of other people."),
    ] = None
    nonmated: Annotated[
        int | None,
        typer.Option("--nonmated", min=1, help="With --db: so many non-mated comparisons, drawn at random."),
    ] = None


@dataclass(frozen=True)
class ShownOptions:
    """Which thresholds are shown, and with which probability of a match."""

    panel = "Threshold"

    fmr: Annotated[
        str | None, typer.Option("--fmr", help="False match rates to report thresholds for, e.g. 1e-2,1e-3.")
    ] = None
    prior: Prior = config.DEFAULT_PRIOR


@dataclass(frozen=True)
class KeepingOptions:
    """What becomes of the calibration, and what is written into it."""

    panel = "Output"

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the calibration to this file and do not install it."),
    ] = None
    no_install: Annotated[bool, typer.Option("--no-install", help="Only print what was found.")] = False
    restore: Annotated[
        bool, typer.Option("--restore", help="Remove what was installed: the shipped one counts again.")
    ] = False
    embedder_id: Annotated[
        str | None, typer.Option("--embedder-id", help="With --scores: the embedder that made them.")
    ] = None
    description: Annotated[
        str | None, typer.Option("--description", help="What the data are, for the file.")
    ] = None
    notice: Annotated[
        str, typer.Option("--notice", help="A warning for whoever uses the calibration, for the file.")
    ] = ""


def calibrate(
    context: typer.Context,
    *,
    data: CalibratedOptions,
    shown: ShownOptions,
    keeping: KeepingOptions,
    sampling: SamplingOptions,
    embedding: EmbedderOptions,
    out: RecordOptions,
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
    from facecli.calibration.fit import calibrate as library
    from facecli.cli.notes import Notes
    from facecli.cli.output import choose_format

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    _check(data, keeping)
    targets = _targets(shown.fmr)
    _check_values(shown.prior, keeping.output)
    form = choose_format(out.form, None)
    embedder = _embedder(folders, notes, data, keeping, embedding)
    embedder_id = embedder.id if embedder is not None else keeping.embedder_id
    if keeping.restore:
        return _restore(str(embedder_id), folders, notes)
    inputs = Inputs(data, folders, notes)
    chosen, reported = _read(data, keeping.description, embedder, targets, sampling.seed, inputs)
    overlap = _remarks(chosen, reported, notes)
    with notes.progress("calibrating") as tell:
        calibration = library(
            chosen.comparisons,
            chosen.provenance,
            embedder_id=embedder_id if embedder_id is not None else UNKNOWN,
            reported=None if reported is None else reported.comparisons,
            reported_on=None if reported is None else reported.provenance,
            targets=targets,
            command=_command(context),
            notice=" ".join(text for text in (keeping.notice, overlap) if text),
            min_quality=0.0 if embedder is None else embedder.lowest_quality,
            progress=tell,
            **vars(sampling),
        )
    # Before anything is printed: a reader that goes away, as `head` does, must not decide about it.
    _keep(calibration, folders, notes, keeping)
    _show(calibration, targets, shown.prior, form, notes)
    wrong = chosen.wrong_input or (reported is not None and reported.wrong_input)
    raise typer.Exit(INPUT_ERROR if wrong else 0)


def _check(data: CalibratedOptions, keeping: KeepingOptions) -> None:
    """Raise `UsageError` unless the options name one source and go together."""
    sources = [data.pairs is not None, data.db is not None, data.scores is not None, keeping.restore]
    if sum(sources) != 1:
        raise UsageError(
            "nothing to calibrate on" if not any(sources) else "more than one thing to calibrate on",
            hint="give one of --pairs, --db, --scores or --restore",
        )
    test = data.test is not None
    listed = data.pairs is not None or (test and data.scores is None)
    refuse(
        (data.every, listed, "--cross goes with --pairs or --test"),
        (data.root is not None, listed, "--root goes with --pairs or --test"),
        (data.nonmated is not None, data.db is not None, "--nonmated goes with --db"),
        (test, not keeping.restore, "--restore takes no --test"),
        (
            keeping.embedder_id is not None,
            data.scores is not None or keeping.restore,
            "--embedder-id goes with --scores",
        ),
        (data.pairs == "-" and data.test == "-", False, "stdin holds one list: --pairs or --test"),
        (data.scores == "-" and data.test == "-", False, "stdin holds one list: --scores or --test"),
    )


def _check_values(prior: float, output: Path | None) -> None:
    """Raise `UsageError` for a prior or a file that cannot be."""
    if not 0 < prior < 1:
        raise UsageError(f"a prior of {prior:g} is not between 0 and 1")
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError("cannot be written", path=output, hint="name a file in a folder that exists")
    if output is not None and output.suffix.lower() not in ("", ".json"):
        # Elsewhere --output takes the records: a list named by mistake would be lost.
        raise UsageError(
            "--output takes the calibration, which is JSON", path=output, hint="end it with .json"
        )


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


def _embedder(
    folders: Folders, notes: Notes, data: TrialOptions, keeping: KeepingOptions, embedding: EmbedderOptions
) -> Embedder | None:
    """Return the embedder that is calibrated, None where there are scores, or its id is enough."""
    if data.scores is not None or keeping.embedder_id is not None:
        return None
    if data.db is not None:
        refuse_choice_of_faces(embedding)
    return open_embedder(folders, notes, embedding)


def _read(
    data: CalibratedOptions,
    description: str | None,
    embedder: Embedder | None,
    targets: list[float],
    seed: int,
    inputs: Inputs,
) -> tuple[LabelledComparisons, LabelledComparisons | None]:
    """Return what thresholds are chosen on and, with --test, what rates are reported on.

    Both lists are read, and refused, before the first image is embedded.
    """
    from facecli.trials.labelled import check_targets, of_database

    text = description if description is not None else _description(data)
    test_text = _description_of_file(data, str(data.test))
    if embedder is None:
        chosen = _read_scores(str(data.scores), targets, text)
        return chosen, None if data.test is None else _read_scores(data.test, [], test_text)
    listed = None if data.pairs is None else inputs.read_list(data.pairs, targets)
    tested = None if data.test is None else inputs.read_list(data.test)
    if data.db is not None:
        samples, root = inputs.people(embedder, data.db)
        chosen = of_database(samples, root, nonmated=data.nonmated, seed=seed, description=text)
        check_targets(chosen.scored, targets, str(data.db))
    elif listed is not None:
        chosen = inputs.compare(embedder, listed, description=text)
    else:
        raise UsageError("nothing to calibrate on")
    return chosen, None if tested is None else inputs.compare(embedder, tested, description=test_text)


def _read_scores(source: str, targets: list[float], description: str) -> LabelledComparisons:
    from facecli.trials.labelled import check_targets, of_scores

    scores = of_scores(read_scores(source), description)
    check_targets(scores.scored, targets, source)
    return scores


def _description(data: CalibratedOptions) -> str:
    if data.db is None:
        return _description_of_file(data, str(data.scores if data.pairs is None else data.pairs))
    part = "all comparisons"
    if data.nonmated is not None:
        part = f"{data.nonmated:,} non-mated and all mated comparisons"
    return f"{part} of the database {data.db.resolve().name}"


def _description_of_file(data: CalibratedOptions, source: str) -> str:
    what = "all comparisons of the images of" if data.every else "the pairs of"
    if data.scores is not None:
        what = "the scores of"
    return f"{what} {'stdin' if source == '-' else Path(source).name}"


def _remarks(chosen: LabelledComparisons, reported: LabelledComparisons | None, notes: Notes) -> str:
    """Say what is doubtful about the data; return what of it belongs into the calibration's notice."""
    from facecli.trials.labelled import SHOWN, overlap

    for data in (chosen,) if reported is None else (chosen, reported):
        for error in data.errors:
            notes.warn(f"{in_shell_words(error)}; the row is left out")
        for failure in data.failures[:SHOWN]:
            notes.warn(f"{failure.path}: {failure.message}")
        if data.failures:
            notes.warn(
                f"images that could not be embedded: {len(data.failures):,}; their comparisons count as failures"
            )
        for remark in data.remarks:
            notes.warn(remark)
    common = "" if reported is None else overlap(chosen.provenance, reported.provenance)
    if common:
        notes.warn(common)
    return common


def _keep(calibration: Calibration, folders: Folders, notes: Notes, keeping: KeepingOptions) -> None:
    """Say what is doubtful about the calibration, write or install it as asked, and say where."""
    from facecli.calibration.files import install, installed_path, save
    from facecli.calibration.report import doubts, replaced

    for doubt in doubts(calibration):
        notes.warn(doubt)
    if keeping.output is not None:
        save(keeping.output, calibration)
        notes.say(f"written to {keeping.output}, not installed")
    elif keeping.no_install:
        notes.say("not installed")
    elif calibration.embedder_id == UNKNOWN:
        notes.say("not installed: nobody says which embedder made the scores (--embedder-id)")
    else:
        was_there = installed_path(calibration.embedder_id, folders.user).exists()
        installed = install(calibration, folders.user)
        notes.say(replaced(installed.replaced, was_there, installed.path))


def _show(calibration: Calibration, targets: list[float], prior: float, form: Form, notes: Notes) -> None:
    """Emit a record an operating point, and explain them."""
    from facecli.calibration import report
    from facecli.cli.output import Output

    columns = report.TABLE if form == "table" else report.COLUMNS
    with Output(columns, form=form, flatten=report.flatten) as sink:
        for record in calibration.records(targets, prior=prior):
            sink.emit(record)
    for line in report.explanation(calibration):
        notes.say(line)


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
