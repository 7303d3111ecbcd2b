"""A connection to SQLite for a file that may have been made to be read for ever.

Pages of a damaged or hostile file can lead back to each other in ways that SQLite, which looks at one at a time, does
not see: what a statement may do is bounded by the size of the file.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

_TICK_STEPS = 1 << 20
"""Steps of SQLite's machine between looks at their number: some 10 ms."""
_STEPS_PER_BYTE = 20
"""Far more than any statement of ours needs, which reads a record a few times."""
_LEAST_STEPS = 1 << 23
_MAX_VALUE_BYTES = 64 << 20
"""No value of ours is larger; one that says so is not allocated."""


class Connection(sqlite3.Connection):
    """Ends a statement with "interrupted" that goes on far longer than its file can give reason for."""

    path: Path | None = None
    """The file that is read, where it has a name."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._steps = 0
        self._bounded = True
        # A byte that is no UTF-8 is damage like any other, found where the text is looked at.
        self.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
        self.set_progress_handler(self._tick, _TICK_STEPS)
        if hasattr(self, "setlimit"):
            self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._steps, self._bounded = 0, True
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        # As many statements as it is given values for.
        self._bounded = False
        return super().executemany(*arguments)

    def _tick(self) -> int:
        self._steps += _TICK_STEPS
        return int(self._bounded and self._steps > _LEAST_STEPS + _STEPS_PER_BYTE * self._n_bytes())

    def _n_bytes(self) -> int:
        try:
            return self.path.stat().st_size if self.path is not None else 0
        except OSError:
            return 0
