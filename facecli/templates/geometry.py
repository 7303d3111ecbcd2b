"""Where in its photo a sample's face is, and of what quality: the JSON that an index keeps of each template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_NUMBER = r"-?\d{1,30}(\.\d{1,30})?(e[-+]?\d{1,2})?"
FORM = re.compile(
    rf'\{{"box": \[{_NUMBER}(, {_NUMBER}){{3}}\], "landmarks": \[(\[{_NUMBER}, {_NUMBER}\](, |(?=\])))*\]'
    rf'(, "quality": {_NUMBER})?(, "strictness": {_NUMBER})?\}}'
)
"""Four finite numbers, pairs of them, and what is known of the quality, as it is always written."""

STRICTEST = 2.0
"""No two similarities differ by more."""

STRICT = '%"strictness"%'
"""Of SQL's LIKE: what has a strictness, which is left out where it is 0."""


def geometry(
    box: Iterable[float],
    landmarks: Iterable[Iterable[float]],
    quality: float | None = None,
    strictness: float = 0.0,
) -> str:
    """Return the JSON of a face, in px of the upright image; for quality and strictness see `faces.quality`."""
    kept: dict[str, object] = {
        "box": [float(side) for side in box],
        "landmarks": [[float(x) for x in point] for point in landmarks],
    }
    if quality is not None:
        kept["quality"] = float(quality)
    if strictness:
        kept["strictness"] = float(strictness)
    return json.dumps(kept)


def strictness_in(text: str) -> float:
    """Return the strictness in such JSON; 0 where it says none, or more than similarities can differ."""
    _, there, value = text.partition('"strictness": ')
    return min(max(float(value.rstrip("}")), 0.0), STRICTEST) if there else 0.0
