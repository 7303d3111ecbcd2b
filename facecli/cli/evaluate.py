"""The command `eval`: error rates of verification and identification on labelled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli.cli.advice import in_shell_words
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import (
    EmbedderOptions,
    Form,
    OutputOptions,
    RuleOptions,
    SamplingOptions,
    ThresholdOptions,
    TrialOptions,
)
from facecli.cli.session import Folders, open_embedder, open_rule, read_scores
from facecli.cli.trial_inputs import Inputs, refuse, refuse_choice_of_faces
from facecli.errors import NoCalibration, UsageError

if TYPE_CHECKING:
    from facecli.calibration.calibration import Calibration
    from facecli.cli.notes import Notes
    from facecli.evaluation.compare import System
    from facecli.evaluation.data import EvalData
    from facecli.evaluation.evaluation import Evaluation
    from facecli.templates.embedder import Embedder


@dataclass(frozen=True)
class EvaluatedOptions(TrialOptions):
    """What is evaluated, by which groups, and beside which other system."""

    lfw: Annotated[
        Path | None,
        typer.Option("--lfw", help="A folder in LFW's layout, evaluated by the folds of its pairs.txt."),
    ] = None
    gallery: Annotated[
        Path | None, typer.Option("--gallery", help="1:N: the people enrolled, a database or templates.")
    ] = None
    probes: Annotated[
        Path | None,
        typer.Option(
            "--probes", help="1:N: who is searched for, likewise; those not in the gallery are strangers."
        ),
    ] = None
    templates: Annotated[
        Path | None,
        typer.Option(
            "--templates", help="With --pairs: take templates of `embed` (.npy, .jsonl), no photos."
        ),
    ] = None
    group_by: Annotated[
        str, typer.Option("--group-by", help="Rates by group: a column of the pairs, or of --subjects.")
    ] = ""
    subjects: Annotated[
        Path | None, typer.Option("--subjects", help="A csv of subject and the column of --group-by.")
    ] = None
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            help="Another model, checkpoint, or result saved with -o x.jsonl.",
            rich_help_panel="Network",
        ),
    ] = None


@dataclass(frozen=True)
class ReportOptions(OutputOptions):
    """Where records, the report and pictures go."""

    panel = "Output"

    report: Annotated[
        Path | None, typer.Option("--report", help="Write one page, index.html, to this folder.")
    ] = None
    plot: Annotated[
        list[str] | None,
        typer.Option(
            "--plot",
            help="Draw det, roc, cmc, scores or search, by the file's name: det.png, or det=any/name.svg.",
        ),
    ] = None


def evaluate(
    context: typer.Context,
    *,
    data: EvaluatedOptions,
    deciding: ThresholdOptions,
    sampling: SamplingOptions,
    embedding: EmbedderOptions,
    out: ReportOptions,
) -> None:
    """How often does it err? FMR, FNMR, EER and AUC (1:1), CMC, FPIR and FNIR (1:N), each with its 95 % interval.

    One record a figure: at the threshold in force, and at fixed rates of false matches. Intervals resample people.
    Images without a face are counted as failures, listed, and the figures without them are given beside. A `--db` is
    compared (1:1) and searched with each of its own photos (1:N).

    `-o result.jsonl` saves a result that `--compare` takes later. Exits with 2 when an image or row was unusable.

    Examples:

    - `facecli eval --pairs test.csv`
    - `facecli eval --pairs test.csv --cross --group-by region --subjects people.csv`
    - `facecli eval --lfw lfw/ --faces center --plot roc.svg`
    - `facecli eval --db people --compare vggface2 --report report/`
    - `facecli eval --gallery enrolled --probes visits.npy -o today.jsonl`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import choose_format

    notes = Notes(out.quiet)
    _check(data, embedding)
    pictures = _pictures(data, out.plot if out.plot is not None else [])
    form = choose_format(out.form, out.output)
    _check_places(out, pictures)
    evaluation = _evaluation(data, deciding, sampling, embedding, context.obj, notes)
    for warning in evaluation.warnings:
        notes.warn(warning)
    _emit(evaluation, form, out.output)
    _save(evaluation, pictures, out.report, notes)
    raise typer.Exit(INPUT_ERROR if evaluation.data.wrong_input else 0)


def _check(data: EvaluatedOptions, embedding: EmbedderOptions) -> None:
    """Raise `UsageError` unless the options name exactly one set of data, and go together."""
    listed = data.pairs is not None or data.lfw is not None
    searched = data.gallery is not None or data.probes is not None
    options = {"--pairs": data.pairs, "--lfw": data.lfw, "--db": data.db, "--scores": data.scores}
    given = [name for name, value in options.items() if value is not None]
    given += ["--gallery"] if searched else []
    if len(given) != 1:
        raise UsageError(
            f"{' and '.join(given)} each name the data" if given else "nothing to evaluate",
            hint="give one of --pairs, --lfw, --db, --gallery with --probes, --scores",
        )
    both = data.gallery is not None and data.probes is not None
    refuse(
        (searched, both, "--gallery and --probes go together"),
        (data.every, listed, "--cross goes with --pairs"),
        (data.root is not None, listed, "--root goes with --pairs"),
    )
    refuse(
        (data.templates is not None, listed, "--templates goes with --pairs"),
        hint="elsewhere name the file itself: --db x.npy",
    )
    if data.db is not None or searched:
        refuse_choice_of_faces(embedding)


def _pictures(data: EvaluatedOptions, asked: list[str]) -> list[tuple[str, Path]]:
    """Return (kind, file) of each picture: `det.png`, or `det=any/name.svg`; raises `UsageError`."""
    from facecli.evaluation.plots import ENDINGS, KINDS

    pictures = []
    for text in asked:
        kind, equals, name = text.partition("=")
        path = Path(name) if equals else Path(text)
        kind = kind if equals else path.stem
        if kind not in KINDS:
            raise UsageError(
                f"unknown plot '{kind}'", hint=f"name the file after one of {', '.join(KINDS)}, or KIND=FILE"
            )
        if path.suffix.lower() not in ENDINGS:
            raise UsageError("is no picture", path=path, hint=f"use one of {', '.join(ENDINGS)}")
        pictures.append((kind, path))
    searched, compared = data.db is not None or data.gallery is not None, data.gallery is None
    for kind, path in pictures:
        if not (searched if kind in ("cmc", "search") else compared):
            raise UsageError(
                f"these data have no {kind}", path=path, hint="cmc and search are of 1:N, the rest 1:1"
            )
    return pictures


def _check_places(out: ReportOptions, pictures: list[tuple[str, Path]]) -> None:
    """Raise `UsageError` for a file or folder that cannot be written."""
    for place in [path for _, path in pictures] + ([out.output] if out.output is not None else []):
        if not place.parent.is_dir():
            raise UsageError("cannot be written: no such folder", path=place)
    if out.report is not None and out.report.exists() and not out.report.is_dir():
        raise UsageError("the report is a folder, and a file has this name", path=out.report)


def _evaluation(
    data: EvaluatedOptions,
    deciding: ThresholdOptions,
    sampling: SamplingOptions,
    embedding: EmbedderOptions,
    folders: Folders,
    notes: Notes,
) -> Evaluation:
    """Return the evaluation. What is wrong with the request comes out before anything is embedded."""
    from facecli.evaluation.compare import ENDINGS, read_result
    from facecli.evaluation.data import seen_before, training_marks
    from facecli.evaluation.evaluation import run

    scores = None if data.scores is None else _scores(data.scores, deciding)
    other = None
    if data.compare is not None and data.compare.endswith(ENDINGS):
        other = read_result(data.compare)
    elif data.compare is not None and scores is not None:
        raise UsageError("--scores are compared with a saved result", hint="save one with -o other.jsonl")
    if scores is not None:
        evaluated, embedder_id, threshold, calibration = scores, "scores", deciding.threshold, None
    else:
        make = _maker(data, Inputs(data, folders, notes))
        embedder = open_embedder(folders, notes, embedding)
        threshold, calibration = _in_force(folders, embedder, deciding, notes)
        evaluated, embedder_id = make(embedder), embedder.id
        if data.compare is not None and other is None:
            model = replace(embedding, model=data.compare, weights=None)
            other = _other_system(make, open_embedder(folders, notes, model), folders, sampling.seed, notes)
    for error in evaluated.errors:
        notes.warn(str(in_shell_words(error)))
    with notes.progress("evaluating") as tell:
        return run(
            evaluated,
            embedder_id=embedder_id,
            threshold=threshold,
            group_by=data.group_by,
            groups_file=data.subjects,
            other=other,
            remarks=seen_before(evaluated, calibration, training_marks(embedding.model)),
            progress=tell,
            **vars(sampling),
        )


def _scores(source: str, deciding: ThresholdOptions) -> EvalData:
    """Return the data where they are scores, which need no embedder."""
    from facecli.evaluation.data import from_scores
    from facecli.trials.labelled import of_scores

    scores = from_scores(of_scores(read_scores(source)))
    if deciding.fmr is not None or deciding.calibration is not None:
        raise UsageError("--scores have no embedder, so no calibration", hint="set --threshold")
    return scores


def _maker(data: EvaluatedOptions, inputs: Inputs) -> Callable[[Embedder], EvalData]:
    """Return what makes the data of an embedder; lists are read, and what is wrong with them raised, at once."""
    from facecli.evaluation import data as library
    from facecli.evaluation.groups import read_groups
    from facecli.trials.labelled import of_database

    source = data.pairs if data.lfw is None else str(library.lfw_pairs(data.lfw))
    listed = None if source is None else inputs.read_list(source)
    if data.group_by and data.subjects is not None:
        read_groups(data.subjects, data.group_by)
    elif data.group_by:
        library.check_column(data.group_by, {} if listed is None or data.every else listed.extra)

    def make(embedder: Embedder) -> EvalData:
        if listed is not None:
            return library.from_pairs(inputs.compare(embedder, listed, templates=data.templates))
        if data.db is not None:
            return library.from_database(of_database(*inputs.people(embedder, data.db)))
        if data.gallery is None or data.probes is None:
            raise UsageError("--gallery and --probes go together")
        return library.from_gallery(
            *(inputs.people(embedder, part)[0] for part in (data.gallery, data.probes))
        )

    return make


def _in_force(
    folders: Folders, embedder: Embedder, deciding: ThresholdOptions, notes: Notes
) -> tuple[float | None, Calibration | None]:
    """Return the threshold in force and its calibration, None without them."""
    try:
        rule = open_rule(folders, embedder, RuleOptions(**vars(deciding)))
    except NoCalibration as error:
        if deciding.fmr is not None or deciding.calibration is not None:
            raise
        notes.say(f"{error.what}: figures at fixed rates only")
        return deciding.threshold, None
    notes.say(rule.describe())
    return rule.threshold, rule.calibration


def _other_system(
    make: Callable[[Embedder], EvalData], embedder: Embedder, folders: Folders, seed: int, notes: Notes
) -> System:
    """Return another embedder tried on the same data, at its own threshold in force."""
    from facecli.evaluation.evaluation import run

    threshold = None
    try:
        threshold = open_rule(folders, embedder, RuleOptions()).threshold
    except NoCalibration as error:
        notes.say(f"{error.what}: compared at fixed rates only")
    # Its own intervals are not wanted, only its errors.
    return run(make(embedder), embedder_id=embedder.id, threshold=threshold, seed=seed, replicates=2).system


def _emit(evaluation: Evaluation, form: Form, output: Path | None) -> None:
    """Emit a record a figure; on a terminal a table of each kind, and pictures of characters."""
    from facecli.cli.output import Output, show
    from facecli.evaluation import records

    if form == "table" and output is None:
        for title, columns, rows in records.tables(evaluation):
            with Output(columns, form=form, title=title) as sink:
                for row in rows:
                    sink.emit(row)
            show("")
            if title == records.TITLES["figure"]:
                _draw(evaluation)
        return
    with Output(records.COLUMNS, form=form, path=output, flatten=records.flat) as sink:
        for record in records.records(evaluation, saved=output is not None and form == "jsonl"):
            sink.emit(record)


def _draw(evaluation: Evaluation) -> None:
    from facecli.cli.output import show
    from facecli.evaluation import text_plot

    if evaluation.verification is not None:
        curve = evaluation.verification.curve
        show(text_plot.histogram(curve, evaluation.verification.shared) + "\n")
        drawn = text_plot.det(curve)
        if drawn:
            show(drawn + "\n")


def _save(
    evaluation: Evaluation, pictures: list[tuple[str, Path]], report: Path | None, notes: Notes
) -> None:
    """Write the pictures and the report that were asked for."""
    for kind, path in pictures:
        from facecli.evaluation.plots import save

        save(evaluation, kind, path)
        notes.say(f"{kind} in {path}")
    if report is not None:
        from facecli.evaluation.report import write

        notes.say(f"report in {write(evaluation, report)}")
