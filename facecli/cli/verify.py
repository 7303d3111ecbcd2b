"""The command `verify`: two photos, a list of pairs, or a photo and an enrolled person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facecli import config
from facecli.cli.advice import in_shell_words
from facecli.cli.complete import subjects
from facecli.cli.exit_codes import INPUT_ERROR, NON_MATCH
from facecli.cli.options import Database, EmbedderOptions, NoRefresh, OutputOptions, Root, RuleOptions
from facecli.cli.session import (
    Folders,
    open_embedder,
    open_gallery,
    open_rule,
    read_pairs,
    warn_of_quality,
    warn_of_threshold,
)
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.calibration.decision import Rule
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.templates.embedder import Embedder
    from facecli.trials.pairs import PairSet


@dataclass(frozen=True)
class ComparedOptions:
    """What is compared, where it is not two photos."""

    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="A csv with the columns left,right[,mated]; '-' reads it from stdin."),
    ] = None
    root: Root = None
    db: Database = None
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            help="With --db: the enrolled person to compare one photo with.",
            autocompletion=subjects,
        ),
    ] = None
    no_refresh: NoRefresh = False


def verify(
    context: typer.Context,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTO", help="Two photos; with --db, one.")
    ] = None,
    *,
    compared: ComparedOptions,
    embedding: EmbedderOptions,
    deciding: RuleOptions,
    out: OutputOptions,
) -> None:
    """Is this the same person? Compare two photos, a list of pairs, or a photo with an enrolled person.

    Exits with 0 for a match and 1 for a non-match; with `--pairs`, with 0 when every pair was compared.

    Examples:

    - `facecli verify a.jpg b.jpg`
    - `facecli verify a.jpg b.jpg --fmr 1e-4 && echo same`
    - `facecli verify photo.jpg --db people --subject Ada`
    - `facecli verify --pairs pairs.csv --format csv > scores.csv`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output

    chosen = photos if photos is not None else []
    notes = Notes(out.quiet)
    _check(chosen, compared)
    folders: Folders = context.obj
    embedder = open_embedder(folders, notes, embedding)
    # Imported while the networks load.
    from facecli.recognition import verify as library

    rule = open_rule(folders, embedder, deciding)
    warn_of_threshold(notes, rule, deciding)
    upright = compared.pairs is None
    with Output(
        library.COLUMNS, form=out.form, path=out.output, flatten=library.flatten, upright=upright
    ) as sink:
        if compared.pairs is not None:
            code = _compare_pairs(embedder, rule, read_pairs(compared.pairs, compared.root), sink, notes)
        else:
            if compared.db is not None and compared.subject is not None:
                # --faces and --face are about the photo: enrolment takes the main face whatever they say.
                enroller = embedder.choosing(config.DEFAULT_FACES)
                gallery = open_gallery(compared.db, enroller, folders, notes, compared.no_refresh)
                verdict: library.Verdict = library.verify_subject(
                    embedder, rule, gallery, (chosen[0], None), compared.subject
                )
            else:
                verdict = library.verify_photos(embedder, rule, (chosen[0], None), (chosen[1], None))
            sink.emit(verdict.record())
            warn_of_quality(notes, rule, verdict.fmr is None)
            code = 0 if verdict.match else NON_MATCH
    if sink.form == "table":
        notes.say(rule.describe())
    raise typer.Exit(code)


def _compare_pairs(embedder: Embedder, rule: Rule, pairs: PairSet, sink: Output, notes: Notes) -> int:
    """Emit a record a pair; return 0 when every row of the list was compared."""
    from facecli.recognition.verify import Uncompared, verify_pairs

    for error in pairs.errors:
        notes.warn(str(in_shell_words(error)))
    failed = unrated = 0
    with notes.progress("embedding", shown=not sink.scrolls) as tell:
        for verdict in verify_pairs(embedder, rule, pairs, progress=tell):
            sink.emit(verdict.record())
            if isinstance(verdict, Uncompared):
                failed += 1
            else:
                unrated += verdict.fmr is None
    warn_of_quality(notes, rule, unrated)
    if failed:
        notes.warn(f"{failed:,} of {len(pairs):,} pairs could not be compared")
    return INPUT_ERROR if failed or pairs.errors else 0


def _check(photos: list[Path], compared: ComparedOptions) -> None:
    """Raise `UsageError` unless the options ask for exactly one of the three things verify does."""
    if compared.pairs is not None:
        if photos or compared.db is not None or compared.subject is not None:
            raise UsageError(
                "--pairs names the photos itself", hint="leave out the photos, --db and --subject"
            )
        return
    if compared.root is not None:
        raise UsageError("--root goes with --pairs")
    if compared.db is not None or compared.subject is not None:
        if compared.db is None or compared.subject is None or len(photos) != 1:
            raise UsageError(
                "an enrolled person is compared with one photo",
                hint="facecli verify PHOTO --db people --subject NAME",
            )
        return
    if compared.no_refresh:
        raise UsageError("--no-refresh goes with --db")
    if len(photos) != 2:
        raise UsageError(f"verify compares two photos, not {len(photos)}", hint="facecli verify a.jpg b.jpg")
