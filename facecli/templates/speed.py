"""How long a network takes for a face on this machine."""

from __future__ import annotations

import time

import numpy as np

from facecli.templates.embedder import Embedder

FACES = 8
REPEATS = 5


def ms_a_face(embedder: Embedder) -> float:
    """Return the milliseconds that a face takes in a batch of `FACES` on one thread: the fastest of a few runs."""
    size = embedder.spec.input_size
    chips = np.random.default_rng(0).integers(0, 256, (FACES, size, size, 3), np.uint8)
    embedder.templates(chips)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        embedder.templates(chips)
        seconds.append(time.perf_counter() - began)
    return min(seconds) / FACES * 1000
