"""Groups of options: each field is an option, a subclass's default wins, the command gets the group whole."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from facecli.cli.groups import grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", help="Which.", rich_help_panel="Paint")] = "red"
    coats: Annotated[int, typer.Option("--coats")] = 1


@dataclass(frozen=True)
class Thick(Paint):
    coats: Annotated[int, typer.Option("--coats")] = 3


def ran(kind, *arguments):
    app = typer.Typer(add_completion=False)
    seen = []

    def command(name: str, paint: kind, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        """Paint."""
        seen.append((name, paint, loud))

    app.command()(grouped(command))
    done = CliRunner().invoke(app, list(arguments))
    return done, seen


def test_fields_are_options_and_come_back_as_the_group():
    done, seen = ran(Paint, "door", "--colour", "blue", "--loud")
    assert done.exit_code == 0
    assert seen == [("door", Paint("blue", 1), True)]


def test_a_subclass_overrides_a_default():
    assert ran(Thick, "door")[1] == [("door", Thick("red", 3), False)]


def test_help_shows_the_panel_and_a_wrong_value_is_refused():
    assert "Paint" in ran(Paint, "--help")[0].stdout
    assert ran(Paint, "door", "--coats", "many")[0].exit_code == 2
