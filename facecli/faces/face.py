"""What a detector finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Face:
    """A face in an image: px of the original, upright image.

    `box` is (left, top, right, bottom); `landmarks` are the viewer's left eye, right eye, nose, left and right
    mouth corner, each (x, y); `probability` is the last network's, in 0..1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    probability: float

    @classmethod
    def of(cls, box: NDArray[np.floating], landmarks: NDArray[np.floating], probability: float) -> Face:
        """Return a face from arrays [4] and [5, 2]."""
        left, top, right, bottom = box.tolist()
        return cls(
            (left, top, right, bottom), tuple((x, y) for x, y in landmarks.tolist()), float(probability)
        )

    @property
    def longer_px(self) -> float:
        """Return the longer side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def area_within(self, width: int, height: int) -> float:
        """Return the area in square px of the part of the box that an image of this size shows."""
        left, top, right, bottom = self.box
        return max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(bottom, height) - max(top, 0))

    def covers(self, x: float, y: float) -> bool:
        """Say whether the point lies within the box."""
        left, top, right, bottom = self.box
        return left <= x <= right and top <= y <= bottom
