"""How strongly chips are varied at random: the strengths that `--augment` takes. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from facecli.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """How far chips are varied. Probabilities and largest amounts; all 0 leaves chips as they are."""

    flip: float = 0.0
    """Probability of the mirror image."""
    shift: float = 0.0
    """Largest shift, as a share of the side."""
    zoom: float = 0.0
    """Largest change of scale, as a factor beyond 1."""
    turn_degrees: float = 0.0
    light: float = 0.0
    """Largest change of brightness, contrast and saturation, as a factor beyond 1."""
    blur: float = 0.0
    """Probability of a Gaussian blur of up to a fiftieth of the side."""
    jpeg: float = 0.0
    """Probability of JPEG compression at quality 20 to 80."""
    occlusion: float = 0.0
    """Probability of a grey rectangle over up to a fifth of the chip."""


STRENGTHS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=0.5),
    "light": Augmentation(flip=0.5, shift=0.03, zoom=0.05, turn_degrees=3, light=0.15),
    "strong": Augmentation(
        flip=0.5, shift=0.08, zoom=0.12, turn_degrees=10, light=0.35, blur=0.15, jpeg=0.15, occlusion=0.3
    ),
    # Without mirror images, which are other characters.
    "digits": Augmentation(shift=0.08, zoom=0.1, turn_degrees=10),
}


def strength(name: str) -> Augmentation:
    """Return the augmentation called `name`; raises `UsageError`."""
    if name not in STRENGTHS:
        raise UsageError(f"no augmentation is called '{name}'", hint=f"known are {', '.join(STRENGTHS)}")
    return STRENGTHS[name]
