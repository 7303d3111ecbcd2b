"""`python -m facecli` and the `facecli` script."""

from __future__ import annotations

import gc
import sys

# Imports make objects that stay; looking through them for garbage again and again takes a twentieth of a start.
gc.set_threshold(50_000, 20, 100)


def main() -> None:
    """Run the command line."""
    # File names that are not UTF-8 must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    from facecli.cli.app import app

    try:
        app(prog_name="facecli")
    finally:
        # The system takes all memory back at once; looking through it for garbage first takes 20 ms. What torch
        # brings along reports as leaks what was not looked at.
        if "torch" not in sys.modules:
            gc.freeze()


if __name__ == "__main__":
    main()
