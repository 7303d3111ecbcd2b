"""What a training run tells while it works, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facecli.errors import FaceError
from facecli.training.alarms import Alarm
from facecli.training.validation import Measure


@dataclass(frozen=True)
class Began:
    """The run as it starts: what it learns from, and how much of the network learns."""

    people: int
    images: int
    val_people: int
    val_images: int
    failures: tuple[FaceError, ...]
    parameters: int
    trainable: int
    epochs: int
    first_epoch: int


@dataclass(frozen=True)
class Step:
    """A batch was learned from; `loss` is its own."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch, as it is written to the log; epoch 0 is the network before training."""

    record: dict[str, Any]


Event = Began | Step | EpochDone | Alarm
Report = Callable[[Event], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run came to.

    `best` is the checkpoint's folder, of `best_epoch` and `best_share` of the way from the base to that epoch's
    weights; epoch 0 means that no epoch was better than the start. `history` holds the records of the log,
    `templates` [N, D] are the best network's of the validation images, which show `subjects` [N]. `gain` is TAR
    of the best less that of the start at `gain_fmr` on the validation subjects, None where they are too few to
    speak of. The subjects also chose the epoch, which flatters the gain a little.
    """

    best: Path
    best_epoch: int
    best_share: float
    best_record: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    templates: NDArray[np.float32]
    subjects: tuple[str, ...]
    gain: Measure | None
    gain_fmr: float | None
    alarms: tuple[Alarm, ...]

    @property
    def start_record(self) -> dict[str, Any]:
        """The record of the network before training."""
        return self.history[0]

    def records(self) -> list[dict[str, Any]]:
        """Return what `train` prints: a record an epoch, from 0, the network before training."""
        return list(self.history)
