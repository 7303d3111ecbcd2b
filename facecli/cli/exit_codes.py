"""How commands end: one place that turns what happens inside a command into an exit code.

0 match, found, done; 1 non-match, nothing found, and nothing else; 2 usage or input error; 70 a bug;
130 interrupted; 141 the reader of a pipe went away.
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

from facecli.cli.advice import in_shell_words
from facecli.errors import FaceError, one_line, reason

NON_MATCH, INPUT_ERROR, BUG, INTERRUPTED, CLOSED_PIPE = 1, 2, 70, 130, 141


# What Typer reports wrong options by, and prints itself with exit code 2: click's own, or its copy in newer Typers.
_ClickException = typer.BadParameter.__mro__[2]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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
        try:
            yield
        finally:
            # Before the interpreter does it at exit, when nobody could say what went wrong.
            sys.stdout.flush()
    except FaceError as error:
        print(f"facecli: error: {one_line(str(in_shell_words(error)))}", file=sys.stderr)
        raise typer.Exit(INPUT_ERROR) from None
    except KeyboardInterrupt:
        print("facecli: interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(CLOSED_PIPE) from None
    except SystemExit as end:
        # Rich, which prints help and tables, ends with 1 when the reader is gone.
        raise (typer.Exit(CLOSED_PIPE) if isinstance(end.__context__, BrokenPipeError) else end) from None
    except Exception as error:
        # The last resort: what is not Typer's own way of ending is a bug.
        if isinstance(error, typer.Exit | typer.Abort | _ClickException):
            raise
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            print(f"facecli: error: the output cannot be written ({reason(error)})", file=sys.stderr)
            raise typer.Exit(INPUT_ERROR) from None
        import traceback

        traceback.print_exc()
        print(
            f"facecli: this is a bug ({type(error).__name__}); please report it with the lines above",
            file=sys.stderr,
        )
        raise typer.Exit(BUG) from None
