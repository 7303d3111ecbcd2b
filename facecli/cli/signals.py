"""Ctrl-C, SIGTERM and SIGHUP end a run in one way, whenever they come: no unfinished file stays, and the exit code is
128 and the signal's number.

While a command runs they are raised in it, so that it ends in order. Before and after, amid an import, and when it
takes too long, the process ends on the spot.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

REPEAT_SECONDS = 1.0
"""A signal that comes again by then is an echo of the first: who starts a command often passes on what both heard."""

_SAID = {"SIGINT": "interrupted", "SIGTERM": "ended by SIGTERM", "SIGHUP": "ended by SIGHUP"}

_tidy: Callable[[], None] | None = None
_raising = False
_heard: int | None = None
_heard_at = 0.0


class Stopped(KeyboardInterrupt):
    """A signal that ends the run, raised wherever the main thread is."""


def listen() -> None:
    """Hear the signals from now on, but for those that are ignored: SIGHUP below nohup, SIGINT in the background."""
    for name in _SAID:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hear)


def before_the_end(tidy: Callable[[], None]) -> None:
    """Call `tidy` before the process ends on the spot."""
    global _tidy
    _tidy = tidy


@contextmanager
def raised() -> Iterator[None]:
    """Raise the first signal within as `Stopped`."""
    global _raising
    before, _raising = _raising, True
    try:
        yield
    finally:
        _raising = before


def exit_code() -> int | None:
    """Return the exit code of a run that a signal has ended, None if none came.

    What became of a `Stopped` is not to be relied on: imports and callbacks from C turn it into other errors.
    """
    return None if _heard is None else 128 + _heard


def what_ended_it() -> str:
    """Return what is said of a run that was stopped."""
    return _SAID["SIGINT" if _heard is None else signal.Signals(_heard).name]


def end_if_heard() -> None:
    """End the process if a signal came: threads that are at work would be waited for, some of them for ever."""
    if _heard is not None:
        _end(_heard)


def _hear(number: int, frame: FrameType | None) -> None:
    global _heard, _heard_at
    if _heard is None:
        _heard, _heard_at = number, time.monotonic()
        # An import that is broken off leaves locks behind, on which threads wait for ever, and half a module.
        if _raising and not _imports(frame):
            raise Stopped
    elif _raising and time.monotonic() - _heard_at < REPEAT_SECONDS:
        return
    with suppress(OSError):
        # A bar has hidden the cursor.
        shown = "\x1b[?25h" if os.isatty(2) else ""
        os.write(2, f"{shown}facecli: {what_ended_it()}\n".encode())
    _end(_heard)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end(number: int) -> None:
    if _tidy is not None:
        _tidy()
    os._exit(128 + number)
