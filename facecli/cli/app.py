"""The command line: the app and what is common to its commands.

Nothing heavy is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import typer.core

from facecli import __version__, config
from facecli.cli.exit_codes import Commands
from facecli.cli.groups import grouped
from facecli.cli.session import Folders

_MARKUP: Literal["markdown"] = "markdown"

_COMMANDS = {
    "verify": "verify:verify",
    "find": "find:find",
    "embed": "embed:embed",
    "calibrate": "calibrate:calibrate",
    # A function called eval would hide Python's own.
    "eval": "evaluate:evaluate",
    "train": "train:train",
    "db": "db:db",
    "models": "models:app",
    "doctor": "doctor:doctor",
    "help": "help:show",
}
"""Where each command is, in the order of `--help`. A command more is one file and one line here."""


class _Late(Commands):
    """A group whose commands are imported when they are asked for: building all of them takes as long as Typer."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # A name that nobody knows is compared with those of all commands.
        for name in [cmd_name] if cmd_name in _COMMANDS else _COMMANDS:
            if name not in self.commands:
                self.commands[name] = _command(name)
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # The list shows names and first sentences: no command's options need to be made for it.
        made, self.commands = self.commands, {name: _listed(name) for name in _COMMANDS}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = made


def _imported(name: str) -> Any:
    """Return the function of a command, or the app of one that has commands of its own."""
    module, _, attribute = _COMMANDS[name].partition(":")
    return getattr(import_module(f"facecli.cli.{module}"), attribute)


def _command(name: str) -> Any:
    command = _imported(name)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    app = typer.Typer(add_completion=False, rich_markup_mode=_MARKUP)
    app.command(name)(grouped(command))
    return typer.main.get_command(app)


def _listed(name: str) -> Any:
    """Return a command as the list of all shows it, without its options."""
    command = _imported(name)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    return typer.core.TyperCommand(name, help=getdoc(command), rich_markup_mode=_MARKUP)


app = typer.Typer(
    cls=_Late,
    no_args_is_help=True,
    rich_markup_mode=_MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"facecli {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", envvar="FACECLI_CACHE", help="Folder for weights and exported networks."),
    ] = None,
    user: Annotated[
        Path | None,
        typer.Option(
            "--home", envvar="FACECLI_HOME", help="Folder for installed calibrations and added models."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Faces on the command line, with error rates that can be believed.

    **verify** two photos, **find** a person among many, **embed** faces for anything else, **calibrate** thresholds
    on your own photos, **eval**uate, **train** better models, and look after a **db**.
    Works offline; data goes to stdout and remarks to stderr.

    Exit codes: 0 match or done, 1 non-match or nobody found, 2 wrong input, 70 a bug.
    """
    context.obj = Folders(
        cache if cache is not None else config.default_cache_dir(),
        user if user is not None else config.default_user_dir(),
    )
