"""facecli: verify, find, embed, calibrate, evaluate and train faces, from the command line or from Python.

Names are fetched when they are asked for (PEP 562): `import facecli` itself imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facecli.api.labelled import Evaluation, calibrate, evaluate
    from facecli.api.tasks import embed, enrol, identify, verify
    from facecli.api.train import train
    from facecli.calibration.calibration import Calibration
    from facecli.errors import (
        BadInput,
        DatabaseError,
        EmbedderMismatch,
        FaceError,
        NoCalibration,
        NoFace,
        NoSuchFile,
        SeveralFaces,
        UnreadableImage,
        UsageError,
        WeightsMissing,
    )
    from facecli.faces.face import Face
    from facecli.gallery.gallery import Gallery
    from facecli.recognition.identify import Identified
    from facecli.recognition.verify import Verdict
    from facecli.templates.embedder import Embedder
    from facecli.templates.template import Embedded
    from facecli.training.events import Trained

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "Calibration",
    "DatabaseError",
    "Embedded",
    "Embedder",
    "EmbedderMismatch",
    "Evaluation",
    "Face",
    "FaceError",
    "Gallery",
    "Identified",
    "NoCalibration",
    "NoFace",
    "NoSuchFile",
    "SeveralFaces",
    "Trained",
    "UnreadableImage",
    "UsageError",
    "Verdict",
    "WeightsMissing",
    "calibrate",
    "embed",
    "enrol",
    "evaluate",
    "identify",
    "train",
    "verify",
]

_HOMES = {
    "calibrate": "api.labelled",
    "evaluate": "api.labelled",
    "embed": "api.tasks",
    "enrol": "api.tasks",
    "identify": "api.tasks",
    "verify": "api.tasks",
    "train": "api.train",
    "BadInput": "errors",
    "DatabaseError": "errors",
    "EmbedderMismatch": "errors",
    "FaceError": "errors",
    "NoCalibration": "errors",
    "NoFace": "errors",
    "NoSuchFile": "errors",
    "SeveralFaces": "errors",
    "UnreadableImage": "errors",
    "UsageError": "errors",
    "WeightsMissing": "errors",
    "Calibration": "calibration.calibration",
    "Evaluation": "api.labelled",
    "Face": "faces.face",
    "Gallery": "gallery.gallery",
    "Identified": "recognition.identify",
    "Verdict": "recognition.verify",
    "Embedder": "templates.embedder",
    "Embedded": "templates.template",
    "Trained": "training.events",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facecli' has no attribute '{name}'")
    value = getattr(import_module(f"facecli.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
