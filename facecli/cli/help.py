"""The command `help`: what `--help` shows of a command, for those who ask by name."""

from __future__ import annotations

from typing import Annotated

import typer

from facecli.errors import UsageError


def show(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="A command, and one of its own if it has some."),
    ] = None,
) -> None:
    """Show the help of a command, as `--help` after it does.

    Examples:

    - `facecli help verify`
    - `facecli help db check`
    """
    here = context.find_root()
    for word in words if words is not None else []:
        command = here.command.get_command(here, word) if hasattr(here.command, "get_command") else None
        if command is None:
            raise UsageError(f"no command is called '{word}'", hint="'facecli --help' lists them")
        here = type(here)(command, info_name=word, parent=here)
    typer.echo(here.get_help())
