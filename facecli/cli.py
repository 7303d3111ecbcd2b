"""The command line: the app and what is common to its commands.

Nothing heavy is imported here: `--help` needs neither NumPy nor torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facecli import __version__, config
from facecli.cli_calibrate import calibrate
from facecli.cli_embed import doctor, embed, models
from facecli.cli_eval import evaluate
from facecli.cli_match import find, verify
from facecli.cli_train import train
from facecli.commands import Commands
from facecli.options import Folders

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
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
        typer.Option("--home", envvar="FACECLI_HOME", help="Folder for calibrations that were installed."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Faces on the command line, with error rates that can be believed.

    **verify** two photos, **find** a person among many, **embed** faces for anything else, **calibrate** thresholds
    on your own photos, **eval**uate, **train** better models.
    Works offline; data goes to stdout and remarks to stderr.

    Exit codes: 0 match or done, 1 non-match or nobody found, 2 wrong input, 70 a bug.
    """
    context.obj = Folders(
        cache if cache is not None else config.default_cache_dir(),
        user if user is not None else config.default_user_dir(),
    )


for command in (verify, find, embed, calibrate, evaluate, train, models, doctor):
    # Named after what people type; a function called eval would hide Python's own.
    app.command("eval" if command is evaluate else None)(command)
