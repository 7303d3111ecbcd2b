"""The command `embed`: faces to templates, of photos or of a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facecli import config
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import AllFacesOptions, Form, TemplateOutputOptions
from facecli.cli.session import Folders, open_embedder, refreshed
from facecli.errors import UsageError

if TYPE_CHECKING:
    from facecli.cli.notes import Notes
    from facecli.templates.embedder import Embedder


def embed(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="PHOTO", help="Photos, folders, 'globs', or '-': paths on stdin, one a line."),
    ] = None,
    db: Annotated[
        Path | None,
        typer.Option("--db", help="Bring the templates of this database up to date instead."),
    ] = None,
    *,
    embedding: AllFacesOptions,
    out: TemplateOutputOptions,
) -> None:
    """Turn faces into templates, for pipes and other programs. One record a face, largest first.

    JSON Lines records have the schema `facecli.embed/1`. A file that fails is a record with `error`, and the run
    goes on; it then ends with exit code 2.

    Examples:

    - `facecli embed photos/ -o faces.npy`
    - `facecli embed photo.jpg | jq .box`
    - `facecli embed --db people`
    """
    from facecli.cli.notes import Notes
    from facecli.templates.records import is_npy

    folders: Folders = context.obj
    notes = Notes(out.quiet)
    if (db is None) == (not sources):
        what = "nothing to embed" if db is None else "--db embeds the photos of the database"
        raise UsageError(what, hint="give photos, or a database with --db")
    embedder = open_embedder(folders, notes, embedding)
    if db is not None and out.output is not None and is_npy(out.output):
        raise UsageError("a database keeps its own templates", hint="leave out --output, or give photos")
    if db is not None:
        raise typer.Exit(
            _embed_database(db, embedder.choosing(config.DEFAULT_FACES), folders, notes, out.form, out.output)
        )
    raise typer.Exit(
        _embed_photos(sources if sources is not None else [], embedder, notes, out.form, out.output)
    )


def _embed_photos(
    sources: list[str], embedder: Embedder, notes: Notes, form: Form, output: Path | None
) -> int:
    from facecli.cli.inputs import embedded, no_images, photos_from
    from facecli.cli.output import Output, choose_format
    from facecli.templates.npy_output import NpyOutput
    from facecli.templates.records import embed_record, failed_record, is_npy
    from facecli.templates.template import Embedded

    photos: list[Path] | Iterator[Path]
    if "-" in sources:
        photos = photos_from(sources)
        total = None
    else:
        photos = list(photos_from(sources))
        total = len(photos)
        if not photos:
            raise no_images(sources)
    npy = output is not None and is_npy(output)
    sink: Output | NpyOutput
    if npy and output is not None:
        sink = NpyOutput(output, embedder.dim)
    else:
        columns = ["path", "face", "n_faces", "box", "probability", "quality", "embedder_id", "error"]
        if choose_format(form, output) in ("csv", "tsv"):
            columns.insert(-1, "embedding")
        sink = Output(columns, form=form, path=output, flatten=_embed_rows)
    failed = 0
    with sink, notes.progress("embedding", shown=not sink.scrolls) as tell:
        for done, (path, found) in enumerate(embedded(photos, embedder), start=1):
            if isinstance(found, Embedded):
                for chosen in found.faces:
                    sink.emit(embed_record(found, chosen, embedder.id))
            else:
                failed += 1
                sink.emit(failed_record(path, found))
                if sink.form != "table" or output is not None:
                    notes.warn(str(found))
            tell(done, total)
    if npy:
        notes.say(f"{sink.count} templates of {embedder.dim} numbers in {output}, their table beside it")  # type: ignore[union-attr]
    return INPUT_ERROR if failed else 0


def _embed_rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    from facecli.cli.output import error_text

    return [{**record, "error": error_text(record)}]


def _embed_database(
    db: Path, embedder: Embedder, folders: Folders, notes: Notes, form: Form, output: Path | None
) -> int:
    from facecli.cli.output import Output

    _, report = refreshed(db, embedder, folders, notes)
    columns = ["path", "code", "message"]
    with Output(columns, form=form, path=output) as sink:
        for failure in report.failures:
            sink.emit({"path": failure.path, "code": failure.code, "message": failure.message})
    notes.say(
        f"{db}: {report.n_subjects} people, {report.n_samples} photos with a template ({report.embedded} new,"
        f" {report.removed} gone), {len(report.failures)} without, embedder {embedder.id}"
    )
    for name in report.without_template:
        notes.warn(f"{name} cannot be found: no photo of theirs has a template")
    if report.ignored:
        notes.warn(
            f"{len(report.ignored)} images lie beside the people's folders and name nobody: {report.ignored[0]}"
        )
    return INPUT_ERROR if report.failures else 0
