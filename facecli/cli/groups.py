"""Groups of options: a dataclass whose fields are options stands for all of them in a command's signature.

A field is `name: Annotated[type, typer.Option(...)] = default`; a subclass overrides a default. So an option is said
once, however many commands take it. `panel = "Data"` in the class heads the options that name no panel of `--help`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class OneOf:
    """In the annotation of a group's field: the names of a table that its value is one of.

    Typer takes a `Literal` for that, which cannot be written for a table that others add lines to.
    """

    names: Iterable[str]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` as Typer wants it: each parameter that is a dataclass becomes that dataclass's fields."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[name] = kind
            parameters += _options(kind)
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=kind, kind=keyword))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # Typer would read the signature below
    return run


@functools.cache  # `--help` asks for the same few groups once a command
def _options(kind: Any) -> tuple[inspect.Parameter, ...]:
    """Return a parameter for each field of a group."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_option(hints[field.name], getattr(kind, "panel", None)),
        )
        for field in fields(kind)
    )


def _option(hint: Any, panel: str | None) -> Any:
    """Return a field's annotation: `OneOf` as a `Literal` of its names, and under `panel` unless it has its own."""
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else [hint]
    for k, note in enumerate(notes):
        if isinstance(note, OneOf):
            choice: Any = Literal[tuple(note.names)]
            kind = choice | None if type(None) in get_args(kind) else choice
        elif panel is not None and note.rich_help_panel is None:
            notes[k] = copy(note)
            notes[k].rich_help_panel = panel
    return Annotated[(kind, *notes)] if notes else kind
