"""The command `find`: who is this, for every face in the probes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from facecli import config
from facecli.cli.exit_codes import INPUT_ERROR, NON_MATCH
from facecli.cli.groups import grouped
from facecli.cli.options import (
    AllFacesOptions,
    NoRefresh,
    OutputOptions,
    RuleOptions,
)
from facecli.cli.session import Folders, open_embedder, open_gallery, open_rule
from facecli.errors import UsageError


@grouped
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
    fpir: Annotated[
        float | None,
        typer.Option(
            "--fpir",
            help="Choose the threshold for this probability that a stranger matches anybody enrolled,"
            " and check it on the database.",
        ),
    ] = None,
    *,
    embedding: AllFacesOptions,
    deciding: RuleOptions,
    out: OutputOptions,
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
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    if fpir is not None and (deciding.fmr is not None or deciding.threshold is not None):
        raise UsageError("--fpir, --fmr and --threshold each set the threshold", hint="give one of them")
    if fpir is not None and not 0 < fpir < 1:
        raise UsageError(f"an FPIR of {fpir:g} is not between 0 and 1")
    photo = None
    if draw is not None:
        from facecli.cli.inputs import one_photo

        photo = one_photo(probes)
    if photo is not None and draw is not None and os.path.realpath(photo) == os.path.realpath(draw):
        raise UsageError("the picture would overwrite the probe", path=draw, hint="give it another name")
    embedder = open_embedder(folders, notes, embedding)
    # Imported while the networks load.
    from facecli.cli.inputs import probes_from
    from facecli.recognition import identify as library

    # For one sample FPIR is FMR: what is not even supported then is refused before anybody is enrolled.
    rule = open_rule(folders, embedder, deciding if fpir is None else replace(deciding, fmr=fpir))
    gallery = open_gallery(db, embedder.choosing("largest"), folders, notes, no_refresh)
    alarms = None
    if fpir is not None:
        from facecli.recognition.false_alarms import rule_for_gallery

        rule, alarms = rule_for_gallery(rule, fpir, gallery)
        notes.say(alarms.describe())
        if alarms.above_target:
            notes.warn(alarms.suspect())
    found = False
    failed = False
    drawn: list[dict[str, Any]] = []
    with Output(library.COLUMNS, form=out.form, path=out.output, flatten=library.flatten) as sink:
        source = probes_from(probes, embedder)
        for record in library.identify(gallery, rule, source, top=top, alarms=alarms):
            sink.emit(record)
            if "error" in record:
                failed = True
                if sink.form != "table" or out.output is not None:
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
