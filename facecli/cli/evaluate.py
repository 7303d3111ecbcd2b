"""The command `eval`: error rates of verification and identification on labelled data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.cli.advice import in_shell_words
from facecli.cli.eval_data import Named, other_system
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import (
    CalibrationFile,
    EmbedderOptions,
    Fmr,
    OutputOptions,
    Replicates,
    Root,
    RuleOptions,
    Seed,
    Threshold,
)
from facecli.cli.session import Folders, open_embedder, open_rule
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.evaluation.evaluation import Evaluation
    from facecli.templates.embedder import Embedder


def evaluate(
    context: typer.Context,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs", help="1:1 on a csv of left,right,mated or LFW's pairs.txt; '-' reads it from stdin."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--cross", help="Compare all images of --pairs with one another.")
    ] = False,
    root: Root = None,
    lfw: Annotated[
        Path | None,
        typer.Option("--lfw", help="1:1 on a folder in LFW's layout, by the folds of its pairs.txt."),
    ] = None,
    db: Annotated[
        Path | None,
        typer.Option(
            "--db", help="1:1 and 1:N on a database (or templates): all comparisons, leave one out."
        ),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", help="1:N: the people enrolled, a database or templates.")
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(
            "--probes", help="1:N: who is searched for, likewise; those not in the gallery are strangers."
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option("--scores", help="1:1 on a csv of similarity,mated made by any tool; '-' for stdin."),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            "--templates", help="With --pairs: take templates of `embed` (.npy, .jsonl), no photos."
        ),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option("--group-by", help="Rates by group: a column of the pairs, or of --subjects."),
    ] = "",
    subjects: Annotated[
        Path | None,
        typer.Option("--subjects", help="A csv of subject and the column of --group-by."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Another model, checkpoint, or result saved with -o x.jsonl."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write one page, index.html, to this folder.")
    ] = None,
    plot: Annotated[
        list[str] | None,
        typer.Option(
            "--plot",
            help="Draw det, roc, cmc, scores or search, by the file's name: det.png, or det=any/name.svg.",
        ),
    ] = None,
    fmr: Fmr = None,
    threshold: Threshold = None,
    calibration: CalibrationFile = None,
    replicates: Replicates = config.DEFAULT_REPLICATES,
    seed: Seed = 0,
    *,
    embedding: EmbedderOptions,
    out: OutputOptions,
) -> None:
    """How often does it err? FMR, FNMR, EER and AUC (1:1), CMC, FPIR and FNIR (1:N), each with its 95 % interval.

    One record a figure: at the threshold in force, and at fixed rates of false matches. Intervals resample people.
    Images without a face are counted as failures, listed, and the figures without them are given beside.

    `-o result.jsonl` saves a result that `--compare` takes later. Exits with 2 when an image or row was unusable.

    Examples:

        facecli eval --pairs test.csv

        facecli eval --pairs test.csv --cross --group-by region --subjects people.csv

        facecli eval --lfw lfw/ --faces center --plot roc.svg

        facecli eval --db people --compare vggface2 --report report/

        facecli eval --gallery enrolled --probes visits.npy -o today.jsonl
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output, choose_format
    from facecli.errors import NoCalibration
    from facecli.evaluation.compare import ENDINGS, read_result
    from facecli.evaluation.data import seen_before, training_marks
    from facecli.evaluation.evaluation import run

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    named = Named(pairs, lfw, db, gallery, probes, scores, templates, every, root)
    named.check(embedding.faces, embedding.face)
    pictures = _pictures(plot if plot is not None else [])
    for kind, path in pictures:
        searched, compared = db is not None or gallery is not None, gallery is None
        if not (searched if kind in ("cmc", "search") else compared):
            raise UsageError(
                f"these data have no {kind}", path=path, hint="cmc and search are of 1:N, the rest 1:1"
            )
    form, output = choose_format(out.form, out.output), out.output
    for place in [path for _, path in pictures] + ([output] if output is not None else []):
        if not place.parent.is_dir():
            raise UsageError("cannot be written: no such folder", path=place)
    if report is not None and report.exists() and not report.is_dir():
        raise UsageError("the report is a folder, and a file has this name", path=report)

    def opened(name: str, own: Path | None = None) -> Embedder:
        return open_embedder(folders, notes, replace(embedding, model=name, weights=own))

    data, embedder_id, in_force, make = named.from_scores(), "scores", None, None
    if data is not None and (fmr is not None or calibration is not None):
        raise UsageError("--scores have no embedder, so no calibration", hint="set --threshold")
    # What is wrong with the request comes out before anything is embedded.
    saved = read_result(compare) if compare is not None and compare.endswith(ENDINGS) else None
    if data is None:
        make = named.maker(folders, notes, group_by, subjects)
        embedder = opened(embedding.model, embedding.weights)
        embedder_id = embedder.id
        try:
            rule = open_rule(folders, embedder, RuleOptions(fmr, threshold, calibration))
            threshold, in_force = rule.threshold, rule.calibration
            notes.say(rule.describe())
        except NoCalibration as error:
            if fmr is not None or calibration is not None:
                raise
            notes.say(f"{error.what}: figures at fixed rates only")
        data = make(embedder)
    other = saved
    if compare is not None and other is None:
        other = other_system(make, opened(compare), folders, seed, notes)
    for wrong in data.errors:
        notes.warn(str(in_shell_words(wrong)))
    with notes.progress("evaluating") as tell:
        found = run(
            data,
            embedder_id=embedder_id,
            threshold=threshold,
            group_by=group_by,
            groups_file=subjects,
            other=other,
            remarks=seen_before(data, in_force, training_marks(embedding.model)),
            seed=seed,
            replicates=replicates,
            progress=tell,
        )
    for warning in found.warnings:
        notes.warn(warning)
    _emit(found, form, output, Output)
    for kind, path in pictures:
        from facecli.evaluation.plots import save

        save(found, kind, path)
        notes.say(f"{kind} in {path}")
    if report is not None:
        from facecli.evaluation.report import write

        notes.say(f"report in {write(found, report)}")
    raise typer.Exit(INPUT_ERROR if data.wrong_input else 0)


def _emit(found: Evaluation, form: str, output: Path | None, sink_of: type) -> None:
    from facecli.cli.output import show
    from facecli.evaluation import records

    if form == "table" and output is None:
        for title, columns, rows in records.tables(found):
            with sink_of(columns, form=form, title=title) as sink:
                for row in rows:
                    sink.emit(row)
            show("")
            if title == records.TITLES["figure"]:
                _draw(found)
        return
    with sink_of(records.COLUMNS, form=form, path=output, flatten=records.flat) as sink:
        for record in records.records(found, saved=output is not None and form == "jsonl"):
            sink.emit(record)


def _draw(found: Evaluation) -> None:
    from facecli.cli.output import show
    from facecli.evaluation import text_plot

    if found.verification is not None:
        curve = found.verification.curve
        show(text_plot.histogram(curve, found.verification.shared) + "\n")
        drawn = text_plot.det(curve)
        if drawn:
            show(drawn + "\n")


def _pictures(asked: list[str]) -> list[tuple[str, Path]]:
    """Return (kind, file) of each picture: `det.png`, or `det=any/name.svg`."""
    from facecli.evaluation.plots import ENDINGS, KINDS

    found = []
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
        found.append((kind, path))
    return found
