"""`python -m facecli` and the `facecli` script."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Any

from facecli.cli import signals

# Imports make objects that stay; looking through them for garbage again and again takes a twentieth of a start.
gc.set_threshold(50_000, 20, 100)


def main() -> None:
    """Run the command line."""
    # Python would end with 1, which means non-match, where something goes wrong that nobody thought of.
    code: Any = 70
    signals.listen()
    try:
        from facecli.cli import streams
        from facecli.files.atomic import remove_unfinished

        streams.prepare()
        atexit.register(remove_unfinished)
        signals.before_the_end(remove_unfinished)
        from facecli.cli.app import app

        app(prog_name="facecli")
    except SystemExit as end:
        code = end.code
    finally:
        # The system takes all memory back at once; looking through it for garbage first takes 20 ms. What torch
        # brings along reports as leaks what was not looked at.
        if "torch" not in sys.modules:
            gc.freeze()
        # Whatever became of a signal on its way here.
        signals.end_if_heard()
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        sys.exit(code)


if __name__ == "__main__":
    main()
