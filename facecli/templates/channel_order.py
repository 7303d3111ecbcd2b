"""Whether a network is fed its channels in the order it learnt: tried on faces of people who do not exist.

On clear faces either order tells people apart. Under heavy grey noise the right one does so better: by 1.44 times for
SFace and 1.33 times for dlib's network, on the faces and the noise used here, and by 1.2 or more for other noise.
Twelve networks of random weights preferred an order by 1.06 times at most.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from facecli.arrays import Array, Pixels
from facecli.faces import align
from facecli.models.built_in import ARCFACE_TEMPLATE
from facecli.models.spec import ModelSpec
from facecli.templates.embedder import Embedder

SHEET = Path(__file__).with_name("faces.jpg")
"""A row a photo, a column a person, each face with its landmarks where `ARCFACE_TEMPLATE` has them, at `TILE_PX`."""
TILE_PX = 64
NOISE = 70.0
"""Standard deviation of the noise, of 255, the same in the three channels."""
CLEARLY = 1.15
"""How many times better the other order must be before anything is said."""


def doubt(embedder: Embedder) -> str | None:
    """Return in a sentence that the contract's channel order looks wrong, or None where it does not."""
    chips, people = noisy_faces(embedder.spec)
    stated = separation(embedder.templates(chips), people)
    other = separation(embedder.templates(np.ascontiguousarray(chips[..., ::-1])), people)
    # Below 1 neither order tells these people apart, and nothing follows from which does so less badly.
    if other < 1 or other < CLEARLY * stated:
        return None
    order = embedder.spec.channel_order
    return (
        f"channel_order is {order}, but {order[::-1]} tells people apart better"
        f" (d' {other:.2f} against {stated:.2f} on {len(people)} noisy faces): it is probably wrong"
    )


def noisy_faces(spec: ModelSpec) -> tuple[Pixels, Array]:
    """Return chips uint8 [N, S, S, 3] as the network of `spec` wants them, and whose face each is."""
    sheet = np.asarray(Image.open(BytesIO(SHEET.read_bytes())).convert("RGB"))
    rows, columns = sheet.shape[0] // TILE_PX, sheet.shape[1] // TILE_PX
    tiles = sheet.reshape(rows, TILE_PX, columns, TILE_PX, 3).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX, 3)
    chips = np.stack([_chip(tile, spec) for tile in tiles])
    noise = np.random.default_rng(0).normal(0, NOISE, (*chips.shape[:3], 1))
    return np.clip(chips + noise, 0, 255).astype(np.uint8), np.tile(np.arange(columns), rows)


def _chip(tile: Pixels, spec: ModelSpec) -> Pixels:
    if spec.template is None:
        return align.whole(tile, spec.input_size)
    landmarks = np.array(ARCFACE_TEMPLATE) * (TILE_PX / 112)
    return align.chip(tile, align.similarity(landmarks, spec.template), spec.input_size)


def separation(templates: Array, people: Array) -> float:
    """Return d': how far mated similarities lie above the others, in their standard deviations."""
    first, second = np.triu_indices(len(templates), 1)
    similarities = (templates @ templates.T)[first, second].astype(np.float64)
    mated = people[first] == people[second]
    one, two = similarities[mated], similarities[~mated]
    spread = np.sqrt((one.var() + two.var()) / 2)
    return float((one.mean() - two.mean()) / spread) if spread > 0 else 0.0
