"""The commands `models ...`: which networks there are, and how more come here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from facecli.cli.complete import added_names, fetched_names, model_names
from facecli.cli.exit_codes import INPUT_ERROR
from facecli.cli.options import Format, OutFile, Quiet
from facecli.cli.session import Folders

if TYPE_CHECKING:
    from facecli.models.spec import ModelSpec

COLUMNS = [
    *("name", "dim", "kind", "here", "calibrated", "ms_a_face", "accuracy", "non_commercial"),
    *("exported", "contract", "weights", "licence", "warning"),
]
LONG = ("weights", "contract", "licence", "warning", "exported", "kind", "dim")
"""What a narrow terminal does without, in this order."""


class _ListsModels(TyperGroup):
    """A group whose words are models where they are none of its commands: `models` alone lists them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (not args or args[0] not in (*self.commands, "--help", "-h")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(name="models", cls=_ListsModels, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def _about() -> None:
    """List the models, fetch the weights of some, or give a file of your own a name.

    Without a command the models are listed, or those that are named.

    Examples:

    - `facecli models`
    - `facecli models my.onnx --format jsonl`
    - `facecli models fetch auraface`
    """


@app.command("list")
def show(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="Models to describe [default: all known].", autocompletion=model_names
        ),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure those that are here: ms for a face on one core.")
    ] = False,
    form: Format = "auto",
    output: OutFile = None,
) -> None:
    """List the models: published accuracy, licence, whether their weights are here and a calibration holds for them.

    A terminal shows the columns that fit; jsonl and csv have all, with input contract and where the weights are.

    Examples:

    - `facecli models`
    - `facecli models list my.onnx --speed --format jsonl`
    """
    from facecli.cli.output import Output
    from facecli.models import added
    from facecli.models.built_in import BUILT_IN, DETECTOR_FILES
    from facecli.models.registry import resolve

    folders: Folders = context.obj
    with Output(COLUMNS, form=form, path=output, left_out=LONG) as sink:
        for name in names if names else [*BUILT_IN, *added.names(folders.user)]:
            sink.emit(_record(resolve(name, folders.user), name, folders, speed))
        for name in DETECTOR_FILES if not names else ():
            sink.emit(_detector_record(name, folders.cache))


def _record(spec: ModelSpec, name: str, folders: Folders, speed: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from facecli.calibration.files import find_calibration
    from facecli.models.families import family
    from facecli.models.registry import describe
    from facecli.templates.embedder import Embedder, embedder_id

    status = describe(spec, folders.cache)
    calibrated = None
    if status.here:
        own = family(spec)
        embedder = embedder_id(spec, own.network(spec, folders.cache, None, None).key, aligned=False)
        beside = own.calibration_beside(spec)
        calibrated = (beside is not None and beside.is_file()) or find_calibration(
            embedder, folders.user
        ) is not None
    record = {**asdict(status), "kind": "network", "calibrated": calibrated}
    if speed:
        record["ms_a_face"] = None
        if status.here:
            from facecli.templates.speed import ms_a_face

            record["ms_a_face"] = ms_a_face(
                Embedder(name, cache_dir=folders.cache, user_dir=folders.user, aligned=True)
            )
    return record


def _detector_record(name: str, cache: Path) -> dict[str, Any]:
    from facecli.models.built_in import DETECTOR_FILES
    from facecli.models.registry import detector_path

    file = DETECTOR_FILES[name]
    path = detector_path(file, cache)
    return {
        "name": name,
        "kind": "detector",
        "here": path.is_file(),
        "accuracy": file.accuracy,
        "non_commercial": file.non_commercial,
        "weights": str(path) if path.is_file() else file.places[0].url,
        "licence": file.licence,
    }


@app.command()
def fetch(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Models and weights of detectors.", autocompletion=fetched_names),
    ],
    form: Format = "auto",
    output: OutFile = None,
    quiet: Quiet = False,
) -> None:
    """Put weights on this machine, so that later runs need no network.

    What is here already is checked. Terms that leave out commercial use are said before anything is fetched.

    Examples:

    - `facecli models fetch auraface`
    - `facecli models fetch buffalo_l scrfd-10g`
    """
    from facecli.cli.advice import shell_record
    from facecli.cli.notes import Notes
    from facecli.cli.output import Output, error_text
    from facecli.errors import FaceError
    from facecli.models.registry import fetch_weights

    folders: Folders = context.obj
    notes = Notes(quiet)
    columns = ["name", "bytes", "non_commercial", "licence", "path", "error"]
    failed = False

    def flat(record: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**record, "error": error_text(record)}]

    with Output(columns, form=form, path=output, flatten=flat, left_out=("licence",)) as sink:
        for name in names:
            try:
                with notes.progress(f"fetching {name}", size=True) as tell:
                    what, path = fetch_weights(
                        name, cache_dir=folders.cache, user_dir=folders.user, notify=notes.say, progress=tell
                    )
            except FaceError as error:
                failed = True
                sink.emit({"name": name, "error": shell_record(error)})
                continue
            sink.emit(
                {
                    "name": name,
                    "path": str(path),
                    "bytes": path.stat().st_size,
                    "licence": what.licence,
                    "non_commercial": what.non_commercial,
                }
            )
    raise typer.Exit(INPUT_ERROR if failed else 0)


@app.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx file.")],
    preset: Annotated[
        Literal["arcface112"] | None,
        typer.Option("--preset", help="What the network wants, where no contract lies beside the file."),
    ] = None,
    order: Annotated[
        Literal["RGB", "BGR"] | None,
        typer.Option("--order", help="The order of its channels, in place of the contract's."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called from now on [default: the file's name].")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Copy an ONNX file to your own models, so that `--model NAME` means it everywhere.

    It is run once, and a channel order that looks wrong is said: faces that come with facecli are told apart better
    in the order that the network learnt.

    Examples:

    - `facecli models add my.onnx --preset arcface112`
    - `facecli models add my.onnx --preset arcface112 --order BGR --name mine`
    """
    from facecli.cli.notes import Notes
    from facecli.models import added
    from facecli.models.registry import describe, resolve
    from facecli.templates.channel_order import doubt
    from facecli.templates.embedder import Embedder

    folders: Folders = context.obj
    notes = Notes(quiet)
    called = added.add(file, user_dir=folders.user, name=name, preset=preset, channel_order=order)
    status = describe(resolve(called, folders.user), folders.cache)
    notes.say(f"added as '{called}': {status.contract}")
    if status.non_commercial:
        notes.warn(f"these weights are known, and not for commercial use: {status.licence}")
    doubted = doubt(Embedder(called, cache_dir=folders.cache, user_dir=folders.user, aligned=True))
    if doubted is not None:
        notes.warn(f"{doubted}; 'facecli models remove {called}', then add it with the other --order")


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model that was added.", autocompletion=added_names)
    ],
    quiet: Quiet = False,
) -> None:
    """Remove a model that was added. Databases and calibrations made with it stay.

    Example: `facecli models remove mine`
    """
    from facecli.cli.notes import Notes
    from facecli.models import added

    folders: Folders = context.obj
    added.remove(name, user_dir=folders.user)
    Notes(quiet).say(f"removed '{name}'; what was made with it stays")
