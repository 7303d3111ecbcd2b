"""`python -m facecli` and the `facecli` script."""

from __future__ import annotations

import atexit
import gc
import sys

from facecli.cli import signals

# Imports make objects that stay; looking through them for garbage again and again takes a twentieth of a start.
gc.set_threshold(50_000, 20, 100)


def main() -> None:
    """Run the command line."""
    signals.listen()
    from facecli.cli import streams
    from facecli.files.atomic import remove_unfinished

    streams.prepare()
    atexit.register(remove_unfinished)
    signals.before_the_end(remove_unfinished)
    from facecli.cli.app import app

    try:
        app(prog_name="facecli")
    finally:
        # The system takes all memory back at once; looking through it for garbage first takes 20 ms. What torch
        # brings along reports as leaks what was not looked at.
        if "torch" not in sys.modules:
            gc.freeze()
        # Whatever became of it on its way here.
        if signals.exit_code() is not None:
            sys.exit(signals.exit_code())


if __name__ == "__main__":
    main()
