"""Options of a training benchmark that set fields of its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def settings(items: Iterable[str]) -> dict[str, Any]:
    """Return the values of `name=value`: JSON, or text where it is none."""
    found: dict[str, Any] = {}
    for item in items:
        name, value = item.split("=", 1)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
