"""Templates as a .npy file with a table of rows beside it, both whole at the end or not there."""

from __future__ import annotations

import csv
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from facecli.errors import UsageError, reason
from facecli.files.atomic import aside
from facecli.files.npy import HEADER_BYTES, header
from facecli.templates.reading import is_rows
from facecli.templates.records import QUALITY_COLUMNS, ROW_COLUMNS, row_cells, rows_path


class NpyOutput:
    """Takes the records of `embed`: float32 [N, D] goes to `path`, their places to the table beside it.

    Records of files that failed have no row. `count` is N so far. Nothing is held in memory. With `subjects` the
    table has a column for them.
    """

    def __init__(self, path: Path, dim: int, *, subjects: bool = False) -> None:
        self.path = path
        self.dim = dim
        self.subjects = subjects
        self.form = "npy"
        self.scrolls = False
        self.count = 0
        self._targets = (path, rows_path(path))
        self._asides = [aside(path) for path in self._targets]
        self._stack = ExitStack()
        self._file: IO[bytes]
        self._lines: IO[str]

    def __enter__(self) -> NpyOutput:
        for path in self._targets:
            if path.exists() and not path.is_file():
                raise UsageError("cannot be written (it is no file)", path=path)
        if not self.path.parent.is_dir():
            raise UsageError("cannot be written (no such folder)", path=self.path)
        table = self._targets[1]
        if table.exists() and not is_rows(table):
            raise UsageError(
                "would be overwritten by the table of rows, and is none itself",
                path=table,
                hint="choose another name for the templates",
            )
        with ExitStack() as stack:
            stack.callback(self._forget_asides)
            try:
                self._file = stack.enter_context(open(self._asides[0], "xb"))
                self._file.seek(HEADER_BYTES)
                self._lines = stack.enter_context(open(self._asides[1], "x", encoding="utf-8", newline=""))
                self._table = csv.writer(self._lines, lineterminator="\n")
                self._table.writerow(ROW_COLUMNS + QUALITY_COLUMNS + ["subject"] * self.subjects)
            except OSError as failure:
                raise self._cannot_write(failure) from failure
            self._stack = stack.pop_all()
        return self

    def emit(self, record: dict[str, Any]) -> None:
        """Add one record; its `embedding` is a list or an array."""
        if "error" in record:
            return
        row = np.asarray(record["embedding"], "<f4").reshape(self.dim)
        try:
            self._file.write(row.tobytes())
            self._table.writerow(row_cells(self.count, record) + [record.get("subject")] * self.subjects)
        except OSError as error:
            raise self._cannot_write(error) from error
        self.count += 1

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        with self._stack:
            if kind is None:
                self._complete()

    def _complete(self) -> None:
        try:
            self._file.seek(0)
            self._file.write(header(self.count, self.dim))
            self._file.close()
            self._lines.close()
            # The table last: with a new array and an old table, a reader sees that they do not fit or are the same.
            for name, path in zip(self._asides, self._targets, strict=True):
                os.replace(name, path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> UsageError:
        return UsageError(f"cannot be written ({reason(error)})", path=self.path)

    def _forget_asides(self) -> None:
        for name in self._asides:
            name.unlink(missing_ok=True)
