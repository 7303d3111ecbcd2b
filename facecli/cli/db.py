"""The commands `db ...`: what is kept of a database, and what can be done with it."""

from __future__ import annotations

from typing import Annotated

import typer

from facecli.cli.db_transfer import export, migrate, take_in
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.groups import grouped
from facecli.cli.options import (
    DatabaseFolder,
    EnrolOptions,
    KeptOptions,
    OutputOptions,
    Seed,
)
from facecli.cli.session import Folders, open_embedder

db = typer.Typer(name="db", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@db.callback()
def _about() -> None:
    """What is kept of a database: look at it, verify it, clear it, forget a person, move templates."""


@db.command()
@grouped
def status(
    context: typer.Context,
    root: DatabaseFolder,
    failures: Annotated[
        bool, typer.Option("--failures", help="List every photo without a template, and why.")
    ] = False,
    no_refresh: Annotated[
        bool, typer.Option("--no-refresh", help="Do not look whether photos have changed since.")
    ] = False,
    *,
    out: OutputOptions,
) -> None:
    """Say what is enrolled, by which embedders, what failed and why, and whether photos have changed since.

    Nothing is changed, and no model is needed. A record is a store: the templates of one embedder, beside the
    photos or in the cache folder.

    Examples:

    - `facecli db status people`
    - `facecli db status people --failures --format csv`
    """
    from facecli.cli.advice import shell_record
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.upkeep.report import (
        FAILURE_COLUMNS,
        STATUS_COLUMNS,
        failure_records,
        flat_status,
        status_records,
    )

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    if failures:
        with Output(FAILURE_COLUMNS, form=out.form, path=out.output) as sink:
            for record in failure_records(root, folders.cache):
                sink.emit(record)
        return
    records = list(status_records(root, folders.cache, look=not no_refresh, describe=shell_record))
    upright = len(records) == 1
    with Output(STATUS_COLUMNS, form=out.form, path=out.output, flatten=flat_status, upright=upright) as sink:
        for record in records:
            sink.emit(record)
    if not records:
        notes.say(f"{root}: nobody is enrolled here; 'facecli embed --db {root}' enrols the photos")
    broken = [record for record in records if "error" in record]
    raise typer.Exit(INPUT_ERROR if broken else 0)


@db.command()
@grouped
def check(
    context: typer.Context,
    root: DatabaseFolder,
    embed: Annotated[
        int,
        typer.Option(
            "--embed", min=0, metavar="N", help="Make N templates of --model anew and compare them."
        ),
    ] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Forget what is wrong, so that the next refresh enrols it again.")
    ] = False,
    seed: Seed = 0,
    *,
    enrolling: EnrolOptions,
    out: OutputOptions,
) -> None:
    """Verify what is kept against itself and against the photos, every byte of them.

    This finds a photo that was changed in place and had its size, times and inode put back, which no refresh can
    see. Exits with 0 when all is sound, 2 when not.

    Examples:

    - `facecli db check people`
    - `facecli db check people --embed 20`
    - `facecli db check people --repair && facecli embed --db people`
    """
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.upkeep.report import CHECK_COLUMNS, check_records, flat_check

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    embedder = open_embedder(folders, notes, enrolling) if embed else None
    sound = True
    with (
        notes.progress("checking photos") as tell,
        Output(CHECK_COLUMNS, form=out.form, path=out.output, flatten=flat_check) as sink,
    ):
        for record in check_records(
            root,
            folders.cache,
            enroller=embedder,
            n_embed=embed,
            seed=seed,
            repairing=repair,
            progress=tell,
            notify=notes.say,
        ):
            sink.emit(record)
            sound &= record["sound"]
    if not sound:
        if repair:
            what = f"it is forgotten, and 'facecli embed --db {root}' enrols it again"
        else:
            what = f"'facecli db check {root} --repair' forgets it, and the next refresh enrols it again"
        notes.warn(f"{root}: not all is sound: {what}")
    raise typer.Exit(0 if sound else INPUT_ERROR)


@db.command()
@grouped
def gc(
    context: typer.Context,
    root: DatabaseFolder,
    other_models: Annotated[
        bool, typer.Option("--other-models", help="Remove the templates of all models but --model too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and stop.")] = False,
    *,
    kept: KeptOptions,
    out: OutputOptions,
) -> None:
    """Free what is kept for nothing: templates of photos that are gone, and what broken-off work left.

    A photo that comes back afterwards is embedded again. Imported templates stay.

    Examples:

    - `facecli db gc people --dry-run`
    - `facecli db gc people --other-models --model new.pt`
    """
    from dataclasses import asdict

    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.upkeep.gc import clear

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    keep = None
    if other_models:
        keep = open_embedder(folders, notes, kept).id
    cleared, spared = clear(root, cache_dir=folders.cache, keep_only=keep, dry_run=dry_run, notify=notes.say)
    columns = ["what", "rows", "bytes", "embedder_id", "path"]
    with Output(columns, form=out.form, path=out.output) as sink:
        for each in cleared:
            found = asdict(each)
            sink.emit(
                {"what": found["what"], "rows": found["n_rows"], "bytes": found["n_bytes"]}
                | {"embedder_id": each.embedder_id, "path": each.path, "removed": not dry_run}
            )
    for left in spared:
        notes.warn(
            f"{left.path} stays: no photo can bring its {left.n_imported:,} imported templates back"
            f" ('facecli db export' them with their model, then delete the folder)"
        )
    freed = sum(each.n_bytes for each in cleared)
    notes.say(f"{root}: {'would free' if dry_run else 'freed'} {freed:,} bytes")


@db.command()
@grouped
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person: the name of the folder.")],
    root: DatabaseFolder,
    photos: Annotated[
        bool, typer.Option("--photos", help="Delete the folder of the person's photos as well.")
    ] = False,
    *,
    out: OutputOptions,
) -> None:
    """Remove a person from every file that is kept of a database, under every model; list what was removed.

    The bytes of templates, names and paths are gone from the files when this ends. The photos are yours and stay,
    unless `--photos` deletes them: the next refresh would enrol them again. Snapshots of the disk, backups, and
    files made by `export` and `embed` are out of reach.

    Examples:

    - `facecli db forget Ada people --photos`
    """
    from facecli.cli.advice import in_shell_words
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output
    from facecli.gallery.upkeep import forget as library

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    done = library.forget(root, name, cache_dir=folders.cache, photos=photos, notify=notes.say)
    with Output(
        ["what", "samples", "templates", "embedder_id", "path"], form=out.form, path=out.output
    ) as sink:
        for each in done.removed:
            sink.emit(
                {"what": each.what, "samples": each.n_samples, "templates": each.n_templates}
                | {"embedder_id": each.embedder_id, "path": each.path}
            )
        if done.photos_deleted and done.photos:
            sink.emit({"what": f"{done.n_photos} photos", "path": done.photos})
    for error in done.errors:
        notes.warn(f"not everything is removed: {in_shell_words(error)}")
    if done.photos and not done.photos_deleted:
        notes.warn(
            f"the {done.n_photos} files in {done.photos} are still there: the next refresh enrols them again,"
            " unless you delete them (--photos does)"
        )
    raise typer.Exit(INPUT_ERROR if done.errors else 0)


db.command()(export)
db.command("import")(take_in)
db.command()(migrate)
