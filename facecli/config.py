"""Every default in one place: plain dataclasses, standard library only, so that `--help` can show them cheaply."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_MODEL = "sface"
DEFAULT_FMR = 1e-3
DEFAULT_PRIOR = 0.5
DEFAULT_TOP = 5
DEFAULT_REPLICATES = 1000
"""How often people are resampled for intervals."""
MIN_QUALITY = 25.0
"""Lowest quality of a face that a decision is made on: three of five such faces miss their own people's good photos."""
MAX_PIXELS = 52_000_000
"""Most pixels that are decoded at once: a photo of a 50 megapixel phone, which takes 1.5 GB to be searched in full."""
BATCH_SIZE = 32
"""Chips a network sees at once. Larger batches gain nothing on a CPU and cost memory."""


PickedFacePolicy = Literal["largest", "center", "main"]
"""Which face of a photo counts: the one that shows most of itself, the one nearest the centre, or the one the photo is
of, by size, place and how surely it is a face."""
DEFAULT_FACES: PickedFacePolicy = "main"
FacePolicy = Literal[PickedFacePolicy, "all", "one"]
"""The same, or every face, or the only one."""
OneFacePolicy = Literal[PickedFacePolicy, "one"]
"""Those that leave one face."""


@dataclass(frozen=True)
class Detection:
    """How faces are searched for, whichever the detector."""

    min_face_px: int = 40
    """The smallest face asked for, in px of the original image. No part of an embedder's id: a smaller one adds
    faces without moving those found already."""


def default_cache_dir() -> Path:
    """Return the user's cache folder for exported networks, downloaded weights and databases
    that cannot be written to."""
    from platformdirs import user_cache_path

    return user_cache_path("facecli", appauthor=False)


def default_user_dir() -> Path:
    """Return the user's data folder, for calibrations that were installed and models that were added:
    they are no cache."""
    from platformdirs import user_data_path

    return user_data_path("facecli", appauthor=False)


def cores() -> int:
    """Return the number of cores that are open to this process, where the system tells; else of all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
