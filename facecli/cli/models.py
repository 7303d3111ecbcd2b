"""The command `models`."""

from __future__ import annotations

from typing import Annotated

import typer

from facecli.cli.complete import model_names
from facecli.cli.options import Format, OutFile
from facecli.cli.session import Folders


def models(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Models to describe [default: the built-in ones].",
            autocompletion=model_names,
        ),
    ] = None,
    form: Format = "auto",
    output: OutFile = None,
) -> None:
    """List the models: dimension, input contract, licence, where the weights are and whether they are here.

    Examples:

    - `facecli models`
    - `facecli models my.onnx --format jsonl`
    """
    from dataclasses import asdict

    from facecli.cli.output import Output
    from facecli.models.built_in import BUILT_IN
    from facecli.models.registry import describe, resolve

    folders: Folders = context.obj
    columns = ["name", "dim", "contract", "here", "exported", "weights", "licence", "warning"]
    with Output(columns, form=form, path=output) as sink:
        for name in names if names else list(BUILT_IN):
            sink.emit(asdict(describe(resolve(name), folders.cache)))
