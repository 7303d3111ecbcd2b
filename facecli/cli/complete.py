"""What the shell offers as values of options. Nothing heavy is imported: a key was pressed, and somebody waits."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def model_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models known by name that begin like this; for anything else the shell offers files."""
    from facecli.models.built_in import BUILT_IN

    return [name for name in (*BUILT_IN, *added_names(context, "")) if name.startswith(incomplete)]


def fetched_names(incomplete: str) -> list[str]:
    """Return the models and the weights of detectors that begin like this."""
    from facecli.models.built_in import BUILT_IN, DETECTOR_FILES

    return [name for name in (*BUILT_IN, *DETECTOR_FILES) if name.startswith(incomplete)]


def added_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models that were added and begin like this."""
    from facecli.config import default_user_dir
    from facecli.models import added

    user = context.find_root().params.get("user")
    names = added.names(Path(user) if user is not None else default_user_dir())
    return [name for name in names if name.startswith(incomplete)]


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
