"""The command `eval`: error rates of verification and identification on labelled data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.commands import INPUT_ERROR
from facecli.errors import UsageError
from facecli.options import (
    Aligned,
    CalibrationFile,
    Device,
    FaceIndex,
    Faces,
    Fmr,
    Folders,
    Format,
    MinFace,
    Model,
    OutFile,
    Quiet,
    Replicates,
    Root,
    Seed,
    Threshold,
    Weights,
    open_embedder,
    open_rule,
    read_pairs,
)

if TYPE_CHECKING:
    from facecli.calibration import Calibration
    from facecli.compare import System
    from facecli.embedder import Embedder
    from facecli.eval_data import EvalData
    from facecli.evaluation import Evaluation
    from facecli.output import Notes

Opener = Callable[[str], "Embedder"]
"""Opens a model with the other options as they were given."""


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
    replicates: Replicates = 1000,
    seed: Seed = 0,
    model: Model = config.DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "cpu",
    faces: Faces = "largest",
    face: FaceIndex = None,
    min_face: MinFace = config.Detection.min_face_px,
    aligned: Aligned = False,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """How often does it err? FMR, FNMR, EER and AUC (1:1), CMC, FPIR and FNIR (1:N), each with its 95 % interval.

    One record a figure: at the threshold in force, and at fixed rates of false matches. Intervals resample people.
    Images without a face are counted as failures, listed, and the figures without them are given beside.

    `-o result.jsonl` saves a result that `--compare` takes later. Exits with 2 when an image or row was unusable.

    Examples:

        facecli eval --pairs test.csv

        facecli eval --pairs test.csv --cross --group-by region --subjects people.csv

        facecli eval --lfw lfw/ --plot roc.svg

        facecli eval --db people --compare vggface2 --report report/

        facecli eval --gallery enrolled --probes visits.npy -o today.jsonl
    """
    from facecli.errors import NoCalibration
    from facecli.eval_data import seen_before, training_marks
    from facecli.evaluation import run
    from facecli.output import Notes, Output, choose_format

    folders: Folders = context.obj
    notes = Notes(quiet)
    _check(pairs, lfw, db, gallery, probes, scores, every, root, templates, faces, face)
    pictures = _pictures(plot if plot is not None else [])
    for kind, path in pictures:
        searched, compared = db is not None or gallery is not None, gallery is None
        if not (searched if kind in ("cmc", "search") else compared):
            raise UsageError(
                f"these data have no {kind}", path=path, hint="cmc and search are of 1:N, the rest 1:1"
            )
    form = choose_format(form, output)
    for place in [path for _, path in pictures] + ([output] if output is not None else []):
        if not place.parent.is_dir():
            raise UsageError("cannot be written: no such folder", path=place)

    def opened(name: str, own: Path | None = None) -> Embedder:
        return open_embedder(folders, notes, name, own, device, faces, face, min_face, aligned)

    data, embedder, again = _data(
        pairs,
        lfw,
        db,
        gallery,
        probes,
        scores,
        every,
        root,
        templates,
        folders,
        notes,
        opened,
        model,
        weights,
    )
    in_force: Calibration | None = None
    embedder_id = "scores"
    if embedder is not None:
        embedder_id = embedder.id
        try:
            rule = open_rule(folders, embedder, threshold, fmr, calibration, config.DEFAULT_PRIOR)
            threshold, in_force = rule.threshold, rule.calibration
            notes.say(rule.describe())
        except NoCalibration as error:
            if fmr is not None or calibration is not None:
                raise
            notes.say(f"{error.what}: figures at fixed rates only")
    elif fmr is not None or calibration is not None:
        raise UsageError("--scores have no embedder, so no calibration", hint="set --threshold")
    other = None
    if compare is not None:
        other = _other(compare, again, opened, folders, seed, notes)
    for wrong in data.errors:
        notes.warn(str(wrong))
    with notes.progress("evaluating") as tell:
        found = run(
            data,
            embedder_id=embedder_id,
            threshold=threshold,
            group_by=group_by,
            groups_file=subjects,
            other=other,
            remarks=seen_before(data, in_force, training_marks(model)),
            seed=seed,
            replicates=replicates,
            progress=tell,
        )
    for warning in found.warnings:
        notes.warn(warning)
    _emit(found, form, output, Output)
    for kind, path in pictures:
        from facecli.plots import save

        save(found, kind, path)
        notes.say(f"{kind} in {path}")
    if report is not None:
        from facecli.report import write

        notes.say(f"report in {write(found, report)}")
    raise typer.Exit(INPUT_ERROR if data.wrong_input else 0)


def _emit(found: Evaluation, form: str, output: Path | None, sink_of: type) -> None:
    from facecli import eval_records
    from facecli.output import show

    if form == "table" and output is None:
        for title, columns, rows in eval_records.tables(found):
            with sink_of(columns, form=form, title=title) as sink:
                for row in rows:
                    sink.emit(row)
            show("")
            if title == eval_records.TITLES["figure"]:
                _draw(found)
        return
    with sink_of(eval_records.COLUMNS, form=form, path=output, flatten=eval_records.flat) as sink:
        for record in eval_records.records(found, saved=output is not None and form == "jsonl"):
            sink.emit(record)


def _draw(found: Evaluation) -> None:
    from facecli import text_plot
    from facecli.output import show

    if found.verification is not None:
        curve = found.verification.curve
        show(text_plot.histogram(curve, found.verification.shared) + "\n")
        drawn = text_plot.det(curve)
        if drawn:
            show(drawn + "\n")


def _data(
    pairs: str | None,
    lfw: Path | None,
    db: Path | None,
    gallery: Path | None,
    probes: Path | None,
    scores: str | None,
    every: bool,
    root: Path | None,
    templates: Path | None,
    folders: Folders,
    notes: Notes,
    opened: Callable[..., Embedder],
    model: str,
    weights: Path | None,
) -> tuple[EvalData, Embedder | None, Callable[[Embedder], EvalData] | None]:
    """Return the data, their embedder, and what makes the same data with another one."""
    from facecli import eval_data
    from facecli.evidence import rehearsal
    from facecli.scores import parse_scores, read_scores

    if scores is not None:
        table = (
            parse_scores(sys.stdin.buffer.read(), source="stdin") if scores == "-" else read_scores(scores)
        )
        return eval_data.from_scores(table), None, None
    listed = None
    if lfw is not None:
        listed = read_pairs(str(eval_data.check_folder(lfw)), root)
    elif pairs is not None:
        listed = read_pairs(pairs, root)
    if listed is not None:
        # What is wrong with the list comes out before anything is embedded.
        rehearsal(listed, every=every)

    def make(embedder: Embedder) -> EvalData:
        with notes.progress("embedding") as tell:
            if listed is not None:
                return eval_data.from_pairs(embedder, listed, every=every, templates=templates, progress=tell)

            def people(source: Path) -> tuple[eval_data.Samples, Path | None]:
                return eval_data.people_from(
                    source, embedder, cache_dir=folders.cache, progress=tell, notify=notes.say
                )

            if db is not None:
                return eval_data.from_database(*people(db))
            if gallery is None or probes is None:
                raise UsageError("--gallery and --probes go together")
            return eval_data.from_gallery(people(gallery)[0], people(probes)[0])

    embedder = opened(model, weights)
    return make(embedder), embedder, make


def _other(
    compare: str,
    again: Callable[[Embedder], EvalData] | None,
    opened: Opener,
    folders: Folders,
    seed: int,
    notes: Notes,
) -> System:
    from facecli.compare import read_result
    from facecli.errors import NoCalibration
    from facecli.evaluation import run

    if compare.endswith((".jsonl", ".ndjson")):
        return read_result(compare)
    if again is None:
        raise UsageError("--scores are compared with a saved result", hint="save one with -o other.jsonl")
    embedder = opened(compare)
    threshold = None
    try:
        threshold = open_rule(folders, embedder, None, None, None, config.DEFAULT_PRIOR).threshold
    except NoCalibration as error:
        notes.say(f"{error.what}: compared at fixed rates only")
    # Its own intervals are not wanted, only its errors.
    return run(again(embedder), embedder_id=embedder.id, threshold=threshold, seed=seed, replicates=2).system


def _pictures(asked: list[str]) -> list[tuple[str, Path]]:
    """Return (kind, file) of each picture: `det.png`, or `det=any/name.svg`."""
    from facecli.plots import ENDINGS, KINDS

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


def _check(
    pairs: str | None,
    lfw: Path | None,
    db: Path | None,
    gallery: Path | None,
    probes: Path | None,
    scores: str | None,
    every: bool,
    root: Path | None,
    templates: Path | None,
    faces: str,
    face: int | None,
) -> None:
    """Raise `UsageError` unless the options name exactly one set of data."""
    searched = gallery is not None or probes is not None
    given = [
        name
        for name, value in (("--pairs", pairs), ("--lfw", lfw), ("--db", db), ("--scores", scores))
        if value is not None
    ]
    given += ["--gallery"] if searched else []
    if len(given) != 1:
        what = "nothing to evaluate" if not given else f"{' and '.join(given)} each name the data"
        raise UsageError(what, hint="give one of --pairs, --lfw, --db, --gallery with --probes, --scores")
    if searched and (gallery is None or probes is None):
        raise UsageError("--gallery and --probes go together")
    if every and pairs is None and lfw is None:
        raise UsageError("--cross goes with --pairs")
    if root is not None and pairs is None and lfw is None:
        raise UsageError("--root goes with --pairs")
    if templates is not None and pairs is None and lfw is None:
        raise UsageError("--templates goes with --pairs", hint="elsewhere name the file itself: --db x.npy")
    if faces == "all":
        raise UsageError(
            "eval takes one face a photo", hint="use --faces largest, center or one, or --face INDEX"
        )
    if db is not None and (faces != "largest" or face is not None):
        raise UsageError(
            "a database enrols the largest face of each photo", hint="leave --faces and --face out"
        )
