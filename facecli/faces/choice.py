"""Which faces of an image count."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from facecli.config import FacePolicy
from facecli.errors import SeveralFaces, UsageError
from facecli.faces.face import Face

POLICIES = get_args(FacePolicy)


@dataclass(frozen=True)
class Choice:
    """One of `POLICIES`, or the face with the index `face`. Raises `UsageError` for anything else."""

    policy: str = "largest"
    face: int | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UsageError(
                f"unknown choice of faces '{self.policy}'", hint=f"choose from {', '.join(POLICIES)}"
            )
        if self.face is not None and self.face < 0:
            raise UsageError(f"a face index counts from 0, not {self.face}")

    @property
    def needs_all(self) -> bool:
        """Say whether every face of the image must be known before choosing."""
        return self.face is not None or self.policy in ("all", "one")

    def of(
        self, faces: Sequence[Face], width: int, height: int, *, path: str | os.PathLike[str]
    ) -> list[int]:
        """Return the indices that count among `faces`, one or more, largest first, of an image of this size.

        Raises `SeveralFaces` when one was asked for and there are more, or there is no such index.
        """
        if self.face is not None:
            if self.face < len(faces):
                return [self.face]
            raise SeveralFaces(
                f"there is no face {self.face}: {len(faces)} found, counted from 0, largest first", path=path
            )
        if self.policy == "all":
            return list(range(len(faces)))
        if self.policy == "one" and len(faces) > 1:
            places = ", ".join(f"{index}: {_place(face)}" for index, face in enumerate(faces[:5]))
            more = ", ..." if len(faces) > 5 else ""
            raise SeveralFaces(
                f"{len(faces)} faces found where one was asked for ({places}{more})",
                path=path,
                hint="choose one by its index as face, or the largest as faces",
                advice="choose_face",
            )
        if self.policy == "center":
            return [min(range(len(faces)), key=lambda index: _offset(faces[index], width, height))]
        return [0]


def _offset(face: Face, width: int, height: int) -> float:
    left, top, right, bottom = face.box
    return math.hypot((left + right - width) / 2, (top + bottom - height) / 2)


def _place(face: Face) -> str:
    left, top, right, bottom = face.box
    return f"{right - left:.0f} x {bottom - top:.0f} px at {left:.0f},{top:.0f}"
