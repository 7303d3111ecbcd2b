"""The kinds of arrays that pass from room to room; shapes are said where one is made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Templates and what networks take and give."""

Pixels = NDArray[np.uint8]
"""Images and chips, RGB, channels last."""

Floats = NDArray[np.float64]
"""Scores and rates: statistics are computed in double precision."""
