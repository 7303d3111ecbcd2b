"""What the shell offers as values of options. Nothing heavy is imported: a key was pressed, and somebody waits."""

from __future__ import annotations

import os

import typer


def model_names(incomplete: str) -> list[str]:
    """Return the built-in models that begin like this; for anything else the shell offers files."""
    from facecli.models.built_in import BUILT_IN

    return [name for name in BUILT_IN if name.startswith(incomplete)]


def base_names(incomplete: str) -> list[str]:
    """Return the bases to train from that begin like this, but for the networks of torchvision and files."""
    from facecli.models.built_in import BUILT_IN, SMALL_CNN

    bases = [name for name, spec in BUILT_IN.items() if spec.family != "published"]
    return [name for name in (*bases, SMALL_CNN) if name.startswith(incomplete)]


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """Return the people of the database named by --db before, by their folders; none where there is no such folder."""
    folder = context.params.get("db")
    if folder is None:
        return []
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))
