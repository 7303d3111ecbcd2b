"""stdin, stdout and stderr as a run finds them: closed, full, in an encoding that cannot write every name.

What cannot be read or written where it is needed is an error; whether anybody hears the remarks on stderr never is.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from facecli.errors import BadInput, reason

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Remarks(io.FileIO):
    """A stream whose writes are lost where they fail."""

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Put what works in the place of streams that do not."""
    # The wrong way round: to read or write what was closed fails still, and no file of ours gets its number.
    for descriptor, way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, way)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    # File names that are not UTF-8 must not end a run.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    remarks = io.BufferedWriter(_Remarks(2, "w", closefd=False))
    encoding = sys.stderr.encoding if sys.stderr is not None else "utf-8"
    sys.stderr = io.TextIOWrapper(remarks, encoding, "backslashreplace", line_buffering=True)


def drop_stdout() -> None:
    """Let go of what could not be written: Python would try again at its end, and change the exit code."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdin_bytes() -> bytes:
    """Return all of stdin. Raises `BadInput`."""
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise _unreadable(error) from error


def stdin_lines() -> Iterator[str]:
    """Yield the lines of stdin; bytes that are not UTF-8 stay as file names have them. Raises `BadInput`."""
    try:
        for line in sys.stdin.buffer:
            yield os.fsdecode(line.rstrip(b"\r\n"))
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> BadInput:
    why = "it is closed" if error.errno == errno.EBADF else reason(error)
    return BadInput(f"cannot be read ({why})", path="stdin")
