"""The task `train`: a folder per identity becomes a checkpoint that the other tasks use like any model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facecli.config import default_cache_dir
from facecli.training.config import TrainConfig
from facecli.training.events import Report, Trained
from facecli.training.fit import fit


def train(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] = "run",
    val: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    report: Report = lambda event: None,
    **settings: Any,
) -> Trained:
    """Train a network to tell the people of `data` apart, a folder of photos for each; return how good it became.

    Of several folders, people are told apart within each, and `val` holds others to validate on. All of the run goes
    into the folder `out`; `Trained.best` there is a model for `Embedder`. `report` hears of every batch, epoch and
    alarm. `settings` are the other fields of `TrainConfig`, such as `base`, `loss` and `epochs`. With `resume` a run
    that was broken off goes on.

    Raises `UsageError`, `BadInput`, `WeightsMissing` and what reading the photos raises.
    """
    first, *further = [data] if isinstance(data, str | os.PathLike) else data
    config = TrainConfig(
        data=Path(first),
        also=tuple(Path(folder) for folder in further),
        out=Path(out),
        val=None if val is None else Path(val),
        weights=None if weights is None else Path(weights),
        **settings,
    )
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    return fit(config, cache_dir=cache, resume=resume, report=report)
