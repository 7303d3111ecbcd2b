"""Templates as a .npy file with a table of rows beside it, both whole at the end or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from facecli.errors import UsageError
from facecli.records import is_rows, rows_path, write_rows


class NpyOutput:
    """Collects the records of `embed`: float32 [N, D] goes to `path`, their places to the table beside it.

    Records of files that failed have no row. `count` is N.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self.path = path
        self.dim = dim
        self.form = "npy"
        self.scrolls = False
        self._records: list[dict[str, Any]] = []
        self._templates: list[np.ndarray] = []

    @property
    def count(self) -> int:
        """Return the number of templates."""
        return len(self._templates)

    def __enter__(self) -> NpyOutput:
        for path in (self.path, rows_path(self.path)):
            if path.exists() and not path.is_file():
                raise UsageError("cannot be written (it is no file)", path=path)
        if not self.path.parent.is_dir():
            raise UsageError("cannot be written (no such folder)", path=self.path)
        table = rows_path(self.path)
        if table.exists() and not is_rows(table):
            raise UsageError(
                "would be overwritten by the table of rows, and is none itself",
                path=table,
                hint="choose another name for the templates",
            )
        return self

    def emit(self, record: dict[str, Any]) -> None:
        """Add one record."""
        if "error" not in record:
            self._templates.append(np.array(record["embedding"], np.float32))
            self._records.append({**record, "embedding": None})

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if kind is not None:
            return
        rows = np.array(self._templates, np.float32).reshape(-1, self.dim)
        table = rows_path(self.path)
        asides = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in (self.path, table)]
        try:
            with open(asides[0], "wb") as file:
                np.save(file, rows)
            with open(asides[1], "w", encoding="utf-8", newline="") as lines:
                write_rows(lines, self._records)
            # The table last: with a new array and an old table, a reader sees that they do not fit or are the same.
            for aside, path in zip(asides, (self.path, table), strict=True):
                os.replace(aside, path)
        except OSError as error:
            raise UsageError(
                f"cannot be written ({(error.strerror or str(error)).lower()})", path=self.path
            ) from error
        finally:
            for aside in asides:
                aside.unlink(missing_ok=True)
