"""How commands end: one place that turns what happens inside a command into an exit code.

0 match, found, done; 1 non-match, nothing found, and nothing else; 2 usage or input error, or the system gives too
little; 70 a bug; 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM; 141 the reader of a pipe went away.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from facecli.cli import signals
from facecli.cli.advice import in_shell_words
from facecli.cli.streams import drop_stdout
from facecli.errors import FaceError, one_line, reason, shortage

NON_MATCH, INPUT_ERROR, BUG, INTERRUPTED, CLOSED_PIPE = 1, 2, 70, 130, 141


# What Typer reports wrong options by, and prints itself with exit code 2: click's own, or its copy in newer Typers.
_ClickException = typer.BadParameter.__mro__[2]

_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(TyperGroup):
    """A group whose commands may raise: every exception becomes a message on stderr and an exit code.

    Left to Typer, an uncaught exception and a closed pipe would both end with 1, which here means non-match.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _ending():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _ending():
            return super().invoke(ctx)


@contextmanager
def _ending() -> Iterator[None]:
    """Turn what is raised inside, `--help` and `--version` included, into a message and an exit code."""
    try:
        with signals.raised():
            try:
                yield
            finally:
                # Before the interpreter does it at exit, when nobody could say what went wrong.
                sys.stdout.flush()
    except FaceError as error:
        raise _refused(str(in_shell_words(error))) from None
    except KeyboardInterrupt:
        raise _stopped() from None
    except BrokenPipeError:
        drop_stdout()
        raise typer.Exit(CLOSED_PIPE) from None
    except SystemExit as end:
        # Rich, which prints help and tables, ends with 1 when the reader is gone.
        raise (typer.Exit(CLOSED_PIPE) if isinstance(end.__context__, BrokenPipeError) else end) from None
    except Exception as error:
        # The last resort: what is not Typer's own way of ending, nor the system's refusal, is a bug.
        if isinstance(error, _ClickException):
            # Typer prints it, with what was typed in it.
            text = vars(error)["message"]
            vars(error)["message"] = "\n".join(one_line(line) for line in text.splitlines())
        if isinstance(error, typer.Exit | typer.Abort | _ClickException):
            raise
        if signals.exit_code() is not None:
            raise _stopped() from None
        if refusal := _refusal(error):
            drop_stdout()
            raise _refused(refusal) from None
        import traceback

        for line in traceback.format_exc().splitlines():
            print(one_line(line), file=sys.stderr)
        print(
            f"facecli: this is a bug ({type(error).__name__}); please report it with the lines above",
            file=sys.stderr,
        )
        raise typer.Exit(BUG) from None


def _refusal(error: Exception) -> str:
    """Return what the system refused, "" if nothing."""
    short = shortage(error)
    if short is not None:
        return str(in_shell_words(short))
    if isinstance(error, FileNotFoundError) and _folder_is_gone():
        return "the current folder is gone; change to one that is there"
    if not isinstance(error, OSError) or error.errno not in _NO_OUTPUT:
        return ""
    why = "stdout is closed" if error.errno == errno.EBADF else reason(error)
    return f"the output cannot be written ({why})"


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _refused(what: str) -> typer.Exit:
    print(f"facecli: error: {one_line(what)}", file=sys.stderr)
    return typer.Exit(INPUT_ERROR)


def _stopped() -> typer.Exit:
    print(f"facecli: {signals.what_ended_it()}", file=sys.stderr)
    code = signals.exit_code()
    return typer.Exit(code if code is not None else INTERRUPTED)
