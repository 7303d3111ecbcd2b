"""The one sink of every command: records to stdout or a file, everything else to stderr.

A record is a JSON object. JSON Lines keep it whole; csv, tsv and the table of a terminal show flat rows made of
it. Records carry `error` when something went wrong with their subject, and stay in their place. No format gives a
terminal what it would not show as it is: JSON Lines escape it as JSON does, the others as `one_line`.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from facecli.cli.options import Form
from facecli.errors import UsageError, one_line, printable, reason
from facecli.files.atomic import aside
from facecli.photos.find import IMAGE_ENDINGS

Record = dict[str, Any]
Flatten = Callable[[Record], list[Record]]

ERROR_WIDTH = 40
"""Characters that a table must have left for errors to be a column of it, which is the last."""

FORMULA = tuple("=+-@＝＋－＠")
"""What text begins with that a spreadsheet calculates; the wide ones are such in East Asia."""

_ENDINGS: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "table",
}


class Output:
    """Writes records in one format; used as a context, whose end completes the output.

    `columns` are the keys of the flat rows that `flatten` makes of a record. With `path` the file appears whole
    at the end, or not at all. `upright` shows a single record as a table with a line a key.
    `left_out` are the columns that a table does without, one after the other, until it fits its terminal.
    """

    def __init__(
        self,
        columns: list[str],
        *,
        form: Form = "auto",
        path: Path | None = None,
        flatten: Flatten = lambda record: [record],
        title: str = "",
        upright: bool = False,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.columns = columns
        self.flatten = flatten
        self.title = title
        self.upright = upright
        self.left_out = left_out
        self.form = choose_format(form, path)
        self.path = path
        self._rows: list[Record] = []
        # A device or a pipe, such as /dev/null or the shell's >(command), takes what comes and is never replaced.
        self._streams = path is None or (path.exists() and not path.is_file() and not path.is_dir())
        self._aside = None if path is None or self._streams else _aside(path)
        self._file: IO[str] = sys.stdout
        self._csv: Any = None

    def __enter__(self) -> Output:
        if self.path is not None:
            target = self._aside if self._aside is not None else self.path
            try:
                mode = "x" if self._aside is not None else "w"
                self._file = open(target, mode, encoding="utf-8", newline="")  # noqa: SIM115
            except OSError as error:
                raise _cannot_write(self.path, error) from error
        if self.form in ("csv", "tsv"):
            dialect = "excel" if self.form == "csv" else "excel-tab"
            self._csv = csv.DictWriter(
                self._file, self.columns, dialect=dialect, extrasaction="ignore", lineterminator="\n"
            )
            self._csv.writeheader()
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        try:
            if kind is None and self.form == "table":
                self._print_table()
            if kind is None:
                self._file.flush()
            if self.path is not None:
                self._file.close()
            if self.path is not None and self._aside is not None and kind is None:
                os.replace(self._aside, self.path)
        finally:
            if self._aside is not None:
                self._aside.unlink(missing_ok=True)

    @property
    def scrolls(self) -> bool:
        """Say whether records run over a terminal as they are made, so that a bar would stand in their way."""
        return self._streams and self.form != "table" and self._file.isatty()

    def emit(self, record: Record) -> None:
        """Write one record."""
        if self.form == "jsonl":
            self._file.write(_json(record) + "\n")
            if self._streams:
                # A pipe's reader sees each record when it is made.
                self._file.flush()
            return
        rows = self.flatten(record)
        if self.form == "table":
            self._rows += rows
            return
        self._csv.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
        if self._streams:
            self._file.flush()

    def _print_table(self) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        if not self._rows:
            return
        terminal = self._file.isatty()
        console = Console(file=self._file, width=None if terminal else 160, highlight=False, emoji=False)
        if self.upright:
            console.print(_upright(self._rows[0], self.columns))
            return
        table = Table(
            box=None,
            pad_edge=False,
            header_style="bold",
            title=escape(one_line(self.title)),
            title_justify="left",
        )
        shown = [key for key in self.columns if any(row.get(key) not in (None, "") for row in self._rows)]
        texts = [[_shown(row.get(key)) for key in shown] for row in self._rows]
        for key in self.left_out:
            if key in shown and _width(shown, texts) - 2 > console.width:
                index = shown.index(key)
                del shown[index]
                for cells in texts:
                    del cells[index]
        errors: list[str] = []
        if "error" in shown and console.width - _width(shown[:-1], texts) < ERROR_WIDTH:
            # A sentence in a narrow column would be a tower: below, and the names above stay in one piece.
            shown = shown[:-1]
            errors = [f"{cells[0]}: {cells[-1]}" for cells in texts if cells[-1]]
        for key in shown:
            numeric = all(isinstance(row.get(key), int | float | None) for row in self._rows)
            table.add_column(key.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
        for row, cells in zip(self._rows, texts, strict=True):
            style = "red" if row.get("error") else "green" if row.get("match") is True else None
            table.add_row(*(escape(cell) for cell in cells[: len(shown)]), style=style)
        console.print(table)
        for error in errors:
            console.print(escape(error), style="red")


def _width(columns: list[str], texts: list[list[str]]) -> int:
    """Return the characters that the first columns of a table take, with the gaps after them."""
    from rich.cells import cell_len

    return sum(
        max(len(name), *(cell_len(cells[index]) for cells in texts)) + 2 for index, name in enumerate(columns)
    )


def _upright(row: Record, columns: list[str]) -> Any:
    """Return one row as a table with a line a key: long names stay in one piece."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key in columns:
        if row.get(key) not in (None, ""):
            style = {True: "green", False: "yellow"}[row[key]] if key == "match" else None
            table.add_row(key.replace("_", " "), escape(_shown(row[key])), style=style)
    return table


def _aside(path: Path) -> Path:
    if path.is_dir():
        raise UsageError("cannot be written (it is a folder)", path=path)
    return aside(path)


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot be written ({reason(error)})", path=path)


def show(text: str) -> None:
    """Print a picture made of characters, or an empty line, between the tables of a terminal."""
    print(text)


def choose_format(form: Form, path: Path | None) -> Form:
    """Return the format in force: `auto` is the ending of `path`, a table on a terminal, JSON Lines in a pipe.

    Raises `UsageError` for a file that is named like a picture or an array.
    """
    if path is not None and path.suffix.lower() in IMAGE_ENDINGS | {".npy"}:
        # A photo named by mistake would be lost under its own name.
        raise UsageError(
            "records go to no picture and no array",
            path=path,
            hint=f"end the name with {', '.join(_ENDINGS)}",
        )
    if form != "auto":
        return form
    if path is not None:
        return _ENDINGS.get(path.suffix.lower(), "jsonl")
    return "table" if sys.stdout.isatty() else "jsonl"


def error_text(record: Record) -> str | None:
    """Return the message of an error record in one line, None for another record."""
    error = record.get("error")
    return None if error is None else f"{error['code']}: {error['message']}"


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _plain(value: object) -> object:
    """Return a value as rows show it: booleans as in JSON, lists as JSON, texts as one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict | tuple):
        return _json(value)
    if isinstance(value, os.PathLike):
        value = printable(value)
    return one_line(value) if isinstance(value, str) else value


def _cell(value: object) -> object:
    """Return a value as csv shows it: text that a spreadsheet would take for a formula begins with an apostrophe."""
    cell = _plain(value)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _shown(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return str(_plain(value))


def _number(value: float) -> str:
    """Return four digits that matter.

    >>> [_number(v) for v in (0.92766049, 0.00098, 0.0, 112.4)]
    ['0.9277', '0.00098', '0', '112.4']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 else f"{value:.4g}"
