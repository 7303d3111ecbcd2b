"""What a command says beside its data: remarks, warnings and progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from facecli.errors import one_line

PATIENCE_SECONDS = 1.0
"""Work that is done by then shows no progress."""


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
    def progress(
        self, what: str, *, size: bool = False, shown: bool = True
    ) -> Iterator[Callable[[int, int | None], None]]:
        """Yield a function to be told (done, total); shows a bar with rate and time left on a terminal.

        `size` counts bytes. The bar comes after a second: what is done by then needs none.
        """
        if self.quiet or not shown or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        began = time.monotonic()
        bar: Any = None

        def tell(done: int, total: int | None) -> None:
            nonlocal bar
            if bar is None:
                if time.monotonic() - began < PATIENCE_SECONDS:
                    return
                bar = _bar(size)
                bar.start()
                bar.add_task(what, total=None, rate="")
            speed = done / (time.monotonic() - began)
            bar.update(0, completed=done, total=total, rate=f"{speed:.1f}/s")

        try:
            yield tell
        finally:
            if bar is not None:
                bar.stop()


def _bar(size: bool) -> Any:
    from rich import progress
    from rich.console import Console

    rate = progress.TextColumn("{task.fields[rate]}")
    counts = [progress.DownloadColumn()] if size else [progress.MofNCompleteColumn(), rate]
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *counts,
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
