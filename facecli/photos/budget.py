"""One budget of decoded pixels for all photos that are read side by side, so that memory is bounded by a number."""

from __future__ import annotations

import threading
from types import TracebackType

from facecli.config import MAX_PIXELS


class PixelBudget:
    """At most `pixels` are decoded at any time, over all threads; a photo of more is refused."""

    def __init__(self, pixels: int = MAX_PIXELS) -> None:
        self.pixels = pixels
        self.free = pixels
        self.changed = threading.Condition()


class Share:
    """What one photo takes of a budget; a context whose end gives it back. To be entered again and again."""

    def __init__(self, budget: PixelBudget) -> None:
        self.budget = budget
        self._taken = 0

    def take(self, pixels: int) -> None:
        """Take enough for an image of `pixels`, at most the whole budget, waiting for other photos to end.

        A finer image takes the place of a coarser one: nobody waits with pixels in hand, so nobody waits for ever.
        """
        if pixels <= self._taken:
            return
        self._give_back()
        with self.budget.changed:
            self.budget.changed.wait_for(lambda: pixels <= self.budget.free)
            self.budget.free -= pixels
            self._taken = pixels

    def _give_back(self) -> None:
        with self.budget.changed:
            self.budget.free += self._taken
            self._taken = 0
            self.budget.changed.notify_all()

    def __enter__(self) -> Share:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()
