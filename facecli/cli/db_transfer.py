"""The commands `db export`, `db import` and `db migrate`: templates out of a database, into one, and made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from facecli.cli.complete import subjects
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.groups import grouped
from facecli.cli.options import (
    DatabaseFolder,
    EnrolOptions,
    KeptOptions,
    OutputOptions,
    Seed,
    TemplateOutputOptions,
)
from facecli.cli.session import Folders, open_embedder, refreshed
from facecli.errors import UsageError


@grouped
def export(
    context: typer.Context,
    root: DatabaseFolder,
    *,
    kept: KeptOptions,
    out: TemplateOutputOptions,
) -> None:
    """Write the templates of a database as `embed` does, each with its subject: for find, eval, other programs.

    Examples:

    - `facecli db export people -o faces.npy`
    - `facecli db export people | jq -r .subject | sort | uniq -c`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output, choose_format
    from facecli.gallery.upkeep.export import exported
    from facecli.templates.npy_output import NpyOutput
    from facecli.templates.records import is_npy, numbers

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    embedder = open_embedder(folders, notes, kept)
    npy = out.output is not None and is_npy(out.output)
    sink: Output | NpyOutput
    if npy and out.output is not None:
        sink = NpyOutput(out.output, embedder.dim, subjects=True)
    else:
        columns = ["path", "subject", "face", "n_faces", "box", "probability", "quality", "embedder_id"]
        if choose_format(out.form, out.output) in ("csv", "tsv"):
            columns.append("embedding")
        sink = Output(columns, form=out.form, path=out.output)
    with (
        exported(root, embedder_id=embedder.id, dim=embedder.dim, cache_dir=folders.cache) as (total, found),
        sink,
        notes.progress("exporting", shown=not sink.scrolls) as tell,
    ):
        for done, record in enumerate(found, start=1):
            sink.emit(record if npy else {**record, "embedding": numbers(record["embedding"])})
            tell(done, total)
    if out.output is not None:
        beside = ", their table beside it" if npy else ""
        notes.say(f"{total:,} templates of {embedder.dim} numbers in {out.output}{beside}")


@grouped
def take_in(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="Templates: x.npy with x.csv, or JSON Lines; '-': stdin.")
    ],
    db: Annotated[Path, typer.Option("--db", help="The database, which is made if need be.")],
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            help="Whom all of them show [default: as each says under 'subject'].",
            autocompletion=subjects,
        ),
    ] = None,
    *,
    kept: KeptOptions,
    out: OutputOptions,
) -> None:
    """Add templates without photos to a database: those of `export` and `embed`, of this very model.

    Whoever they show can be found from then on. What is there already is not added twice, so an import that was
    broken off can simply be run again.

    Examples:

    - `facecli db import faces.npy --db people`
    - `facecli embed ada.jpg --faces one | facecli db import - --db people --subject Ada`
    """
    from facecli.cli.inputs import stdin_lines
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.upkeep.report import IMPORT_COLUMNS, import_record
    from facecli.gallery.upkeep.take_in import import_templates
    from facecli.templates.blocks import read_blocks

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    embedder = open_embedder(folders, notes, kept)
    with notes.progress("importing") as tell:
        done = import_templates(
            db,
            read_blocks(
                stdin_lines() if source == "-" else Path(source),
                embedder_id=embedder.id,
                dim=embedder.dim,
                subject=subject,
            ),
            embedder_id=embedder.id,
            dim=embedder.dim,
            cache_dir=folders.cache,
            progress=tell,
            notify=notes.say,
        )
    with Output(IMPORT_COLUMNS, form=out.form, path=out.output, upright=True) as sink:
        sink.emit(import_record(done, embedder.id))
    for probe in done.failed:
        notes.warn(f"{probe.path}: {probe.error['message']}")
    if done.n_photos:
        notes.warn(
            f"{done.n_photos:,} templates were left out: the database has photos of that subject and name"
        )
    raise typer.Exit(INPUT_ERROR if done.failed else 0)


@grouped
def migrate(
    context: typer.Context,
    root: DatabaseFolder,
    to: Annotated[str, typer.Option("--to", metavar="MODEL", help="The new model, as for --model.")],
    to_weights: Annotated[
        Path | None, typer.Option("--to-weights", help="A file of weights for it, as for --weights.")
    ] = None,
    *,
    enrolling: EnrolOptions,
    seed: Seed = 0,
    out: OutputOptions,
) -> None:
    """Enrol the photos under another model, and report how far the two agree about them.

    The templates of --model stay; `facecli db gc --other-models` removes them. Imported templates cannot be
    migrated, because there is no photo to make them of.

    Examples:

    - `facecli db migrate people --to runs/best/model.pt`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.gallery import Gallery
    from facecli.gallery.upkeep.agreement import compare_embedders
    from facecli.gallery.upkeep.report import MIGRATE_COLUMNS, flat_migrate, imported_paths, migrate_record

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    old_model = open_embedder(folders, notes, enrolling)
    new_model = open_embedder(folders, notes, replace(enrolling, model=to, weights=to_weights))
    if old_model.id == new_model.id:
        raise UsageError(
            f"both models are the same embedder, {new_model.id}", hint="name the present one with --model"
        )
    old = Gallery.open(root, old_model.id, old_model.dim, cache_dir=folders.cache)
    imported = imported_paths(root, old_model, folders.cache)
    new, report = refreshed(root, new_model, folders, notes)
    with notes.progress("comparing") as tell:
        found = compare_embedders(old, new, imported=imported, seed=seed, progress=tell)
    with Output(MIGRATE_COLUMNS, form=out.form, path=out.output, flatten=flat_migrate, upright=True) as sink:
        sink.emit(migrate_record(found, old_model.id, new_model.id, len(imported), report))
    if imported:
        notes.warn(
            f"{len(imported):,} imported templates have no photo and stay with {old_model.id} only:"
            " import templates of the new model for them"
        )
    if not new.complete:
        notes.warn(f"{root}: photos are missing, the enrolment was cut off")
