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

OFF_CENTRE, UNSURE = 1.0, 3.0
"""What being off the centre (1 is the middle of a border) and each unit of probability short of 1 count, in factors e
of size. Developed on LFW's training pairs, where .7 to 1 and 2 to 20 do as well."""


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

    def enough(self, faces: Sequence[Face], width: int, height: int, unseen_px: float) -> bool:
        """Say whether the face that counts is among `faces`, largest first: others have sides up to `unseen_px`."""
        if not faces:
            return False
        if self.policy == "center":
            return any(face.covers(width / 2, height / 2) for face in faces)
        if self.policy == "main":
            return max(_prominence(face, width, height) for face in faces) >= math.log(unseen_px)
        # Cut off by the border, a face may show less than a whole one that is smaller.
        return faces[0].area_within(width, height) >= unseen_px**2

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
        if self.policy == "main":
            return [max(range(len(faces)), key=lambda index: _prominence(faces[index], width, height))]
        return [0]


LARGEST = Choice()


def _offset(face: Face, width: int, height: int) -> float:
    left, top, right, bottom = face.box
    return math.hypot((left + right - width) / 2, (top + bottom - height) / 2)


def _prominence(face: Face, width: int, height: int) -> float:
    """Return how much a photo is of a face: log of its side, less for place and for what hardly looks like a face.

    The detector is less sure of bystanders, who are blurred, half-hidden or look elsewhere.
    """
    left, top, right, bottom = face.box
    off = math.hypot((left + right) / width - 1, (top + bottom) / height - 1)
    side = math.sqrt(face.area_within(width, height))
    return math.log(max(side, 1e-9)) - OFF_CENTRE * off - UNSURE * (1 - face.probability)


def _place(face: Face) -> str:
    left, top, right, bottom = face.box
    return f"{right - left:.0f} x {bottom - top:.0f} px at {left:.0f},{top:.0f}"
