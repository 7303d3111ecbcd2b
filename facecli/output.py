"""The one sink of every command: records to stdout or a file, everything else to stderr.

A record is a JSON object. JSON Lines keep it whole; csv, tsv and the table of a terminal show flat rows made of
it. Records carry `error` when something went wrong with their subject, and stay in their place.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from facecli.errors import FaceError, UsageError, one_line, printable

Record = dict[str, Any]
Flatten = Callable[[Record], list[Record]]

FORMATS = ("auto", "table", "jsonl", "csv", "tsv")
_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "table"}


class Output:
    """Writes records in one format; used as a context, whose end completes the output.

    `columns` are the keys of the flat rows that `flatten` makes of a record. With `path` the file appears whole
    at the end, or not at all.
    """

    def __init__(
        self,
        columns: list[str],
        *,
        form: str = "auto",
        path: Path | None = None,
        flatten: Flatten = lambda record: [record],
        title: str = "",
    ) -> None:
        self.columns = columns
        self.flatten = flatten
        self.title = title
        self.form = choose_format(form, path)
        self.path = path
        self._rows: list[Record] = []
        # A device or a pipe, such as /dev/null or the shell's >(command), takes what comes and is never replaced.
        self._streams = path is None or (path.exists() and not path.is_file() and not path.is_dir())
        self._aside = None if path is None or self._streams else aside(path)
        self._file: IO[str] = sys.stdout
        self._csv: Any = None

    def __enter__(self) -> Output:
        if self.path is not None:
            target = self._aside if self._aside is not None else self.path
            try:
                self._file = open(target, "w", encoding="utf-8", newline="")  # noqa: SIM115
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
        if kind is None and self.form == "table":
            self._print_table()
        if self.path is None:
            if kind is None:
                self._file.flush()
            return
        self._file.close()
        if self._aside is not None and kind is None:
            os.replace(self._aside, self.path)
        elif self._aside is not None:
            self._aside.unlink(missing_ok=True)

    def emit(self, record: Record) -> None:
        """Write one record."""
        if self.form == "jsonl":
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            if self._streams:
                # A pipe's reader sees each record when it is made.
                self._file.flush()
            return
        rows = self.flatten(record)
        if self.form == "table":
            self._rows += rows
            return
        self._csv.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
        if self._streams:
            self._file.flush()

    def _print_table(self) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold", title=self.title, title_justify="left")
        shown = [key for key in self.columns if any(row.get(key) not in (None, "") for row in self._rows)]
        for key in shown:
            numeric = all(isinstance(row.get(key), int | float | None) for row in self._rows)
            table.add_column(key.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
        for row in self._rows:
            style = "red" if row.get("error") else "green" if row.get("match") is True else None
            table.add_row(*(escape(_shown(row.get(key))) for key in shown), style=style)
        terminal = self._file.isatty()
        console = Console(file=self._file, width=None if terminal else 160, highlight=False)
        if self._rows:
            console.print(table)


def aside(path: Path) -> Path:
    """Return the name beside `path` under which its content is collected; raises `UsageError` for a folder."""
    if path.is_dir():
        raise UsageError("cannot be written (it is a folder)", path=path)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot be written ({(error.strerror or str(error)).lower()})", path=path)


def choose_format(form: str, path: Path | None) -> str:
    """Return the format in force: `auto` is the ending of `path`, a table on a terminal, JSON Lines in a pipe."""
    if form not in FORMATS:
        raise UsageError(f"unknown format '{form}'", hint=f"choose from {', '.join(FORMATS)}")
    if form != "auto":
        return form
    if path is not None:
        return _ENDINGS.get(path.suffix.lower(), "jsonl")
    return "table" if sys.stdout.isatty() else "jsonl"


def error_record(error: FaceError, **where: object) -> Record:
    """Return the record of something that failed: `where` names it, `error` says what was wrong."""
    return {**where, "error": error.record()}


def error_text(record: Record) -> str | None:
    """Return the message of an error record in one line, None for another record."""
    error = record.get("error")
    return None if error is None else f"{error['code']}: {error['message']}"


class Notes:
    """What a command says beside its data: on stderr, nothing when quiet, progress only on a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Print one remark."""
        if not self.quiet:
            print(f"facecli: {one_line(text)}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print one warning, quiet or not."""
        print(f"facecli: warning: {one_line(text)}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, what: str, *, size: bool = False) -> Iterator[Callable[[int, int | None], None]]:
        """Yield a function to be told (done, total); shows a bar with rate and time left on a terminal.

        `size` counts bytes. The bar appears with the first call, so that nothing to do shows nothing.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        rate = TextColumn("{task.fields[rate]}")
        counts = [DownloadColumn(), TransferSpeedColumn()] if size else [MofNCompleteColumn(), rate]
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = None
        try:

            def tell(done: int, total: int | None) -> None:
                nonlocal task
                if task is None:
                    bar.start()
                    task = bar.add_task(what, total=total, rate="")
                speed = bar.tasks[0].speed
                bar.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

            yield tell
        finally:
            if task is not None:
                bar.stop()


def _plain(value: object) -> object:
    """Return a value as csv shows it: booleans as in JSON, lists as JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, os.PathLike):
        return printable(value)
    return value


def _shown(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return one_line(str(_plain(value)))


def _number(value: float) -> str:
    """Return four digits that matter.

    >>> [_number(v) for v in (0.92766049, 0.00098, 0.0, 112.4)]
    ['0.9277', '0.00098', '0', '112.4']
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 else f"{value:.4g}"
