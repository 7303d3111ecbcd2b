"""Groups of options: each field is an option, a subclass's default wins, the command gets the group whole."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from facecli.cli.groups import OneOf, grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option("--colour", help="Which.", rich_help_panel="Paint")] = "red"
    coats: Annotated[int, typer.Option("--coats")] = 1


@dataclass(frozen=True)
class Thick(Paint):
    coats: Annotated[int, typer.Option("--coats")] = 3


@dataclass(frozen=True)
class Chosen:
    tool: Annotated[str | None, OneOf({"brush": 1, "roller": 2}), typer.Option("--tool")] = None
    finish: Annotated[str, OneOf(("matt", "gloss", "matt")), typer.Option("--finish")] = "matt"


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


@dataclass(frozen=True)
class Headed(Paint):
    panel = "Work"

    hours: Annotated[int, typer.Option("--hours")] = 1


def test_a_group_heads_the_options_that_name_no_panel():
    lines = ran(Headed, "--help")[0].stdout.splitlines()
    work, paint = (
        next(k for k, line in enumerate(lines) if f"─ {title} " in line) for title in ("Work", "Paint")
    )
    coats, colour = (
        next(k for k, line in enumerate(lines) if name in line) for name in ("--coats", "--colour")
    )
    assert paint < colour < work < coats
    assert "Work" not in ran(Paint, "--help")[0].stdout


def test_help_shows_the_panel_and_a_wrong_value_is_refused():
    assert "Paint" in ran(Paint, "--help")[0].stdout
    assert ran(Paint, "door", "--coats", "many")[0].exit_code == 2


def test_the_names_of_a_table_are_the_choices():
    assert ran(Chosen, "door", "--tool", "roller", "--finish", "gloss")[1] == [
        ("door", Chosen("roller", "gloss"), False)
    ]
    assert ran(Chosen, "door")[1] == [("door", Chosen(), False)]
    refused = ran(Chosen, "door", "--tool", "sponge")[0]
    assert refused.exit_code == 2
    assert "'brush', 'roller'" in refused.stderr
    assert "matt|gloss" in ran(Chosen, "--help")[0].stdout
