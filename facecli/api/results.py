"""Results as a Python program takes them; `record()` is what the commands print of the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether two photos show the same person.

    `similarity` is a cosine in -1..1; `match` says that it reaches `threshold`. `fmr` and `fnmr` are the error rates
    at that threshold, None where nobody measured them; `probability` is that of a mated pair, None without a
    calibration. `left_face` and `right_face` say which face was taken, in px of the upright photo.
    """

    left: str
    right: str
    similarity: float
    threshold: float
    match: bool
    fmr: float | None
    fnmr: float | None
    probability: float | None
    left_face: dict[str, Any]
    right_face: dict[str, Any]
    embedder_id: str

    def record(self) -> dict[str, Any]:
        """Return what `facecli verify` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Identified:
    """Who one face of a photo is.

    `subject` is the person's name, None for nobody; `candidates` are the most similar people, best first, each with
    `rank`, `subject`, `sample`, `similarity`, `match` and `probability`; `face` counts from the largest and `box` is
    (left, top, right, bottom) in px of the upright photo. `fmr` and `fnmr` are the error rates of one comparison at
    `threshold`, and `expected_false_alarms` is how many samples a stranger matches on average; `gallery` counts
    subjects and samples.
    """

    probe: str
    face: int
    n_faces: int
    box: list[float]
    face_probability: float
    subject: str | None
    match: bool
    similarity: float | None
    threshold: float
    fmr: float | None
    fnmr: float | None
    expected_false_alarms: float | None
    fpir: dict[str, Any] | None
    candidates: list[dict[str, Any]]
    gallery: dict[str, int]
    embedder_id: str

    def record(self) -> dict[str, Any]:
        """Return what `facecli find` prints of this face."""
        return asdict(self)
