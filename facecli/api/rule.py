"""The rule that a task decides by."""

from __future__ import annotations

import os
from pathlib import Path

from facecli.calibration.calibration import Calibration
from facecli.calibration.decision import Rule, make_rule
from facecli.config import DEFAULT_PRIOR, default_user_dir
from facecli.models.families import family
from facecli.templates.embedder import Embedder

FilePath = str | os.PathLike[str]


def rule_of(
    embedder: Embedder,
    fmr: float | None = None,
    threshold: float | None = None,
    calibration: Calibration | FilePath | None = None,
    prior: float = DEFAULT_PRIOR,
) -> Rule:
    """Return the rule of an embedder, see `make_rule`; calibrations lie where the command line keeps them."""
    return make_rule(
        embedder.id,
        user_dir=default_user_dir(),
        threshold=threshold,
        fmr=fmr,
        calibration=Path(calibration) if isinstance(calibration, str | os.PathLike) else calibration,
        beside=family(embedder.spec).calibration_beside(embedder.spec),
        prior=prior,
    )
