"""How strong a fine-tune is held to its base is chosen on validation people: one run for each strength."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from facecli.errors import UsageError
from facecli.files.atomic import aside
from facecli.training import distributed
from facecli.training.config import TrainConfig
from facecli.training.events import Trained


def fit_pulls(
    config: TrainConfig, pulls: Sequence[float], train: Callable[[TrainConfig], Trained]
) -> Trained:
    """Train with each of `pulls` into `pull-X` below `config.out`; return the run that verifies best.

    All runs validate on the same people, so their best epochs compare; the winner's checkpoint is copied to
    `best`. `train` is `fit` with all but its configuration; with `resume` finished runs are passed through and
    the broken-off one goes on. Raises what it raises.
    """
    if len(set(pulls)) < 2:
        raise UsageError("a choice of pulls needs two or more", hint="such as 3,10,30")
    runs = [train(replace(config, pull=pull, out=config.out / f"pull-{pull:g}")) for pull in pulls]
    winner = max(runs, key=lambda run: run.best_record["rank"])
    best = config.out / "best"
    if distributed.rank() == 0:
        _copy(winner.best, best)
    distributed.wait()
    return replace(winner, best=best)


def _copy(source: Path, target: Path) -> None:
    """Put a copy of the folder `source` at `target`; what was there goes when the copy is whole."""
    copy = aside(target)
    shutil.copytree(source, copy)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(copy, target)
