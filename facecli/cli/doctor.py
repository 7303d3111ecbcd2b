"""The command `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from facecli.cli.complete import model_names
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import Format, OutFile, Quiet
from facecli.cli.session import Folders


def doctor(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="Models to check beside the built-in ones.", autocompletion=model_names
        ),
    ] = None,
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Say what is installed, where caches and weights lie, and check each model against a known answer.

    Exits with 2 when something that must work does not.

    Examples:

    - `facecli doctor`
    - `facecli doctor my.onnx`
    """
    from dataclasses import asdict

    from facecli.cli import examine as library
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output

    folders: Folders = context.obj
    failed = False
    with Output(library.COLUMNS, form=form, path=output) as sink:
        for check in library.examine(
            names if names is not None else [],
            cache_dir=folders.cache,
            user_dir=folders.user,
            notify=Notes(quiet).say,
        ):
            sink.emit(asdict(check))
            failed |= check.state == "failed"
    raise typer.Exit(INPUT_ERROR if failed else 0)
