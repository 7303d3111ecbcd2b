"""What a detector finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Face:
    """A face in an image: px of the original, upright image.

    `box` is (left, top, right, bottom); `landmarks` are the viewer's left eye, right eye, nose, left and right
    mouth corner, each (x, y); `probability` is the last network's, in 0..1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    probability: float

    def area_within(self, width: int, height: int) -> float:
        """Return the area in square px of the part of the box that an image of this size shows."""
        left, top, right, bottom = self.box
        return max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(bottom, height) - max(top, 0))

    def covers(self, x: float, y: float) -> bool:
        """Say whether the point lies within the box."""
        left, top, right, bottom = self.box
        return left <= x <= right and top <= y <= bottom
