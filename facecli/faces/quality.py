"""How well a face can be recognised: what its picture shows, one number for it, and how strict a comparison must be.

Measured on photographs that were spoiled in many ways: two bad photographs of different people look alike to a
network where both have the same fault, and a bad and a good one do not. So the threshold of a comparison rises by the
smaller of what the two faces' faults ask for, each fault by itself, and good photographs have none. The constants were
fitted on one part of LFW's development people and judged on another (docs/calibration).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facecli.arrays import Array, Pixels
from facecli.errors import LowQuality
from facecli.faces.face import Face
from facecli.photos.decode import Image

CHIP_PX = 112
"""Side of the chip that is looked at, aligned as ArcFace's template says."""

_FACE = (slice(None), slice(26, 106), slice(22, 90))
"""Of chips [n, 112, 112], what is face."""
_REGIONS = (
    (slice(82, 104), slice(36, 76), 0.40),
    (slice(60, 84), slice(40, 72), 0.36),
    (slice(42, 60), slice(24, 88), 0.60),
    (slice(40, 100), slice(20, 50), 0.46),
    (slice(40, 100), slice(62, 92), 0.46),
)
"""Mouth, nose, eyes, the viewer's left and right half: rows, columns, and the share of the face's contrast that 97 of
100 good photographs have there."""

_BLACK = 0.05
"""Mean brightness below which a photo keeps too few grey levels."""
_BLOCKS_PX = 256
_TYPICAL_LENGTH = 12.7
"""Of a good face's raw output, where the network's own says nothing."""


@dataclass(frozen=True)
class Appearance:
    """What a face's picture shows, in the units in which its faults are counted; good faces' ranges in brackets."""

    softness: float
    """-log of the finest gradient over contrast in the weaker direction: blur, motion, few pixels [1.6 to 2.6]."""
    covered: float
    """How much flatter the flattest region is than in good faces, 0..1 [up to .1]."""
    noise: float
    """log of the median response to a noise mask (Immerkaer, 1996), in grey levels [.7 to 1.5]."""
    narrowness: float
    """-log of the distance of the eyes over that of eyes and mouth: turned away, or squeezed [-.1 to .25]."""
    blockiness: float
    """log of the steps on the grid of 8 px over other steps, 0 where the photo was scaled [up to .9]."""
    eyes_px: float
    """Between the eyes, in px of the original image."""
    light: float
    """Mean brightness of the face in the photo as it is, 0..1."""

    @property
    def drawn(self) -> bool:
        """Whether it looks drawn: edges sharper than in good photographs, and areas without any grain."""
        return self.noise < -0.5 and self.softness < 1.5


@dataclass(frozen=True)
class Quality:
    """One face's quality: `score` in 0..100, `strictness`, and what they were made of.

    `score` is the share of the same person's good photographs, in percent, that such a face is expected to match.
    `strictness` is by how much the similarity to a face of no better quality must exceed the threshold. `length` is
    that of the network's raw output, None for a network whose lengths say nothing.
    """

    score: float
    strictness: float
    length: float | None
    appearance: Appearance

    def record(self) -> dict[str, Any]:
        """Return the parts as records carry them, to four digits."""
        parts = {"length": self.length, **vars(self.appearance)}
        rounded = {name: None if value is None else float(f"{value:.4g}") for name, value in parts.items()}
        return {**rounded, "drawn": self.appearance.drawn}


def refusal(quality: Quality, path: str | os.PathLike[str]) -> LowQuality:
    """Return the error of a face that is too poor for a decision, saying what is wrong with it and what would help."""
    shown = quality.appearance
    faults = [
        (shown.drawn, "drawn, or looks so", "take a photograph"),
        (shown.eyes_px < 20, f"small ({shown.eyes_px:.0f} px between the eyes)", "take a larger picture"),
        (shown.light < 0.15, "dark", "give it more light"),
        (shown.blockiness > 2.1, "spoiled by compression", "take the original"),
        (shown.noise > 3.0, "noisy", "give it more light"),
        (shown.softness > 3.0, "blurred", "take a sharper picture"),
        (shown.covered > 0.5, "covered", "uncover it"),
        (shown.narrowness > 0.4, "turned away", "look into the camera"),
    ]
    seen = [(what, help_) for there, what, help_ in faults if there]
    what = " and ".join(what for what, _ in seen[:2]) if seen else "unlike the faces that the network knows"
    return LowQuality(
        f"the face is {what}: its quality is {quality.score:g} of 100, too low for a decision",
        path=path,
        hint=seen[0][1] if seen else "take another picture",
    )


@dataclass(frozen=True)
class _Fault:
    """From where a measure counts as a fault, how much stricter each unit beyond asks for, and at most."""

    start: float
    slope: float
    most: float = math.inf


_FAULTS = {
    "softness": _Fault(2.6, 0.14),
    "covered": _Fault(0.35, 0.4),
    "narrowness": _Fault(0.15, 0.4, most=0.12),
    "blockiness": _Fault(2.1, 0.2),
    "noise": _Fault(3.4, 0.3),
}
_SHORT = _Fault(9.5, 0.05)
"""Of the length of the raw output, below."""


def judged(appearance: Appearance, length: float | None) -> Quality:
    """Return the quality of a face of this appearance, whose raw output has this length.

    Without a length nothing is asked for: what faults do to a network's similarities is known of those networks only
    whose lengths were studied.
    """
    strictness = 0.0
    if length is not None:
        strictness = _SHORT.slope * max(0.0, _SHORT.start - length)
        for name, fault in _FAULTS.items():
            strictness += min(fault.most, fault.slope * max(0.0, getattr(appearance, name) - fault.start))
    # A logistic regression of the misses against own good photographs.
    log_odds = -9.53 + 1.403 * (_TYPICAL_LENGTH if length is None else length)
    log_odds += -0.314 * appearance.softness + 0.682 * appearance.covered
    score = 100 / (1 + math.exp(min(-log_odds, 700.0)))
    # Of what is all but black, lengths tell too little: noise is spread to look like a picture.
    score *= min(1.0, (appearance.light / _BLACK) ** 2)
    # What is drawn alike is taken for one person by any network.
    score *= 0.2 if appearance.drawn else 1.0
    return Quality(
        score=round(score, 1),
        strictness=round(strictness, 4),
        length=length,
        appearance=appearance,
    )


def appearances(chips: Pixels, faces: Sequence[Face], image: Image) -> list[Appearance]:
    """Return what each of `faces` shows: `chips` are uint8 [n, 112, 112, 3], aligned as ArcFace's template says."""
    shades = _shades(chips)
    softness, contrast = _softness(shades)
    covered = _covered(shades, contrast)
    noise = _noise(shades)
    black, white = image.levels
    light = (black + shades[_FACE].mean(axis=(1, 2)) * (white - black) / 255) / 255
    return [
        Appearance(
            softness=float(softness[k]),
            covered=float(covered[k]),
            noise=float(noise[k]),
            narrowness=_narrowness(face),
            blockiness=_blockiness(image.pixels, face) if image.scale == 1 else 0.0,
            eyes_px=math.dist(*face.landmarks[:2]),
            light=float(light[k]),
        )
        for k, face in enumerate(faces)
    ]


def _shades(pixels: Pixels) -> Array:
    """Return the brightness of RGB pixels (ITU-R BT.601), 0..255."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _softness(shades: Array) -> tuple[Array, Array]:
    """Return the softness and the contrast of each face."""
    contrast = shades[_FACE].std(axis=(1, 2)) + 4
    fine = (shades - _blurred(shades))[_FACE]
    weaker = np.minimum(*(np.diff(fine, axis=axis).std(axis=(1, 2)) for axis in (1, 2)))
    return -np.log(weaker / contrast + 0.002), contrast


def _covered(shades: Array, contrast: Array) -> Array:
    flatness = [
        1 - shades[:, rows, columns].std(axis=(1, 2)) / contrast / usual for rows, columns, usual in _REGIONS
    ]
    return np.clip(np.max(flatness, axis=0), 0, 1)


def _noise(shades: Array) -> Array:
    x = shades[_FACE]
    # The mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] is the product of two lines.
    rows = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    response = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return np.log(np.median(np.abs(response), axis=(1, 2)) + 0.5)


def _narrowness(face: Face) -> float:
    points = np.array(face.landmarks)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    return -math.log((math.dist(*points[:2]) + 1e-3) / (math.dist(eyes, mouth) + 1e-3))


def _blockiness(photo: Pixels, face: Face) -> float:
    left, top, right, bottom = (max(0, int(side)) for side in face.box)
    # The middle of a large face shows as much.
    across, down = (max(0, (end - start - _BLOCKS_PX) // 2) for start, end in ((left, right), (top, bottom)))
    part = _shades(photo[top + down : bottom - down, left + across : right - across])
    if min(part.shape) < 24:
        return 0.0
    directions = []
    for lines in (part, part.T):
        step = np.abs(np.diff(lines, axis=1))
        above = np.maximum(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2, 0).mean(axis=0)
        phases = np.array([above[k::8].mean() for k in range(8)])
        directions.append((phases.max() + 0.3) / (np.median(phases) + 0.3))
    return math.log(max(min(directions), 1))


def _blurred(shades: Array) -> Array:
    """Return the mean over 5 x 5, edges repeated."""
    for axis in (1, 2):
        wide = np.pad(
            shades, [(0, 0)] + [(2, 2) if axis == other else (0, 0) for other in (1, 2)], mode="edge"
        )
        lines = range(shades.shape[axis])
        shades = np.sum(
            [wide.take([k + line for line in lines], axis) for k in range(5)], axis=0
        ) / np.float32(5)
    return shades
