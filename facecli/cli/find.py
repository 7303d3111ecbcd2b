"""The command `find`: who is this, for every face in the probes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.cli.exit_codes import INPUT_ERROR, NON_MATCH
from facecli.cli.options import AllFacesOptions, NoRefresh, OutputOptions, RuleOptions
from facecli.cli.session import (
    Folders,
    open_embedder,
    open_gallery,
    open_rule,
    warn_of_quality,
    warn_of_threshold,
)
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.calibration.decision import Rule
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.gallery import Gallery
    from facecli.recognition.false_alarms import FalseAlarms
    from facecli.recognition.identify import Identified, Unidentified
    from facecli.templates.embedder import Embedder


@dataclass(frozen=True)
class SearchOptions:
    """Where people are searched for, how many are listed, and how often strangers may be taken for one of them."""

    db: Annotated[Path, typer.Option("--db", help="A folder with a folder of photos for each person.")]
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many people to list for each face.")] = (
        config.DEFAULT_TOP
    )
    no_refresh: NoRefresh = False
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Write the probe with boxes and names to this picture."),
    ] = None
    fpir: Annotated[
        float | None,
        typer.Option(
            "--fpir",
            help="Choose the threshold for this probability that a stranger matches anybody enrolled,"
            " and check it on the database.",
            rich_help_panel="Threshold",
        ),
    ] = None


def find(
    context: typer.Context,
    probes: Annotated[
        list[str],
        typer.Argument(
            metavar="PROBE",
            help="Photos, folders, templates (.npy, .jsonl), or '-': paths or JSON Lines of embed on stdin.",
        ),
    ],
    *,
    search: SearchOptions,
    embedding: AllFacesOptions,
    deciding: RuleOptions,
    out: OutputOptions,
) -> None:
    """Who is this? Rank the people of a database for every face in the probes.

    New and changed photos of the database are enrolled first, by their main face. A face is *unknown* when
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

    notes = Notes(out.quiet)
    _check_rates(search, deciding)
    photo = None if search.draw is None else _photo_to_draw(probes, search.draw)
    embedder = open_embedder(context.obj, notes, embedding)
    # Imported while the networks load.
    from facecli.cli.inputs import probes_from
    from facecli.recognition import identify as library

    gallery, rule, alarms = _prepared(context.obj, notes, embedder, search, deciding)
    with Output(
        library.COLUMNS,
        form=out.form,
        path=out.output,
        flatten=library.flatten,
        left_out=("rank", "face"),
    ) as sink:
        source = probes_from(probes, embedder)
        answers = library.identify(
            gallery, rule, source, top=search.top, alarms=alarms, min_quality=embedder.lowest_quality
        )
        shown: list[Identified] = []
        tally = _emit(answers, sink, notes, shown if photo is not None else None)
    if search.draw is not None and photo is not None and shown:
        from facecli.recognition.draw import draw_faces

        draw_faces(photo, shown, search.draw)
    if sink.form == "table":
        notes.say(rule.describe())
    warn_of_quality(notes, rule, tally.unrated)
    raise typer.Exit(INPUT_ERROR if tally.failed else 0 if tally.anybody else NON_MATCH)


def _check_rates(search: SearchOptions, deciding: RuleOptions) -> None:
    """Raise `UsageError` unless one option sets the threshold, to a rate that can be."""
    if search.fpir is None:
        return
    if deciding.fmr is not None or deciding.threshold is not None:
        raise UsageError("--fpir, --fmr and --threshold each set the threshold", hint="give one of them")
    if not 0 < search.fpir < 1:
        raise UsageError(f"an FPIR of {search.fpir:g} is not between 0 and 1")


def _photo_to_draw(probes: list[str], target: Path) -> Path:
    """Return the photo to draw on; raises `UsageError` unless the probes are one, and not the picture itself."""
    from facecli.cli.inputs import one_photo

    photo = one_photo(probes)
    if os.path.realpath(photo) == os.path.realpath(target):
        raise UsageError("the picture would overwrite the probe", path=target, hint="give it another name")
    return photo


def _prepared(
    folders: Folders, notes: Notes, embedder: Embedder, search: SearchOptions, deciding: RuleOptions
) -> tuple[Gallery, Rule, FalseAlarms | None]:
    """Return the database, brought up to date, the rule that decides in it, and what --fpir came to."""
    # For one sample FPIR is FMR: what is not even supported then is refused before anybody is enrolled.
    rule = open_rule(
        folders, embedder, deciding if search.fpir is None else replace(deciding, fmr=search.fpir)
    )
    gallery = open_gallery(
        search.db, embedder.choosing(config.DEFAULT_FACES), folders, notes, search.no_refresh
    )
    warn_of_threshold(notes, rule, deciding)
    if search.fpir is None:
        return gallery, rule, None
    from facecli.recognition.false_alarms import rule_for_gallery

    rule, alarms = rule_for_gallery(rule, search.fpir, gallery)
    notes.say(alarms.describe())
    if alarms.above_target:
        notes.warn(alarms.suspect())
    return gallery, rule, alarms


@dataclass
class Tally:
    """What is kept of the answers, of which there may be millions."""

    anybody: bool = False
    failed: bool = False
    unrated: int = 0


def _emit(
    answers: Iterable[Identified | Unidentified],
    sink: Output,
    notes: Notes,
    shown: list[Identified] | None,
) -> Tally:
    """Emit a record a face; return the tally of all, and add the faces to `shown`, where they are drawn."""
    from facecli.recognition.identify import Identified

    tally = Tally()
    for answer in answers:
        sink.emit(answer.record())
        if isinstance(answer, Identified):
            tally.anybody |= answer.match
            tally.unrated += answer.fmr is None
            if shown is not None:
                shown.append(answer)
            continue
        tally.failed = True
        if sink.form != "table" or sink.path is not None:
            notes.warn(f"{answer.probe}: {answer.error['message']}")
    return tally
