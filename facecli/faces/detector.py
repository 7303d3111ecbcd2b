"""What finds faces: what every detector offers, and those that there are, by name.

Nothing heavy is imported here: the command line reads the table.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, cast

from facecli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from facecli.faces.choice import Choice
    from facecli.faces.face import Face
    from facecli.models.network import Network, Runner
    from facecli.photos.decode import Image
    from facecli.photos.source import Decode

DEFAULT_DETECTOR = "mtcnn"

DETECTORS = {
    "mtcnn": ("facecli.faces.mtcnn", "Mtcnn"),
    "yunet": ("facecli.faces.yunet", "YuNet"),
    "yunet-mtcnn": ("facecli.faces.fused", "Fused"),
}
"""Name -> the module, imported when it is asked for, and the `FaceDetector` in it."""


class Identity(NamedTuple):
    """What tells the faces of one detector from another's: JSON values, part of every embedder's id."""

    weights: list[str]
    """SHA-256 of its weights."""
    search: dict[str, Any]
    """All else that moves a box or a landmark; not the smallest face asked for, which moves none."""


class FaceFinder(Protocol):
    """What finds faces, in px of the original, upright image, largest first."""

    min_face_px: int
    """The smallest face that was asked for; smaller ones that happen to be seen may be returned too."""

    def all_faces(self, image: Image) -> list[Face]:
        """Return every face of an image at full scale."""

    def first_faces(self, decode: Decode, choice: Choice) -> tuple[list[Face], Image]:
        """Return faces and the image as decoded, perhaps at reduced scale; stop when the one that counts is found.

        Smaller faces may be missing.
        """


class FaceDetector(FaceFinder, Protocol):
    """A detector that can be asked for by name, ready to run."""

    identity: ClassVar[Identity]
    smallest_px: ClassVar[int]
    """The smallest face, in px of the original image, that can be asked for."""

    @classmethod
    def load(cls, run: Callable[[Network], Runner], min_face_px: int) -> FaceDetector:
        """Return the detector of faces of `min_face_px` or more, its networks made ready by `run`."""


def detector_class(name: str) -> type[FaceDetector]:
    """Return the detector called `name`, which `load` makes ready; raises `UsageError` for an unknown name."""
    if name not in DETECTORS:
        known = f"known are {', '.join(DETECTORS)}"
        hint = f"{did_you_mean(name, DETECTORS)} {known}".lstrip()
        raise UsageError(f"unknown detector '{name}'", hint=hint)
    module, kind = DETECTORS[name]
    return cast(type[FaceDetector], getattr(importlib.import_module(module), kind))
