"""How commands end: one place that turns what happens inside a command into an exit code.

0 match, found, done; 1 non-match, nothing found, and nothing else; 2 usage or input error; 70 a bug;
130 interrupted; 141 the reader of a pipe went away.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from facecli.errors import FaceError

NON_MATCH, INPUT_ERROR, BUG, INTERRUPTED, CLOSED_PIPE = 1, 2, 70, 130, 141


# What Typer reports wrong options by, and prints itself with exit code 2: click's own, or its copy in newer Typers.
_ClickException = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """A group whose commands may raise: every exception becomes a message on stderr and an exit code.

    Left to Typer, an uncaught exception and a closed pipe would both end with 1, which here means non-match.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except FaceError as error:
            print(f"facecli: error: {error}", file=sys.stderr)
            raise typer.Exit(INPUT_ERROR) from None
        except KeyboardInterrupt:
            print("facecli: interrupted; what was finished is kept", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED_PIPE) from None
        except Exception as error:
            # The last resort: what is not Typer's own way of ending is a bug.
            if isinstance(error, typer.Exit | typer.Abort | _ClickException):
                raise
            import traceback

            traceback.print_exc()
            print(
                f"facecli: this is a bug ({type(error).__name__}); please report it with the lines above",
                file=sys.stderr,
            )
            raise typer.Exit(BUG) from None
        return result


def _usage_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which Typer itself reports wrong options, which it prints with exit code 2."""
    return tuple(
        kind for kind in typer.BadParameter.__mro__ if kind.__module__.split(".")[0] in ("click", "typer")
    )


_USAGE_ERRORS = _usage_errors()
