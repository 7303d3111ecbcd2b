"""facecli: verify, find, embed, calibrate, evaluate and train faces, from the command line or from Python.

Names are fetched when they are asked for (PEP 562): `import facecli` itself imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facecli.api.results import Identified, Verdict
    from facecli.api.tasks import embed, identify, verify
    from facecli.errors import FaceError
    from facecli.faces.face import Face
    from facecli.gallery.gallery import Gallery
    from facecli.templates.embedder import Embedder

__version__ = "0.1.0"

__all__ = ["Embedder", "Face", "FaceError", "Gallery", "Identified", "Verdict", "embed", "identify", "verify"]

_HOMES = {
    "Embedder": "templates.embedder",
    "Face": "faces.face",
    "FaceError": "errors",
    "Gallery": "gallery.gallery",
    "Identified": "api.results",
    "Verdict": "api.results",
    "embed": "api.tasks",
    "identify": "api.tasks",
    "verify": "api.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facecli' has no attribute '{name}'")
    value = getattr(import_module(f"facecli.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
