"""The commands `verify` and `find`: each parses, makes one library call, emits, and ends with an exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facecli import config
from facecli.cli.exit_codes import INPUT_ERROR, NON_MATCH
from facecli.cli.options import (
    Aligned,
    CalibrationFile,
    Database,
    Device,
    FaceIndex,
    Faces,
    Fmr,
    Folders,
    Format,
    MinFace,
    Model,
    NoRefresh,
    OutFile,
    Prior,
    Quiet,
    Root,
    Threshold,
    Weights,
    open_embedder,
    open_gallery,
    open_rule,
    read_pairs,
)
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.calibration.decision import Rule
    from facecli.cli.output import Notes, Output
    from facecli.templates.embedder import Embedder
    from facecli.trials.pairs import PairSet


def verify(
    context: typer.Context,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTO", help="Two photos; with --db, one.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="A csv with the columns left,right[,mated]; '-' reads it from stdin."),
    ] = None,
    root: Root = None,
    db: Database = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="With --db: the enrolled person to compare one photo with."),
    ] = None,
    no_refresh: NoRefresh = False,
    fmr: Fmr = None,
    threshold: Threshold = None,
    calibration: CalibrationFile = None,
    prior: Prior = config.DEFAULT_PRIOR,
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
    """Is this the same person? Compare two photos, a list of pairs, or a photo with an enrolled person.

    Exits with 0 for a match and 1 for a non-match; with `--pairs`, with 0 when every pair was compared.

    Examples:

    - `facecli verify a.jpg b.jpg`
    - `facecli verify a.jpg b.jpg --fmr 1e-4 && echo same`
    - `facecli verify photo.jpg --db people --subject Ada`
    - `facecli verify --pairs pairs.csv --format csv > scores.csv`
    """
    from facecli.cli.output import Notes, Output

    chosen = list(photos) if photos is not None else []
    notes = Notes(quiet)
    if faces == "all":
        raise UsageError(
            "verify compares one face a photo", hint="use --faces largest, center or one, or --face INDEX"
        )
    _check_verify(chosen, pairs, root, db, subject, no_refresh)
    folders: Folders = context.obj
    embedder = open_embedder(folders, notes, model, weights, device, faces, face, min_face, aligned)
    # Imported while the networks load.
    from facecli.recognition import verify as library

    rule = open_rule(folders, embedder, threshold, fmr, calibration, prior)
    with Output(
        library.COLUMNS, form=form, path=output, flatten=library.flatten, upright=pairs is None
    ) as sink:
        if pairs is not None:
            code = _compare_pairs(embedder, rule, read_pairs(pairs, root), sink, notes)
        else:
            if db is not None and subject is not None:
                # --faces and --face are about the photo: enrolment takes the largest face whatever they say.
                gallery = open_gallery(db, embedder.choosing("largest"), folders, notes, no_refresh)
                record = library.verify_subject(embedder, rule, gallery, chosen[0], subject)
            else:
                record = library.verify_photos(embedder, rule, chosen[0], chosen[1])
            sink.emit(record)
            code = 0 if record["match"] else NON_MATCH
    if sink.form == "table":
        notes.say(rule.describe())
    raise typer.Exit(code)


def find(
    context: typer.Context,
    probes: Annotated[
        list[str],
        typer.Argument(
            metavar="PROBE",
            help="Photos, folders, templates (.npy, .jsonl), or '-': paths or JSON Lines of embed on stdin.",
        ),
    ],
    db: Annotated[Path, typer.Option("--db", help="A folder with a folder of photos for each person.")],
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, help="How many people to list for each face.")
    ] = config.DEFAULT_TOP,
    no_refresh: NoRefresh = False,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Write the probe with boxes and names to this picture."),
    ] = None,
    fmr: Fmr = None,
    fpir: Annotated[
        float | None,
        typer.Option(
            "--fpir",
            help="Choose the threshold for this probability that a stranger matches anybody enrolled,"
            " and check it on the database.",
        ),
    ] = None,
    threshold: Threshold = None,
    calibration: CalibrationFile = None,
    prior: Prior = config.DEFAULT_PRIOR,
    model: Model = config.DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = "cpu",
    faces: Faces = "all",
    face: FaceIndex = None,
    min_face: MinFace = config.Detection.min_face_px,
    aligned: Aligned = False,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Who is this? Rank the people of a database for every face in the probes.

    New and changed photos of the database are enrolled first, by their largest face. A face is *unknown* when
    nobody reaches the threshold. Exits with 0 if anybody was found, 1 if nobody, 2 on any error.

    Examples:

    - `facecli find probe.jpg --db people`
    - `facecli find party/ --db people --top 1 --format csv`
    - `facecli find group.jpg --db people --draw named.jpg`
    - `facecli find visitors/ --db people --fpir 0.01`
    - `find . -name '*.jpg' | facecli embed - | facecli find - --db people`
    """
    from facecli.cli.output import Notes, Output

    folders: Folders = context.obj
    notes = Notes(quiet)
    if fpir is not None and (fmr is not None or threshold is not None):
        raise UsageError("--fpir, --fmr and --threshold each set the threshold", hint="give one of them")
    if fpir is not None and not 0 < fpir < 1:
        raise UsageError(f"an FPIR of {fpir:g} is not between 0 and 1")
    photo = None
    if draw is not None:
        from facecli.cli.inputs import one_photo

        photo = one_photo(probes)
    if photo is not None and draw is not None and os.path.realpath(photo) == os.path.realpath(draw):
        raise UsageError("the picture would overwrite the probe", path=draw, hint="give it another name")
    embedder = open_embedder(folders, notes, model, weights, device, faces, face, min_face, aligned)
    # Imported while the networks load.
    from facecli.cli.inputs import probes_from
    from facecli.recognition import identify as library

    # For one sample FPIR is FMR: what is not even supported then is refused before anybody is enrolled.
    rule = open_rule(folders, embedder, threshold, fmr if fpir is None else fpir, calibration, prior)
    gallery = open_gallery(db, embedder.choosing("largest"), folders, notes, no_refresh)
    alarms = None
    if fpir is not None:
        rule, alarms = library.rule_for_gallery(rule, fpir, gallery)
        notes.say(alarms.describe())
        if alarms.above_target:
            notes.warn(alarms.suspect())
    found = False
    failed = False
    drawn: list[dict[str, Any]] = []
    with Output(library.COLUMNS, form=form, path=output, flatten=library.flatten) as sink:
        source = probes_from(probes, embedder)
        for record in library.identify(gallery, rule, source, top=top, alarms=alarms):
            sink.emit(record)
            if "error" in record:
                failed = True
                if sink.form != "table" or output is not None:
                    notes.warn(f"{record['probe']}: {record['error']['message']}")
                continue
            found |= record["match"]
            drawn.append(record)
    if draw is not None and photo is not None and drawn:
        from facecli.recognition.draw import draw_faces

        draw_faces(photo, drawn, draw)
    if sink.form == "table":
        notes.say(rule.describe())
    raise typer.Exit(INPUT_ERROR if failed else 0 if found else NON_MATCH)


def _compare_pairs(embedder: Embedder, rule: Rule, pairs: PairSet, sink: Output, notes: Notes) -> int:
    """Emit a record a pair; return 0 when every row of the list was compared."""
    from facecli.recognition.verify import verify_pairs

    for error in pairs.errors:
        notes.warn(str(error))
    failed = 0
    with notes.progress("embedding", shown=not sink.scrolls) as tell:
        for record in verify_pairs(embedder, rule, pairs, progress=tell):
            sink.emit(record)
            failed += "error" in record
    if failed:
        notes.warn(f"{failed:,} of {len(pairs):,} pairs could not be compared")
    return INPUT_ERROR if failed or pairs.errors else 0


def _check_verify(
    photos: list[Path],
    pairs: str | None,
    root: Path | None,
    db: Path | None,
    subject: str | None,
    no_refresh: bool,
) -> None:
    """Raise `UsageError` unless the options ask for exactly one of the three things verify does."""
    if pairs is not None:
        if photos or db is not None or subject is not None:
            raise UsageError(
                "--pairs names the photos itself", hint="leave out the photos, --db and --subject"
            )
        return
    if root is not None:
        raise UsageError("--root goes with --pairs")
    if db is not None or subject is not None:
        if db is None or subject is None or len(photos) != 1:
            raise UsageError(
                "an enrolled person is compared with one photo",
                hint="facecli verify PHOTO --db people --subject NAME",
            )
        return
    if no_refresh:
        raise UsageError("--no-refresh goes with --db")
    if len(photos) != 2:
        raise UsageError(f"verify compares two photos, not {len(photos)}", hint="facecli verify a.jpg b.jpg")
